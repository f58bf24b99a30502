"""A message's identity and the time it was first queued: what ingest gives it, SQS and its redrives leave it."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.ingest.queue_messages import DeadLetters, message_attributes, read_record
from tests.factories import DAY, MINUTE, NOW, record, to_ms
from tests.fakes import FakeSqs

SENT_AT_MS = to_ms(NOW)
LARGEST = 2**63 - 1


def shown(attributes):
    """What a function gets to see of attributes as they are sent."""
    return {
        name: {"stringValue": value["StringValue"], "dataType": value["DataType"]} for name, value in attributes.items()
    }


def test_a_message_redriven_after_days_keeps_identity_and_time():
    first = record("[]", "m1", SENT_AT_MS, identity="5", first_queued_at_ms=str(SENT_AT_MS))
    redriven = record("[]", "m2", to_ms(NOW + 8 * DAY), identity="5", first_queued_at_ms=str(SENT_AT_MS))
    for message in map(read_record, (first, redriven)):
        assert (message.identity, message.queued_at_ms) == (5, SENT_AT_MS)


@given(st.integers(0, LARGEST), st.integers(0, SENT_AT_MS + 300_000), st.none() | st.text(min_size=1))
def test_what_ingest_gives_a_message_the_consumer_reads(identity, first_queued_at_ms, correlation_id):
    sent = record("[]", sent_at_ms=SENT_AT_MS)
    sent["messageAttributes"] = shown(message_attributes(identity, first_queued_at_ms, correlation_id))
    message = read_record(sent)
    assert (message.identity, message.queued_at_ms, message.correlation_id) == (
        identity, first_queued_at_ms, correlation_id,
    )  # fmt: skip


NO_NUMBERS = ["", "-1", "1.5", "1e3", " 5", "5\n", "0x5", "1_000", "٥", "five", "9" * 38, str(LARGEST + 1)]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_an_identity_that_is_none_is_that_of_the_message_id(text):
    own = read_record(record("[]", "m1")).identity
    assert read_record(record("[]", "m1", identity=text)).identity == own
    assert 0 <= own <= LARGEST


@pytest.mark.parametrize("text", [*NO_NUMBERS, str(to_ms(NOW + 5 * MINUTE) + 1)])
def test_a_time_that_is_none_or_after_the_message_was_sent_is_when_it_was_sent(text):
    assert read_record(record("[]", first_queued_at_ms=text)).queued_at_ms == SENT_AT_MS


@pytest.mark.parametrize("text", ["", "soon", str(10**18)])
def test_without_any_time_there_is_none(text):
    sent = record("[]", first_queued_at_ms=text)
    for sent["attributes"] in ({}, {"SentTimestamp": text}):
        assert read_record(sent).queued_at_ms is None


def test_attributes_of_other_kinds_are_not_taken_for_numbers():
    binary = {"binaryValue": b64encode(b"5").decode(), "dataType": "Binary"}
    sent = record("[]") | {"messageAttributes": dict.fromkeys(("identity", "first_queued_at_ms"), binary)}
    message, bare = read_record(sent), read_record(record("[]"))
    assert (message.identity, message.queued_at_ms) == (bare.identity, bare.queued_at_ms)


@given(st.lists(st.text(), unique=True, max_size=50))
def test_messages_without_identity_are_told_apart_by_their_ids(message_ids):
    assert len({read_record(record("[]", one)).identity for one in message_ids}) == len(message_ids)


def test_a_dead_letter_has_the_body_and_all_attributes_of_its_message():
    sqs = FakeSqs()
    sent = record("no json", identity="7", first_queued_at_ms="9", correlation_id="request-1")
    sent["messageAttributes"] |= {
        "picture": {"binaryValue": b64encode(b"\x00\xff").decode(), "dataType": "Binary.png"},
        "trace": {"stringValue": "t", "dataType": "String"},
    }
    DeadLetters("dead-letters", sqs).send_all([read_record(sent)])
    assert sqs.bodies == ["no json"]
    assert sqs.attributes == [
        {
            "identity": {"DataType": "Number", "StringValue": "7"},
            "first_queued_at_ms": {"DataType": "Number", "StringValue": "9"},
            "correlation_id": {"DataType": "String", "StringValue": "request-1"},
            "picture": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff"},
            "trace": {"DataType": "String", "StringValue": "t"},
        }
    ]


@pytest.mark.parametrize("attributes", [{}, {"identity": "five"}])
def test_a_dead_letter_takes_along_the_identity_that_its_message_had_by_its_id(attributes):
    sqs = FakeSqs()
    message = read_record(record("no json", "m1", **attributes))
    DeadLetters("dead-letters", sqs).send_all([message])
    redriven = read_record(record("no json", "m2", to_ms(NOW + DAY)) | {"messageAttributes": shown(sqs.attributes[0])})
    assert (redriven.identity, redriven.queued_at_ms) == (message.identity, SENT_AT_MS)
