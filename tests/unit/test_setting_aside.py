"""What cannot be decoded goes to quarantine, counted once; and what cannot even go there becomes a dead letter."""

import pytest
from botocore.exceptions import ClientError

from chalicelib.ingest.buffering import Buffered
from tests.consumer import Consumer, body
from tests.factories import measurement_fields, message
from tests.fakes import service_error


@pytest.fixture
def consumer():
    return Consumer()


@pytest.mark.parametrize(
    "text",
    ["", "no json", "{}", "null", "[", '"text"', "[" * 100_000, '[{"more": ' + "[" * 100_000 + "]" * 100_000 + "}]",
     "\ud800", "x" * (1024 * 1024 + 1), "[" + "1," * 10 + "]"],
)  # fmt: skip
def test_a_message_that_cannot_be_decoded_is_set_aside_and_its_neighbours_land(consumer, text):
    messages = [message(text, "bad"), message(body(measurement_fields()), "good")]
    assert consumer.store(messages) == Buffered(measurements=1, quarantined_messages=1)
    (aside,) = consumer.quarantined()
    assert aside["message_id"] == "bad"
    assert aside["reasons"][0].startswith("body: ")
    assert aside["quarantined_at"] == "2026-03-01T12:00:00.000Z"
    if text != "\ud800":
        assert aside["body"] == text


def test_good_measurements_land_before_bad_messages_are_set_aside(consumer):
    put = []
    consumer.bucket.s3.before = lambda operation, key: put.append(key.partition("/")[0])
    consumer.store([message("no json", "m1"), message(body(measurement_fields()), "m2"), message("no json", "m3")])
    assert put == ["landing", "quarantine", "quarantine"]


def test_a_batch_delivered_again_writes_the_same_quarantine_object(consumer):
    messages = [message("no json", "m1"), message("no json", "m2")]
    consumer.store(messages)
    before = consumer.bucket.list_keys("quarantine/")
    consumer.store(messages)
    assert consumer.bucket.list_keys("quarantine/") == before
    assert (len(before), consumer.counted()) == (2, 2)


@pytest.mark.parametrize("batches", [[["m1", "m2"]], [["m1"], ["m2"]]])
def test_a_bad_message_under_another_message_id_is_set_aside_and_counted_once(consumer, batches):
    for message_ids in batches:
        consumer.store([message("no json", message_id, identity=5) for message_id in message_ids])
    assert (len(consumer.bucket.list_keys("quarantine/")), consumer.counted()) == (1, 1)


def test_different_bodies_of_one_identity_are_both_kept(consumer):
    consumer.store([message("no json", identity=5), message("neither", identity=5)])
    assert {aside["body"] for aside in consumer.quarantined()} == {"no json", "neither"}
    assert consumer.counted() == 2


def test_a_flood_of_bad_messages_is_counted_in_a_few_calls(consumer):
    assert consumer.store([message(f"no json {number}", f"m{number}") for number in range(1_000)]) == Buffered(0, 1_000)
    assert consumer.dynamodb.calls == ["transact_write_items"] * 11
    assert consumer.counted() == len(consumer.bucket.list_keys("quarantine/")) == 1_000


def fail_for(fragment):
    def fail(_operation, key):
        if fragment in key:
            raise service_error("SlowDown")

    return fail


def test_what_cannot_be_set_aside_becomes_a_dead_letter_and_the_rest_of_the_batch_goes_on(consumer):
    consumer.bucket.s3.before = fail_for(f"quarantine/{5:016x}")
    messages = [
        message("no json", "m1", identity=5), message("nor this", "m2"), message(body(measurement_fields()), "m3"),
    ]  # fmt: skip
    assert consumer.store(messages) == Buffered(measurements=1, quarantined_messages=1, dead_letters=1)
    assert [aside["body"] for aside in consumer.quarantined()] == ["nor this"]
    assert (consumer.dead_letters.bodies, consumer.counted(), len(consumer.lines())) == (["no json"], 1, 1)


def test_what_cannot_be_counted_becomes_a_dead_letter_and_is_counted_once_when_it_comes_back(consumer):
    consumer.dynamodb.failing["transact_write_items"] = service_error("InternalServerError")
    assert consumer.store([message("no json", "m1")]) == Buffered(0, 0, dead_letters=1)
    consumer.dynamodb.failing.clear()
    identity = consumer.dead_letters.attributes[0]["identity"]["StringValue"]
    assert consumer.store([message("no json", "m2", identity=int(identity))]) == Buffered(0, 1)
    assert (len(consumer.bucket.list_keys("quarantine/")), consumer.counted()) == (1, 1)


def test_good_measurements_of_a_message_that_became_a_dead_letter_are_known_when_it_comes_back(consumer):
    consumer.bucket.s3.before = fail_for("quarantine/")
    consumer.store([message(body(measurement_fields(), 5), "m1")])
    consumer.bucket.s3.before = fail_for("nothing")
    identity = consumer.dead_letters.attributes[0]["identity"]["StringValue"]
    consumer.store([message(consumer.dead_letters.bodies[0], "m2", identity=int(identity))])
    first, again = consumer.lines()
    assert first == again


@pytest.mark.parametrize("service", ["bucket", "counter"])
def test_a_batch_fails_when_not_even_a_dead_letter_can_be_sent(consumer, service):
    if service == "bucket":
        consumer.bucket.s3.before = fail_for("quarantine/")
    else:
        consumer.dynamodb.failing["transact_write_items"] = service_error("InternalServerError")
    consumer.dead_letters.failing["send_message"] = service_error("InternalError")
    with pytest.raises(ClientError, match="InternalError"):
        consumer.store([message("no json"), message(body(measurement_fields()), "m2")])
    assert len(consumer.lines()) == 1


def test_a_failing_bucket_fails_the_batch_so_that_the_queue_delivers_it_again(consumer):
    consumer.bucket.s3.before = fail_for("")
    with pytest.raises(ClientError, match="SlowDown"):
        consumer.store([message(body(measurement_fields())), message("no json", "m2")])
    assert consumer.dead_letters.bodies == []
