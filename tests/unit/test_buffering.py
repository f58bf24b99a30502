"""From queue to bucket: good measurements land beside bad ones, and what cannot be decoded is set aside."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.fields import format_second, format_time, to_milliseconds
from chalicelib.ingest.buffering import Buffered
from chalicelib.ingest.queue_messages import read_record
from chalicelib.landing import encode_landing, fingerprint, landing_key, read_landing_key
from tests.consumer import Consumer, body
from tests.factories import DAY, HOUR, MINUTE, NOW, landed, measurement_fields, message, record, to_ms


@pytest.fixture
def consumer():
    return Consumer()


def test_a_batch_becomes_one_landing_object_of_json_lines(consumer):
    messages = [
        message(body(measurement_fields(), measurement_fields(sensor_id="2")), "m1", 5, identity=2**31),
        message(body(measurement_fields(sensor_id="3")), "m2", 6, identity=2**63 - 1),
    ]
    assert consumer.store(messages) == Buffered(measurements=3, quarantined_messages=0)
    (key,) = consumer.bucket.list_keys("")
    assert key == (
        "landing/20260301T120000.000000Z_3_20260301T120000Z_20260301T120000Z_0of1"
        f"_{fingerprint(consumer.bucket.get(key))}.jsonl.gz"
    )
    first, second, third = consumer.lines()
    assert first == {**measurement_fields(), "queued_at_ms": 5, "delivery": 0, "place": 0}
    assert [
        (line["sensor_id"], line["queued_at_ms"], line["delivery"], line["place"]) for line in (first, second, third)
    ] == [("1", 5, 0, 0), ("2", 5, 0, 1), ("3", 6, 2**31 - 1, 0)]


def test_what_was_measured_two_hours_before_it_was_queued_lands_apart_by_days(consumer):
    ages = {"now": 0 * HOUR, "almost": 2 * HOUR, "late": 2 * HOUR + MINUTE / 60_000, "noon": DAY, "midnight": 12 * HOUR}
    text = body(*(measurement_fields(sensor_id=name, timestamp=format_time(NOW - age)) for name, age in ages.items()))
    assert consumer.store([message(text, queued_at_ms=to_ms(NOW))]) == Buffered(5, 0)
    assert {
        (name.is_late, name.rows, name.first, name.last): [line["sensor_id"] for line in consumer.lines_of(key)]
        for key in consumer.bucket.list_keys("landing/")
        for name in [read_landing_key(key)]
    } == {
        (False, 2, "20260301T100000Z", "20260301T120000Z"): ["now", "almost"],
        (True, 2, "20260301T000000Z", "20260301T095959Z"): ["late", "midnight"],
        (True, 1, "20260228T120000Z", "20260228T120000Z"): ["noon"],
    }


def test_what_waited_for_days_in_the_queue_is_not_late(consumer):
    measured = NOW - 8 * DAY
    text = body(measurement_fields(timestamp=format_time(measured)))
    attributes = {"identity": "5", "first_queued_at_ms": str(to_ms(measured + HOUR))}
    consumer.store([read_record(record(text, "redriven", to_ms(NOW), **attributes))])
    assert [read_landing_key(key).is_late for key in consumer.bucket.list_keys("landing/")] == [False]


def test_without_any_time_a_measurement_was_queued_no_later_than_now(consumer):
    consumer.store([message(body(measurement_fields(timestamp=format_time(NOW - 3 * HOUR))), queued_at_ms=None)])
    assert [read_landing_key(key).is_late for key in consumer.bucket.list_keys("landing/")] == [True]
    assert consumer.lines()[0]["queued_at_ms"] is None


def test_a_current_object_may_span_midnight(consumer):
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    texts = [body(measurement_fields(timestamp=format_time(midnight + age))) for age in (-MINUTE, MINUTE)]
    consumer.store([message(text, queued_at_ms=to_ms(midnight)) for text in texts])
    (name,) = map(read_landing_key, consumer.bucket.list_keys("landing/"))
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
    consumer = Consumer()
    messages = [
        message(body(*elements), f"m{number}", queued_at_ms, identity)
        for number, (elements, queued_at_ms, identity) in enumerate(batch)
    ]
    consumer.store(messages)
    for key in consumer.bucket.list_keys("landing/"):
        name, rows = read_landing_key(key), consumer.lines_of(key)
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        assert (name.rows, name.first, name.last) == (
            len(rows), format_second(min(times)), format_second(max(times)),
        )  # fmt: skip
        queued_at_ms = [to_ms(NOW) if row["queued_at_ms"] is None else row["queued_at_ms"] for row in rows]
        ages = [queued - to_ms(time) for queued, time in zip(queued_at_ms, times, strict=True)]
        assert all((age > 2 * 3_600_000) == name.is_late for age in ages)
        assert not name.is_late or name.first[:8] == name.last[:8]
    names = list(map(read_landing_key, consumer.bucket.list_keys("landing/")))
    kinds = [name.is_late and name.first[:8] for name in names]
    assert len(set(kinds)) == len(kinds), "one current object, and one for each late day"
    assert Counter((row["delivery"], row["place"], row["timestamp"]) for row in consumer.lines()) == Counter(
        (identity & (2**31 - 1), place, element["timestamp"])
        for elements, _, identity in batch
        for place, element in enumerate(elements)
        if element not in ({}, 5) and element["temperature"] != "hot" and element["timestamp"] < "2999"
    )


def test_nothing_to_land_leaves_no_object(consumer):
    assert consumer.store([message("[]")]) == Buffered(0, 0)
    assert consumer.store([]) == Buffered(0, 0)
    assert consumer.bucket.s3.objects == {}


def test_good_measurements_land_beside_bad_ones_of_their_message(consumer):
    text = body(measurement_fields(), measurement_fields(temperature="hot"), measurement_fields(sensor_id="2"), 5)
    assert consumer.store([message(text)]) == Buffered(measurements=2, quarantined_messages=1)
    (aside,) = consumer.quarantined()
    assert [reason.split(":")[0] for reason in aside["reasons"]] == ["[1].temperature", "[3]"]
    assert [(line["sensor_id"], line["place"]) for line in consumer.lines()] == [("1", 0), ("2", 2)]


@pytest.mark.parametrize(
    "timestamp",
    [format_time(NOW + 5 * MINUTE + MINUTE / 60_000), "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
     "1969-12-31T23:59:59Z"],
)  # fmt: skip
def test_a_measurement_from_an_impossible_time_is_set_aside(consumer, timestamp):
    text = body(measurement_fields(timestamp=timestamp), measurement_fields(sensor_id="2"))
    assert consumer.store([message(text)]) == Buffered(measurements=1, quarantined_messages=1)
    assert consumer.quarantined()[0]["reasons"][0].startswith("[0].timestamp: ")
    assert [line["place"] for line in consumer.lines()] == [1]


def test_a_measurement_up_to_the_accepted_clock_skew_lands(consumer):
    text = body(measurement_fields(timestamp=format_time(NOW + 5 * MINUTE)))
    assert consumer.store([message(text)]) == Buffered(measurements=1, quarantined_messages=0)


def test_a_timestamp_with_an_offset_lands_as_utc(consumer):
    consumer.store([message(body(measurement_fields(timestamp="2026-03-01T12:30:00+02:00")))])
    assert consumer.lines()[0]["timestamp"] == "2026-03-01T10:30:00.000Z"


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
def test_a_timestamp_is_cut_to_the_millisecond_and_lands_with_three_digits(consumer, timestamp, kept):
    assert consumer.store([message(body(measurement_fields(timestamp=timestamp)))]) == Buffered(1, 0)
    assert consumer.lines()[0]["timestamp"] == kept


def test_a_message_delivered_again_has_the_same_delivery_and_places_and_other_messages_have_others(consumer):
    two = body(measurement_fields(), measurement_fields())
    for message_id, identity in (("m1", None), ("m1", None), ("m2", None), ("m3", 5), ("m4", 5)):
        consumer.store([message(two, message_id, identity=identity)])
    assert set(Counter((line["delivery"], line["place"]) for line in consumer.lines()).values()) == {1, 2}
    assert len({(line["delivery"], line["place"]) for line in consumer.lines()}) == 6


def test_landing_keys_sort_by_time_and_are_unique():
    keys = [
        landing_key(NOW, [landed()], b"2", is_late=False),
        landing_key(NOW + MINUTE / 60_000_000, [landed()], b"1", is_late=False),
        landing_key(datetime(2026, 3, 2, tzinfo=UTC), [landed()], b"0", is_late=False),
    ]
    assert keys == sorted(keys)


def test_the_same_measurements_are_the_same_bytes():
    assert encode_landing([landed()]) == encode_landing([landed()])
