"""Readings become answers, measurements, latches and alerts: the use case on fakes."""

import itertools
import json
import time
from datetime import timedelta

import msgspec
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.broken_count import BrokenCount
from chalicelib.errors import BodyTooLargeError, ForbiddenError, ServiceUnavailableError, ValidationError
from chalicelib.fields import format_time
from chalicelib.ingest.alerts import Alerts
from chalicelib.ingest.idempotency import Idempotency
from chalicelib.ingest.measurement_queue import MeasurementQueue
from chalicelib.ingest.posting import Ingest
from chalicelib.ingest.readings import BODY_BYTES_MAX
from chalicelib.ingest.registry import SensorRegistry
from tests.factories import DAY, MINUTE, NOW, alert_settings, idempotency_settings, posted, thermistor
from tests.fakes import FakeDynamoDb, FakeLambdaContext, FakeSns, FakeSqs, service_error

TOO_HIGH_OHM = 25_000
TIME = format_time(NOW - MINUTE)


class Place:
    """The use case with its services, and a clock that a test may set."""

    def __init__(self):
        self.now = NOW
        self.dynamodb = FakeDynamoDb({"registry": "sensor_id", "idempotency": "id", "ledger": "id"})
        self.sns, self.sqs = FakeSns(), FakeSqs()
        self.ingest = Ingest(
            thermistor(),
            DAY,
            Idempotency(idempotency_settings(), "idempotency", self.dynamodb),
            SensorRegistry("registry", BrokenCount("ledger", self.dynamodb), self.dynamodb, lambda _: None),
            MeasurementQueue("queue", self.sqs),
            Alerts(alert_settings(), "topic", "idempotency", self.sns, self.dynamodb, NOW.timestamp),
            lambda: self.now,
        )

    def post(self, body, *locations):
        return self.post_bytes(json.dumps(body).encode(), *locations)

    def post_bytes(self, body, *locations):
        may_post = locations.__contains__ if locations else lambda _: True
        return msgspec.to_builtins(self.ingest.post(body, may_post, FakeLambdaContext()))

    def post_batch(self, *readings, locations=()):
        return self.post({"readings": readings}, *locations)

    def is_broken(self, sensor_id):
        return self.dynamodb.tables["registry"][sensor_id]["broken"]["BOOL"]


@pytest.fixture
def place():
    return Place()


def temperature_of(resistance_ohm):
    return thermistor().temperature_celsius(resistance_ohm)


def answer(sensor_id="1", temperature=..., status="OK", timestamp=TIME):
    temperature = temperature_of(2000) if temperature is ... else temperature
    return {
        "sensor_id": sensor_id,
        "location_id": "a",
        "temperature": temperature,
        "status": status,
        "timestamp": timestamp,
    }


def test_a_reading_is_answered_registered_and_queued_as_it_was_answered(place):
    assert place.post(posted(timestamp=TIME)) == answer()
    assert place.sqs.measurements() == [{**answer(), "value": 2000.0}]
    assert not place.is_broken("1")
    assert place.sns.published == []


def test_a_value_out_of_range_latches_its_sensor_alerts_and_is_not_queued(place):
    told = answer(temperature=None, status="BROKEN")
    assert place.post(posted(timestamp=TIME, value=TOO_HIGH_OHM)) == told
    assert place.is_broken("1")
    assert [json.loads(alert["Message"]) for alert in place.sns.published] == [{**told, "value": TOO_HIGH_OHM}]
    assert place.post(posted()) == answer(temperature=None, status="BROKEN", timestamp=format_time(NOW))
    assert place.sqs.measurements() == []


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(place):
    body = json.dumps(posted()).encode().ljust(BODY_BYTES_MAX)
    assert place.post_bytes(body)["status"] == "OK"
    with pytest.raises(BodyTooLargeError, match=rf"^body: more than {BODY_BYTES_MAX} bytes$"):
        place.post_bytes(body + b" ")


def test_a_reading_older_than_is_accepted_is_refused_alone_and_in_a_batch(place):
    place.now = NOW + DAY
    with pytest.raises(ValidationError, match=r"^timestamp: "):
        place.post(posted(timestamp=TIME))
    (result,) = place.post_batch(posted(timestamp=TIME))["results"]
    assert result["error"].startswith("readings[0].timestamp: ")


def test_a_reading_for_another_location_than_the_tokens_costs_nothing(place):
    with pytest.raises(ForbiddenError, match=r"^location_id: "):
        place.post(posted(), "b", "c")
    told = place.post_batch(posted(), locations=["b"])
    assert told["results"] == [{"error": "readings[0].location_id: the token is not for this location"}]
    assert (told["accepted"], told["broken"], told["rejected"]) == (0, 0, 1)
    assert (place.dynamodb.calls, place.sqs.measurements()) == ([], [])


def test_a_token_for_the_location_is_enough_alone_and_in_a_batch(place):
    assert place.post(posted(timestamp=TIME), "a") == answer()
    assert place.post_batch(posted(sensor_id=2, timestamp=TIME), locations=["a"])["results"] == [answer("2")]


@pytest.mark.parametrize("wrap", [lambda reading: reading, lambda reading: {"readings": [reading]}])
def test_an_attempt_that_dies_is_in_progress_no_longer_than_its_function_may_run(place, wrap):
    place.post(wrap(posted()))
    begun = next(item for table, _, item in place.dynamodb.history if table == "idempotency")
    assert int(begun["in_progress_expiration"]["N"]) == pytest.approx((time.time() + 20) * 1000, abs=10_000)


def test_a_sensor_breaks_in_the_middle_of_a_batch_and_what_came_before_counts(place):
    values = (2000, TOO_HIGH_OHM, 3000)
    times = [format_time(NOW - MINUTE * number) for number in (3, 2, 1)]
    readings = [posted(value=value, timestamp=time) for value, time in zip(values, times, strict=True)]
    told = place.post_batch(*readings, posted(sensor_id=2, timestamp=TIME))
    broken = {"temperature": None, "status": "BROKEN"}
    assert told == {
        "results": [
            answer(timestamp=times[0]),
            answer(timestamp=times[1], **broken),
            answer(timestamp=times[2], **broken),
            answer("2"),
        ],
        "accepted": 2,
        "broken": 2,
        "rejected": 0,
    }
    assert [one["timestamp"] for one in place.sqs.measurements()] == [times[0], TIME]
    assert (place.is_broken("1"), place.is_broken("2")) == (True, False)


def test_the_server_times_of_a_batch_are_a_microsecond_apart(place):
    told = place.post_batch(posted(), posted(), posted(sensor_id=2))
    times = [format_time(NOW + timedelta(microseconds=number)) for number in range(3)]
    assert [one["timestamp"] for one in told["results"]] == times
    assert [one["timestamp"] for one in place.sqs.measurements()] == times


def test_a_reading_repeated_in_a_batch_is_taken_once_and_answered_twice(place):
    one, other = posted(timestamp=TIME), posted(sensor_id=2, reading_id="r")
    told = place.post_batch("no reading", one, other, {**one, "sensor_id": "1"}, other)
    assert told["results"][3:] == told["results"][1:3]
    assert (told["accepted"], told["rejected"]) == (4, 1)
    assert [measurement["sensor_id"] for measurement in place.sqs.measurements()] == ["1", "2"]


@pytest.mark.parametrize("identity", [{}, {"reading_id": "r"}])
@pytest.mark.parametrize("change", [{"value": 2001}, {"location_id": "b"}])
def test_a_reading_repeated_in_a_batch_with_other_content_is_rejected_and_names_the_first(place, identity, change):
    one, neighbour = posted(timestamp=TIME, **identity), posted(sensor_id=2, timestamp=TIME)
    told = place.post_batch(neighbour, one, {**one, **change}, one)
    reason = "readings[2]: the same reading as readings[1], with another value or location"
    assert told["results"] == [answer("2"), answer(), {"error": reason}, answer()]


def test_a_repetition_has_the_answer_of_the_first_delivery_and_no_effect(place):
    readings = [posted(sensor_id=1), posted(sensor_id=2, value=TOO_HIGH_OHM), posted(sensor_id=3, timestamp=TIME)]
    first, queued = place.post_batch(*readings), place.sqs.measurements()
    place.now += timedelta(seconds=1)
    assert place.post_batch(*readings) == first
    assert place.sqs.measurements() == queued
    assert len(place.sns.published) == 1


FAILING = {"the queue": ("sqs", "send_message"), "the latch": ("dynamodb", "transact_write_items")}


@pytest.mark.parametrize(("service", "operation"), FAILING.values(), ids=FAILING)
def test_what_may_have_been_queued_without_a_time_is_queued_again_under_the_time_of_the_first(
    place, service, operation
):
    failing = getattr(place, service).failing
    readings = [posted(sensor_id=1), posted(sensor_id=2, value=TOO_HIGH_OHM)]
    failing[operation] = error = service_error()
    with pytest.raises(ServiceUnavailableError, match=r"^a service behind this one failed, try again$") as raised:
        place.post_batch(*readings)
    assert raised.value.__cause__ is error
    failing.clear()
    place.now += timedelta(seconds=1)
    told = place.post_batch(*readings)
    assert [one["timestamp"] for one in told["results"]] == [
        format_time(NOW + timedelta(microseconds=number)) for number in range(2)
    ]
    assert {one["timestamp"] for one in place.sqs.measurements()} == {format_time(NOW)}
    assert place.is_broken("2")


@pytest.mark.parametrize(
    "readings",
    [[posted(timestamp=TIME)], [posted(value=TOO_HIGH_OHM), posted(sensor_id=2, timestamp=TIME, value=0.5)]],
    ids=["a time of its own", "nothing to queue"],
)
def test_a_failure_that_leaves_nothing_under_a_servers_time_is_forgotten(place, readings):
    for failing in (place.sqs.failing, place.dynamodb.failing):
        failing.update({"send_message": service_error(), "transact_write_items": service_error()})
    with pytest.raises(ClientError):
        place.post_batch(*readings)
    assert place.dynamodb.tables["idempotency"] == {}


def test_a_sensor_is_not_latched_before_the_queue_has_its_good_readings(place):
    place.sqs.failing["send_message"] = service_error()
    with pytest.raises(ServiceUnavailableError):
        place.post_batch(posted(), posted(value=TOO_HIGH_OHM))
    assert not place.is_broken("1")


VALUES = (0.5, 1.0, 2000.0, 20_000.0, TOO_HIGH_OHM)
READINGS = st.builds(posted, sensor_id=st.sampled_from("123"), value=st.sampled_from(VALUES), location_id=st.just("a"))


@given(st.lists(st.lists(READINGS, min_size=1, max_size=6), max_size=5))
def test_any_batches_are_answered_as_their_readings_one_after_the_other(batches):
    place, broken, queued = Place(), set(), []
    times = (format_time(NOW - MINUTE + timedelta(seconds=number)) for number in itertools.count())
    for batch in batches:
        readings = [{**one, "timestamp": next(times)} for one in batch]
        for one, result in zip(readings, place.post_batch(*readings)["results"], strict=True):
            if not 1.0 <= one["value"] <= 20_000.0:
                broken.add(one["sensor_id"])
            if one["sensor_id"] in broken:
                assert (result["status"], result["temperature"]) == ("BROKEN", None)
            else:
                assert result["temperature"] == temperature_of(one["value"])
                queued.append({**result, "value": one["value"]})
    assert place.sqs.measurements() == queued
    assert {sensor for sensor in place.dynamodb.tables["registry"] if place.is_broken(sensor)} == broken
