"""From queue to bucket: good measurements land beside bad ones, and what cannot be decoded is set aside."""

import gzip
import hashlib
import itertools
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import ServiceUnavailableError
from chalicelib.fields import format_time
from chalicelib.ingest.buffering import Buffer, Buffered
from chalicelib.landing import encode_landing, landing_key, salvage_landing
from tests.factories import MINUTE, NOW, landed, measurement_fields, message
from tests.fake_s3 import FakeObjectStore

LANDING_KEY = "landing/20260301T120000.000000Z-00000000-0000-0000-0000-000000000001.jsonl.gz"


@pytest.fixture
def store():
    return FakeObjectStore()


@pytest.fixture
def buffer(store):
    return Buffer(store, clock=lambda: NOW, new_uuid=lambda: UUID(int=1))


def body(*measurements):
    return json.dumps(list(measurements))


def lines(store, key=LANDING_KEY):
    return [json.loads(line) for line in gzip.decompress(store.get(key)).splitlines()]


def quarantined(store):
    return [json.loads(store.get(key)) for key in store.list_keys("quarantine/")]


def test_a_batch_becomes_one_landing_object_of_json_lines(buffer, store):
    messages = [
        message(body(measurement_fields(), measurement_fields(sensor_id="2")), "m1", 5),
        message(body(measurement_fields(sensor_id="3")), "m2", 6),
    ]
    assert buffer.store(messages) == Buffered(measurements=3, quarantined_messages=0)
    assert store.list_keys("") == [LANDING_KEY]
    first, second, third = lines(store)
    assert {**measurement_fields(), "queued_at_ms": 5}.items() <= first.items()
    assert [(line["sensor_id"], line["queued_at_ms"]) for line in (first, second, third)] == [
        ("1", 5), ("2", 5), ("3", 6),
    ]  # fmt: skip


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
    assert [line["sensor_id"] for line in lines(store)] == ["1", "2"]


@pytest.mark.parametrize(
    "timestamp",
    [format_time(NOW + 5 * MINUTE + MINUTE / 60_000), "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
     "1969-12-31T23:59:59Z"],
)  # fmt: skip
def test_a_measurement_from_an_impossible_time_is_set_aside(buffer, store, timestamp):
    text = body(measurement_fields(timestamp=timestamp), measurement_fields(sensor_id="2"))
    assert buffer.store([message(text)]) == Buffered(measurements=1, quarantined_messages=1)
    assert quarantined(store)[0]["reasons"][0].startswith("timestamp: ")


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


def test_a_batch_delivered_again_writes_the_same_quarantine_object(buffer, store):
    messages = [message("no json", "m1"), message("no json", "m2")]
    buffer.store(messages)
    before = store.list_keys("quarantine/")
    buffer.store(messages)
    assert store.list_keys("quarantine/") == before
    assert len(before) == 2


def test_different_bodies_of_one_message_id_are_both_kept(buffer, store):
    buffer.store([message("no json", "m1"), message("neither", "m1")])
    assert {aside["body"] for aside in quarantined(store)} == {"no json", "neither"}


def test_a_message_delivered_again_has_the_same_delivery_and_other_messages_have_others(buffer, store):
    two = body(measurement_fields(), measurement_fields())
    deliveries = []
    for message_id in ("m1", "m1", "m2"):
        buffer.store([message(two, message_id)])
        deliveries.append([line["delivery"] for line in lines(store)])
    assert deliveries[0] == deliveries[1]
    assert len({*deliveries[0], *deliveries[2]}) == 4


@pytest.mark.parametrize("text", [body(measurement_fields()), "no json"])
def test_a_failing_bucket_fails_the_batch_so_that_the_queue_delivers_it_again(buffer, store, text):
    def fail(operation, key):
        raise ServiceUnavailableError("no bucket")

    store.s3.before = fail
    with pytest.raises(ServiceUnavailableError):
        buffer.store([message(text)])


def test_landing_keys_sort_by_time_and_are_unique():
    keys = [
        landing_key(NOW, UUID(int=2)),
        landing_key(NOW + MINUTE / 60_000_000, UUID(int=1)),
        landing_key(datetime(2026, 3, 2, tzinfo=UTC), UUID(int=0)),
    ]
    assert keys == sorted(keys)
    assert landing_key(NOW, UUID(int=1)) == LANDING_KEY


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
