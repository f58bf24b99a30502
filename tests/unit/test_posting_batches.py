"""A batch is answered as its readings one after the other: the use case on fakes."""

import itertools
import math
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import ServiceUnavailableError, ValidationError
from chalicelib.fields import format_time, sensor_key
from chalicelib.ingest import posting
from chalicelib.ingest.registration import Wish
from tests.contracts import REGISTRY_TABLE, new_registry
from tests.factories import MINUTE, NOW, posted, queued
from tests.fakes import service_error
from tests.posting_service import TIME, TOO_HIGH_OHM, PostingService, answer_to, temperature_of

MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture
def service():
    return PostingService()


def test_a_sensor_breaks_in_the_middle_of_a_batch_and_what_came_before_counts(service):
    values = (2000, TOO_HIGH_OHM, 3000)
    times = [format_time(NOW - MINUTE * number) for number in (3, 2, 1)]
    readings = [posted(value=value, timestamp=time) for value, time in zip(values, times, strict=True)]
    answer = service.post_batch(*readings, posted(sensor_id=2, timestamp=TIME))
    broken = {"temperature": None, "status": "BROKEN"}
    assert answer == {
        "results": [
            answer_to(timestamp=times[0]),
            answer_to(timestamp=times[1], **broken),
            answer_to(timestamp=times[2], **broken),
            answer_to("2"),
        ],
        "accepted": 2,
        "broken": 2,
        "rejected": 0,
    }
    assert [one["timestamp"] for one in service.sqs.measurements()] == [times[0], TIME]
    assert (service.is_broken("a/1"), service.is_broken("a/2")) == (True, False)


def test_a_reading_in_a_batch_is_answered_and_queued_as_it_is_alone(service):
    reading = posted(sensor_id="s:1", location_id=7, value=1234.5, timestamp=TIME)
    alone = service.post(reading)
    assert service.post_batch(reading, posted())["results"][0] == alone
    measurements = service.sqs.measurements()
    assert measurements[:2] == [queued(alone, 1234.5)] * 2


def test_a_batch_with_one_value_corrected_is_taken_and_stops_none_of_its_neighbours(service):
    readings = [posted(sensor_id=number, timestamp=TIME) for number in range(5)]
    service.post_batch(*readings)
    corrected = [*readings[:4], {**readings[4], "value": 3000}]
    answer = service.post_batch(*corrected)
    assert answer["accepted"] == 5
    assert answer["results"][4]["temperature"] == temperature_of(3000)
    assert len(service.sqs.measurements()) == 10


def test_a_reading_known_by_its_id_keeps_the_time_of_its_first_delivery(service):
    first = service.post_batch(posted(reading_id="r"), posted(sensor_id=2, reading_id="r"))
    service.now += MINUTE
    assert service.post_batch(posted(reading_id="r"), posted(sensor_id=2, reading_id="r")) == first
    assert len(service.sqs.measurements()) == 2


def test_a_reading_id_beside_a_time_is_ignored_since_devices_restart_their_counters(service):
    times = [format_time(NOW - MINUTE * age) for age in (2, 1)]
    answers = [service.post(posted(reading_id="1", timestamp=time)) for time in times]
    assert [one["timestamp"] for one in answers] == times
    assert [one["timestamp"] for one in service.sqs.measurements()] == times
    assert service.post(posted(reading_id="2", timestamp=times[0])) == answers[0]
    assert len(service.sqs.measurements()) == 2


def test_batches_that_overlap_are_queued_under_the_same_times(service):
    times = [format_time(NOW - MINUTE * age) for age in (1, 2, 3)]
    for batch in (times[:2], times[1:]):
        service.post_batch(*(posted(timestamp=time) for time in batch))
    queued = [measurement["timestamp"] for measurement in service.sqs.measurements()]
    assert queued == [times[0], times[1], times[1], times[2]]


BAD_ITEMS = [
    (5, ": Expected `object`"),
    ({}, ".sensor_id: required, but missing"),
    (posted(volume=1), ".volume: unknown field"),
    (posted(value=math.nan), ".value: must be finite"),
    (posted(timestamp="2000-01-01T00:00:00Z"), ".timestamp: more than 24 hours old"),
    (posted(sensor_id="a b"), ".sensor_id: "),
]


def test_a_bad_reading_is_named_by_its_index_and_fails_no_neighbour(service):
    first, *bad, last = service.post_batch(posted(), *(item for item, _ in BAD_ITEMS), posted(sensor_id=2))["results"]
    for index, (result, (_, reason)) in enumerate(zip(bad, BAD_ITEMS, strict=True), start=1):
        assert result["error"].startswith(f"readings[{index}]{reason}")
    assert (first["status"], last["status"]) == ("OK", "OK")
    assert len(service.sqs.measurements()) == 2


NO_BATCHES = {
    "empty": ({"readings": []}, "readings: "),
    "too many": ({"readings": [posted(sensor_id=number) for number in range(501)]}, "readings: "),
    "an object": ({"readings": {}}, "readings: "),
    "null": ({"readings": None}, "readings: "),
    "more": ({"readings": [posted()], "more": 1}, "more: unknown field"),
    "a reading too": ({"readings": [posted()], "sensor_id": 1}, "sensor_id: unknown field"),
}


@pytest.mark.parametrize(("body", "reason"), NO_BATCHES.values(), ids=NO_BATCHES)
def test_what_is_no_batch_is_refused_as_a_whole(service, body, reason):
    with pytest.raises(ValidationError, match=f"^{reason}"):
        service.post(body)
    assert service.sqs.measurements() == []


def test_the_server_times_of_one_sensor_in_a_batch_are_a_millisecond_apart(service):
    taken = posted(timestamp=format_time(NOW + MILLISECOND))
    answer = service.post_batch(posted(), posted(), posted(value=2001), posted(sensor_id=2), taken)
    times = [format_time(NOW + MILLISECOND * number) for number in (0, 2, 3, 0, 1)]
    assert answer["accepted"] == 5
    assert [one["timestamp"] for one in answer["results"]] == times
    assert [one["timestamp"] for one in service.sqs.measurements()] == times


def test_server_times_cost_a_large_batch_of_one_sensor_no_more_than_one_of_many(service, monkeypatch):
    written = []
    monkeypatch.setattr(posting, "format_time", lambda time: written.append(time) or format_time(time))
    service.post_batch(*[posted()] * 500)
    assert len(written) == 500


def test_a_type_that_the_settings_have_no_more_stops_its_own_sensors_and_no_neighbour(service):
    service.registry.change({"a/1": Wish("ntc-5k")})
    answer = service.post_batch(posted(timestamp=TIME), posted(sensor_id=2, timestamp=TIME))
    reason = "readings[0].sensor_id: the settings have no thermistor 'ntc-5k' (thermistors) any more"
    assert answer["results"] == [{"error": reason}, answer_to("2")]
    assert service.refused == [1]


def test_a_broken_sensor_is_answered_as_such_whatever_its_type(service):
    service.registry.change({"a/1": Wish("ntc-5k")})
    new_registry(service.dynamodb).latch_all(["a/1"])
    answer = service.post_batch(posted(timestamp=TIME))
    assert answer["results"] == [answer_to(temperature=None, status="BROKEN")]


def test_a_reading_repeated_in_a_batch_is_taken_once_and_answered_twice(service):
    one, other = posted(timestamp=TIME), posted(sensor_id=2, reading_id="r")
    answer = service.post_batch("no reading", one, other, {**one, "sensor_id": "1"}, other)
    assert answer["results"][3:] == answer["results"][1:3]
    assert (answer["accepted"], answer["rejected"]) == (4, 1)
    assert [measurement["sensor_id"] for measurement in service.sqs.measurements()] == ["1", "2"]


@pytest.mark.parametrize("identity", [{}, {"reading_id": "r"}])
def test_a_reading_repeated_in_a_batch_with_another_value_is_rejected_and_names_the_first(service, identity):
    one, neighbour = posted(timestamp=TIME, **identity), posted(sensor_id=2, timestamp=TIME)
    answer = service.post_batch(neighbour, one, {**one, "value": 2001}, one)
    reason = "readings[2].value: differs from that of readings[1], the same reading"
    assert answer["results"] == [answer_to("2"), answer_to(), {"error": reason}, answer_to()]


def test_a_repetition_has_the_answer_of_the_first_delivery_and_no_effect(service):
    readings = [posted(sensor_id=1), posted(sensor_id=2, value=TOO_HIGH_OHM), posted(sensor_id=3, timestamp=TIME)]
    first, queued = service.post_batch(*readings), service.sqs.measurements()
    service.now += timedelta(seconds=1)
    assert service.post_batch(*readings) == first
    assert service.sqs.measurements() == queued
    assert len(service.sns.published) == 1


FAILING = {"the queue": ("sqs", "send_message"), "the latch": ("dynamodb", "transact_write_items")}


@pytest.mark.parametrize(("client", "operation"), FAILING.values(), ids=FAILING)
def test_what_may_have_been_queued_without_a_time_is_queued_again_under_the_time_of_the_first(
    service, client, operation
):
    failing = getattr(service, client).failing
    service.registry.see(["a/1", "a/2"])
    readings = [posted(sensor_id=1), posted(sensor_id=2, value=TOO_HIGH_OHM)]
    failing[operation] = error = service_error()
    with pytest.raises(ServiceUnavailableError, match=r"^a service behind this one failed, try again$") as raised:
        service.post_batch(*readings)
    assert raised.value.__cause__ is error
    failing.clear()
    service.now += timedelta(seconds=1)
    answer = service.post_batch(*readings)
    assert [one["timestamp"] for one in answer["results"]] == [format_time(NOW)] * 2
    assert {one["timestamp"] for one in service.sqs.measurements()} == {format_time(NOW)}
    assert service.is_broken("a/2")


@pytest.mark.parametrize(
    "readings",
    [[posted(timestamp=TIME)], [posted(value=TOO_HIGH_OHM), posted(sensor_id=2, timestamp=TIME, value=0.5)]],
    ids=["a time of its own", "nothing to queue"],
)
def test_a_failure_that_leaves_nothing_under_a_servers_time_is_forgotten(service, readings):
    for failing in (service.sqs.failing, service.dynamodb.failing):
        failing.update({"send_message": service_error(), "transact_write_items": service_error()})
    with pytest.raises(ClientError):
        service.post_batch(*readings)
    assert service.dynamodb.tables["idempotency"] == {}


def test_a_sensor_is_not_latched_before_the_queue_has_its_good_readings(service):
    service.sqs.failing["send_message"] = service_error()
    with pytest.raises(ServiceUnavailableError):
        service.post_batch(posted(), posted(value=TOO_HIGH_OHM))
    assert not service.is_broken("a/1")


def test_the_first_repetition_that_succeeds_is_remembered_so_that_further_ones_have_no_effect(service):
    readings = [posted(sensor_id=1), posted(sensor_id=2, value=TOO_HIGH_OHM)]
    service.registry.see(["a/1", "a/2"])
    service.dynamodb.failing["transact_write_items"] = service_error()
    for _ in range(2):
        with pytest.raises(ServiceUnavailableError):
            service.post_batch(*readings)
    service.dynamodb.failing.clear()
    answer = service.post_batch(*readings)
    queued, alerts = service.sqs.measurements(), len(service.sns.published)
    for _ in range(3):
        service.now += MILLISECOND
        assert service.post_batch(*readings) == answer
    assert (service.sqs.measurements(), len(service.sns.published)) == (queued, alerts)


VALUES = (0.5, 1.0, 2000.0, 20_000.0, TOO_HIGH_OHM)
READINGS = st.builds(
    posted, sensor_id=st.sampled_from("123"), value=st.sampled_from(VALUES), location_id=st.sampled_from("ab")
)


@given(st.lists(st.lists(READINGS, min_size=1, max_size=6), max_size=5))
def test_any_batches_are_answered_as_their_readings_one_after_the_other(batches):
    service, broken, measurements = PostingService(), set(), []
    times = (format_time(NOW - MINUTE + timedelta(seconds=number)) for number in itertools.count())
    for batch in batches:
        readings = [{**one, "timestamp": next(times)} for one in batch]
        for one, result in zip(readings, service.post_batch(*readings)["results"], strict=True):
            key = sensor_key(one["location_id"], one["sensor_id"])
            if not 1.0 <= one["value"] <= 20_000.0:
                broken.add(key)
            if key in broken:
                assert (result["status"], result["temperature"]) == ("BROKEN", None)
            else:
                assert result["temperature"] == temperature_of(one["value"])
                measurements.append(queued(result, one["value"]))
    assert service.sqs.measurements() == measurements
    assert {sensor for sensor in service.dynamodb.tables[REGISTRY_TABLE] if service.is_broken(sensor)} == broken
