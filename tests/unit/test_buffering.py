"""From queue to bucket: good measurements land beside bad ones, and what cannot be decoded is set aside."""

import gzip
import hashlib
import itertools
import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.fields import format_second, format_time, to_milliseconds
from chalicelib.ingest.buffering import Buffer, Buffered
from chalicelib.ingest.queue_messages import DeadLetters, read_record
from chalicelib.landing import encode_landing, fingerprint, landing_key, read_landing_key, salvage_landing
from chalicelib.quarantine_count import QuarantineCount
from tests.contracts import LEDGER_TABLE, tallies
from tests.factories import DAY, HOUR, MINUTE, NOW, landed, measurement_fields, message, record, to_ms
from tests.fake_s3 import FakeObjectStore
from tests.fakes import FakeDynamoDb, FakeSqs, service_error


@pytest.fixture
def store():
    return FakeObjectStore()


@pytest.fixture
def dynamodb():
    return FakeDynamoDb({LEDGER_TABLE: "id"})


@pytest.fixture
def dead_letters():
    return FakeSqs()


@pytest.fixture
def buffer(store, dynamodb, dead_letters):
    return new_buffer(store, dynamodb, dead_letters)


@pytest.fixture
def counted(dynamodb):
    return lambda: tallies(dynamodb).quarantine.objects


def new_buffer(store, dynamodb, dead_letters):
    # A microsecond from batch to batch.
    times = (NOW + number * MINUTE / 60_000_000 for number in itertools.count())
    count = QuarantineCount(LEDGER_TABLE, dynamodb, sleep=lambda _: None)
    return Buffer(store, count, DeadLetters("dead-letters", dead_letters), lambda: next(times))


def body(*measurements):
    return json.dumps(list(measurements))


def lines(store):
    """The lines of all landing objects."""
    return [line for key in store.list_keys("landing/") for line in lines_of(store, key)]


def lines_of(store, key):
    return [json.loads(line) for line in gzip.decompress(store.get(key)).splitlines()]


def quarantined(store):
    return [json.loads(store.get(key)) for key in store.list_keys("quarantine/")]


def test_a_batch_becomes_one_landing_object_of_json_lines(buffer, store):
    messages = [
        message(body(measurement_fields(), measurement_fields(sensor_id="2")), "m1", 5, identity=2**31),
        message(body(measurement_fields(sensor_id="3")), "m2", 6, identity=2**63 - 1),
    ]
    assert buffer.store(messages) == Buffered(measurements=3, quarantined_messages=0)
    (key,) = store.list_keys("")
    assert key == (
        "landing/20260301T120000.000000Z_3_20260301T120000Z_20260301T120000Z_0of1"
        f"_{fingerprint(store.get(key))}.jsonl.gz"
    )
    first, second, third = lines(store)
    assert first == {**measurement_fields(), "queued_at_ms": 5, "delivery": 0, "place": 0}
    assert [
        (line["sensor_id"], line["queued_at_ms"], line["delivery"], line["place"]) for line in (first, second, third)
    ] == [("1", 5, 0, 0), ("2", 5, 0, 1), ("3", 6, 2**31 - 1, 0)]


def test_what_was_measured_two_hours_before_it_was_queued_lands_apart_by_days(buffer, store):
    ages = {"now": 0 * HOUR, "almost": 2 * HOUR, "late": 2 * HOUR + MINUTE / 60_000, "noon": DAY, "midnight": 12 * HOUR}
    text = body(*(measurement_fields(sensor_id=name, timestamp=format_time(NOW - age)) for name, age in ages.items()))
    assert buffer.store([message(text, queued_at_ms=to_ms(NOW))]) == Buffered(5, 0)
    assert {
        (name.is_late, name.rows, name.first, name.last): [line["sensor_id"] for line in lines_of(store, key)]
        for key in store.list_keys("landing/")
        for name in [read_landing_key(key)]
    } == {
        (False, 2, "20260301T100000Z", "20260301T120000Z"): ["now", "almost"],
        (True, 2, "20260301T000000Z", "20260301T095959Z"): ["late", "midnight"],
        (True, 1, "20260228T120000Z", "20260228T120000Z"): ["noon"],
    }


def test_what_waited_for_days_in_the_queue_is_not_late(buffer, store):
    measured = NOW - 8 * DAY
    text = body(measurement_fields(timestamp=format_time(measured)))
    attributes = {"identity": "5", "first_queued_at_ms": str(to_ms(measured + HOUR))}
    buffer.store([read_record(record(text, "redriven", to_ms(NOW), **attributes))])
    assert [read_landing_key(key).is_late for key in store.list_keys("landing/")] == [False]


def test_without_any_time_a_measurement_was_queued_no_later_than_now(buffer, store):
    buffer.store([message(body(measurement_fields(timestamp=format_time(NOW - 3 * HOUR))), queued_at_ms=None)])
    assert [read_landing_key(key).is_late for key in store.list_keys("landing/")] == [True]
    assert lines(store)[0]["queued_at_ms"] is None


def test_a_current_object_may_span_midnight(store, dynamodb, dead_letters):
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    texts = [body(measurement_fields(timestamp=format_time(midnight + age))) for age in (-MINUTE, MINUTE)]
    new_buffer(store, dynamodb, dead_letters).store([message(text, queued_at_ms=to_ms(midnight)) for text in texts])
    (name,) = map(read_landing_key, store.list_keys("landing/"))
    assert (name.first, name.last, name.rows) == ("20260228T235900Z", "20260301T000100Z", 2)


TIMES = st.datetimes(datetime(2026, 2, 1), datetime(2026, 3, 1, 12, 5), timezones=st.just(UTC)).map(to_milliseconds)  # noqa: DTZ001
JUNK = st.sampled_from(
    [5, {}, measurement_fields(temperature="hot"), measurement_fields(timestamp="2999-01-01T00:00:00Z")]
)
MESSAGES = st.tuples(
    st.lists(JUNK | TIMES.map(lambda time: measurement_fields(timestamp=format_time(time))), max_size=6),
    st.none() | TIMES.map(to_ms),
    st.integers(0, 2**63 - 1),
)


@given(st.lists(MESSAGES, max_size=6))
def test_whatever_the_batch_every_measurement_is_in_one_object_whose_name_tells_the_truth(batch):
    store = FakeObjectStore()
    messages = [
        message(body(*elements), f"m{number}", queued_at_ms, identity)
        for number, (elements, queued_at_ms, identity) in enumerate(batch)
    ]
    new_buffer(store, FakeDynamoDb({LEDGER_TABLE: "id"}), FakeSqs()).store(messages)
    for key in store.list_keys("landing/"):
        name, rows = read_landing_key(key), lines_of(store, key)
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        assert (name.rows, name.first, name.last) == (
            len(rows), format_second(min(times)), format_second(max(times)),
        )  # fmt: skip
        queued_at_ms = [to_ms(NOW) if row["queued_at_ms"] is None else row["queued_at_ms"] for row in rows]
        ages = [queued - to_ms(time) for queued, time in zip(queued_at_ms, times, strict=True)]
        assert all((age > 2 * 3_600_000) == name.is_late for age in ages)
        assert not name.is_late or name.first[:8] == name.last[:8]
    names = list(map(read_landing_key, store.list_keys("landing/")))
    kinds = [name.is_late and name.first[:8] for name in names]
    assert len(set(kinds)) == len(kinds), "one current object, and one for each late day"
    assert Counter((row["delivery"], row["place"], row["timestamp"]) for row in lines(store)) == Counter(
        (identity & (2**31 - 1), place, element["timestamp"])
        for elements, _, identity in batch
        for place, element in enumerate(elements)
        if element not in ({}, 5) and element["temperature"] != "hot" and element["timestamp"] < "2999"
    )


def test_nothing_to_land_leaves_no_object(buffer, store):
    assert buffer.store([message("[]")]) == Buffered(0, 0)
    assert buffer.store([]) == Buffered(0, 0)
    assert store.s3.objects == {}


@pytest.mark.parametrize(
    "text",
    ["", "no json", "{}", "null", "[", '"text"', "[" * 100_000, '[{"more": ' + "[" * 100_000 + "]" * 100_000 + "}]",
     "\ud800", "x" * (1024 * 1024 + 1), "[" + "1," * 10 + "]"],
)  # fmt: skip
def test_a_message_that_cannot_be_decoded_is_set_aside_and_its_neighbours_land(buffer, store, text):
    messages = [message(text, "bad"), message(body(measurement_fields()), "good")]
    assert buffer.store(messages) == Buffered(measurements=1, quarantined_messages=1)
    (aside,) = quarantined(store)
    assert aside["message_id"] == "bad"
    assert aside["reasons"][0].startswith("body: ")
    assert aside["quarantined_at"] == "2026-03-01T12:00:00.000Z"
    if text != "\ud800":
        assert aside["body"] == text


def test_good_measurements_land_beside_bad_ones_of_their_message(buffer, store):
    text = body(measurement_fields(), measurement_fields(temperature="hot"), measurement_fields(sensor_id="2"), 5)
    assert buffer.store([message(text)]) == Buffered(measurements=2, quarantined_messages=1)
    (aside,) = quarantined(store)
    assert [reason.split(":")[0] for reason in aside["reasons"]] == ["[1].temperature", "[3]"]
    assert [(line["sensor_id"], line["place"]) for line in lines(store)] == [("1", 0), ("2", 2)]


@pytest.mark.parametrize(
    "timestamp",
    [format_time(NOW + 5 * MINUTE + MINUTE / 60_000), "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
     "1969-12-31T23:59:59Z"],
)  # fmt: skip
def test_a_measurement_from_an_impossible_time_is_set_aside(buffer, store, timestamp):
    text = body(measurement_fields(timestamp=timestamp), measurement_fields(sensor_id="2"))
    assert buffer.store([message(text)]) == Buffered(measurements=1, quarantined_messages=1)
    assert quarantined(store)[0]["reasons"][0].startswith("[0].timestamp: ")
    assert [line["place"] for line in lines(store)] == [1]


def test_a_measurement_up_to_the_accepted_clock_skew_lands(buffer):
    text = body(measurement_fields(timestamp=format_time(NOW + 5 * MINUTE)))
    assert buffer.store([message(text)]) == Buffered(measurements=1, quarantined_messages=0)


def test_a_timestamp_with_an_offset_lands_as_utc(buffer, store):
    buffer.store([message(body(measurement_fields(timestamp="2026-03-01T12:30:00+02:00")))])
    assert lines(store)[0]["timestamp"] == "2026-03-01T10:30:00.000Z"


@pytest.mark.parametrize(
    ("timestamp", "kept"),
    [
        ("2026-03-01T11:59:59Z", "2026-03-01T11:59:59.000Z"),
        ("2026-03-01T11:59:59.5Z", "2026-03-01T11:59:59.500Z"),
        ("2026-03-01T11:59:59.1239Z", "2026-03-01T11:59:59.123Z"),
        ("2026-03-01T11:59:59.9999999Z", "2026-03-01T11:59:59.999Z"),
        ("2026-03-01T13:59:59.999999999+02:00", "2026-03-01T11:59:59.999Z"),
        ("1970-01-01T00:00:00.0009Z", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_timestamp_is_cut_to_the_millisecond_and_lands_with_three_digits(buffer, store, timestamp, kept):
    assert buffer.store([message(body(measurement_fields(timestamp=timestamp)))]) == Buffered(1, 0)
    assert lines(store)[0]["timestamp"] == kept


def test_good_measurements_land_before_bad_messages_are_set_aside(buffer, store):
    put = []
    store.s3.before = lambda operation, key: put.append(key.partition("/")[0])
    buffer.store([message("no json", "m1"), message(body(measurement_fields()), "m2"), message("no json", "m3")])
    assert put == ["landing", "quarantine", "quarantine"]


def test_a_batch_delivered_again_writes_the_same_quarantine_object(buffer, store, counted):
    messages = [message("no json", "m1"), message("no json", "m2")]
    buffer.store(messages)
    before = store.list_keys("quarantine/")
    buffer.store(messages)
    assert store.list_keys("quarantine/") == before
    assert (len(before), counted()) == (2, 2)


@pytest.mark.parametrize("batches", [[["m1", "m2"]], [["m1"], ["m2"]]])
def test_a_bad_message_under_another_message_id_is_set_aside_and_counted_once(buffer, store, counted, batches):
    for message_ids in batches:
        buffer.store([message("no json", message_id, identity=5) for message_id in message_ids])
    assert (len(store.list_keys("quarantine/")), counted()) == (1, 1)


def test_different_bodies_of_one_identity_are_both_kept(buffer, store, counted):
    buffer.store([message("no json", identity=5), message("neither", identity=5)])
    assert {aside["body"] for aside in quarantined(store)} == {"no json", "neither"}
    assert counted() == 2


def test_a_message_delivered_again_has_the_same_delivery_and_places_and_other_messages_have_others(buffer, store):
    two = body(measurement_fields(), measurement_fields())
    for message_id, identity in (("m1", None), ("m1", None), ("m2", None), ("m3", 5), ("m4", 5)):
        buffer.store([message(two, message_id, identity=identity)])
    assert set(Counter((line["delivery"], line["place"]) for line in lines(store)).values()) == {1, 2}
    assert len({(line["delivery"], line["place"]) for line in lines(store)}) == 6


def test_a_flood_of_bad_messages_is_counted_in_a_few_calls(buffer, store, dynamodb, counted):
    assert buffer.store([message(f"no json {number}", f"m{number}") for number in range(1_000)]) == Buffered(0, 1_000)
    assert dynamodb.calls == ["transact_write_items"] * 11
    assert counted() == len(store.list_keys("quarantine/")) == 1_000


def fail_for(fragment):
    def fail(_operation, key):
        if fragment in key:
            raise service_error("SlowDown")

    return fail


def test_what_cannot_be_set_aside_becomes_a_dead_letter_and_the_rest_of_the_batch_goes_on(
    buffer, store, dead_letters, counted
):
    store.s3.before = fail_for(f"quarantine/{5:016x}")
    messages = [
        message("no json", "m1", identity=5), message("nor this", "m2"), message(body(measurement_fields()), "m3"),
    ]  # fmt: skip
    assert buffer.store(messages) == Buffered(measurements=1, quarantined_messages=1, dead_letters=1)
    assert [aside["body"] for aside in quarantined(store)] == ["nor this"]
    assert (dead_letters.bodies, counted(), len(lines(store))) == (["no json"], 1, 1)


def test_what_cannot_be_counted_becomes_a_dead_letter_and_is_counted_once_when_it_comes_back(
    buffer, store, dynamodb, dead_letters, counted
):
    dynamodb.failing["transact_write_items"] = service_error("InternalServerError")
    assert buffer.store([message("no json", "m1")]) == Buffered(0, 0, dead_letters=1)
    dynamodb.failing.clear()
    identity = dead_letters.attributes[0]["identity"]["StringValue"]
    assert buffer.store([message("no json", "m2", identity=int(identity))]) == Buffered(0, 1)
    assert (len(store.list_keys("quarantine/")), counted()) == (1, 1)


def test_good_measurements_of_a_message_that_became_a_dead_letter_are_known_when_it_comes_back(
    buffer, store, dead_letters
):
    store.s3.before = fail_for("quarantine/")
    buffer.store([message(body(measurement_fields(), 5), "m1")])
    store.s3.before = fail_for("nothing")
    identity = dead_letters.attributes[0]["identity"]["StringValue"]
    buffer.store([message(dead_letters.bodies[0], "m2", identity=int(identity))])
    first, again = lines(store)
    assert first == again


@pytest.mark.parametrize("service", ["bucket", "counter"])
def test_a_batch_fails_when_not_even_a_dead_letter_can_be_sent(buffer, store, dynamodb, dead_letters, service):
    if service == "bucket":
        store.s3.before = fail_for("quarantine/")
    else:
        dynamodb.failing["transact_write_items"] = service_error("InternalServerError")
    dead_letters.failing["send_message"] = service_error("InternalError")
    with pytest.raises(ClientError, match="InternalError"):
        buffer.store([message("no json"), message(body(measurement_fields()), "m2")])
    assert len(lines(store)) == 1


def test_a_failing_bucket_fails_the_batch_so_that_the_queue_delivers_it_again(buffer, store, dead_letters):
    store.s3.before = fail_for("")
    with pytest.raises(ClientError, match="SlowDown"):
        buffer.store([message(body(measurement_fields())), message("no json", "m2")])
    assert dead_letters.bodies == []


def test_landing_keys_sort_by_time_and_are_unique():
    keys = [
        landing_key(NOW, [landed()], b"2", is_late=False),
        landing_key(NOW + MINUTE / 60_000_000, [landed()], b"1", is_late=False),
        landing_key(datetime(2026, 3, 2, tzinfo=UTC), [landed()], b"0", is_late=False),
    ]
    assert keys == sorted(keys)


def test_the_same_measurements_are_the_same_bytes():
    assert encode_landing([landed()]) == encode_landing([landed()])


@given(st.lists(st.integers(0, 9).map(str), max_size=20), st.data())
def test_whatever_precedes_the_damage_of_a_landing_object_is_salvaged(sensors, data):
    whole = encode_landing([landed(sensor) for sensor in sensors])
    assert salvage_landing(whole) == ([landed(sensor) for sensor in sensors], 0)
    cut = whole[: data.draw(st.integers(0, len(whole) - 9))]
    salvaged, damaged = salvage_landing(cut)
    assert salvaged == [landed(sensor) for sensor in sensors][: len(salvaged)]
    assert damaged >= 1


def test_all_lines_before_a_flipped_bit_are_salvaged():
    # Values that do not compress, so that the damage is far from the lines before it.
    values = [landed(f"{number}-{hashlib.sha256(bytes([number])).hexdigest()[:40]}") for number in range(60)]
    damaged = bytearray(encode_landing(values))
    damaged[len(damaged) * 3 // 4] ^= 0x10
    salvaged, bad = salvage_landing(bytes(damaged))
    good = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(salvaged, values, strict=False)))
    assert len(good) >= 40
    assert bad >= 1


@given(st.binary(max_size=100) | st.binary(max_size=100).map(gzip.compress))
def test_salvaging_takes_any_bytes(content):
    salvaged, _ = salvage_landing(content)
    assert salvaged == []
