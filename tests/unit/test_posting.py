"""A reading becomes an answer, a measurement, a latch and an alert: the use case on fakes."""

import json
import time
from datetime import timedelta, timezone

import pytest

from chalicelib.errors import BodyTooLargeError, ForbiddenError, ValidationError
from chalicelib.fields import format_time
from chalicelib.ingest.readings import BODY_BYTES_MAX
from tests.factories import DAY, MINUTE, NOW, SETTINGS, posted, queued
from tests.posting_service import TIME, TOO_HIGH_OHM, PostingService, answer_to, temperature_of


@pytest.fixture
def service():
    return PostingService()


def test_a_reading_is_answered_registered_and_queued_as_it_was_answered(service):
    assert service.post(posted(timestamp=TIME)) == answer_to()
    assert service.sqs.measurements() == [queued(answer_to(), 2000.0)]
    assert not service.is_broken("a/1")
    assert service.sns.published == []


def test_a_value_out_of_range_latches_its_sensor_alerts_and_is_not_queued(service):
    broken = answer_to(temperature=None, status="BROKEN")
    assert service.post(posted(timestamp=TIME, value=TOO_HIGH_OHM)) == broken
    assert service.is_broken("a/1")
    assert [json.loads(alert["Message"]) for alert in service.sns.published] == [{**broken, "value": TOO_HIGH_OHM}]
    assert service.post(posted()) == answer_to(temperature=None, status="BROKEN", timestamp=format_time(NOW))
    assert service.sqs.measurements() == []


def test_every_status_of_a_working_sensor_is_answered_and_queued(service):
    statuses = {
        value: SETTINGS.status_below_celsius.status_of(temperature_of(value)) for value in (1, 20, 2000, 20_000)
    }
    assert len(set(statuses.values())) == 4
    for value, status in statuses.items():
        assert service.post(posted(value=value))["status"] == status
    assert {one["value"]: one["status"] for one in service.sqs.measurements()} == statuses


@pytest.mark.parametrize("value", [TOO_HIGH_OHM, 0.99, 0, -1, 20_000.001])
def test_a_broken_sensor_is_answered_broken_then_and_ever_after(service, value):
    assert service.post(posted(reading_id="before"))["status"] == "OK"
    for number, later in enumerate([value, 2000, 2001]):
        broken = answer_to(temperature=None, status="BROKEN", timestamp=format_time(NOW))
        assert service.post(posted(value=later, reading_id=str(number))) == broken
    assert len(service.sqs.measurements()) == 1


@pytest.mark.parametrize("wrap", [lambda reading: reading, lambda reading: {"readings": [reading]}])
def test_a_reading_of_before_the_break_is_answered_as_it_was(service, wrap):
    before = service.post(wrap(posted(timestamp=TIME)))
    service.post(posted(value=TOO_HIGH_OHM))
    assert service.post(wrap(posted(timestamp=TIME))) == before


def test_sensors_1_and_text_1_are_the_same_sensor(service):
    service.post(posted(sensor_id=1, value=TOO_HIGH_OHM))
    assert service.post(posted(sensor_id="1"))["status"] == "BROKEN"
    assert service.post(posted(sensor_id="01"))["status"] == "OK"


def test_the_same_moment_in_another_offset_is_the_same_reading(service):
    elsewhere = (NOW - MINUTE).astimezone(timezone(timedelta(hours=2))).isoformat()
    assert service.post(posted(timestamp=elsewhere)) == service.post(posted(timestamp=TIME)) == answer_to()
    assert len(service.sqs.measurements()) == 1


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(service):
    body = json.dumps(posted()).encode().ljust(BODY_BYTES_MAX)
    assert service.post_bytes(body)["status"] == "OK"
    with pytest.raises(BodyTooLargeError, match=rf"^body: more than {BODY_BYTES_MAX} bytes$"):
        service.post_bytes(body + b" ")


def test_a_reading_older_than_is_accepted_is_refused_alone_and_in_a_batch(service):
    service.now = NOW + DAY
    with pytest.raises(ValidationError, match=r"^timestamp: "):
        service.post(posted(timestamp=TIME))
    (result,) = service.post_batch(posted(timestamp=TIME))["results"]
    assert result["error"].startswith("readings[0].timestamp: ")


def test_a_reading_for_another_location_than_the_tokens_costs_nothing(service):
    with pytest.raises(ForbiddenError, match=r"^location_id: "):
        service.post(posted(), "b", "c")
    answer = service.post_batch(posted(), locations=["b"])
    assert answer["results"] == [{"error": "readings[0].location_id: the token is not for this location"}]
    assert (answer["accepted"], answer["broken"], answer["rejected"]) == (0, 0, 1)
    assert (service.dynamodb.calls, service.sqs.measurements()) == ([], [])


def test_a_token_for_the_location_is_enough_alone_and_in_a_batch(service):
    assert service.post(posted(timestamp=TIME), "a") == answer_to()
    assert service.post_batch(posted(sensor_id=2, timestamp=TIME), locations=["a"])["results"] == [answer_to("2")]


@pytest.mark.parametrize("wrap", [lambda reading: reading, lambda reading: {"readings": [reading]}])
def test_an_attempt_that_dies_is_in_progress_no_longer_than_its_function_may_run(service, wrap):
    service.post(wrap(posted()))
    begun = next(item for table, _, item in service.dynamodb.history if table == "idempotency")
    assert int(begun["in_progress_expiration"]["N"]) == pytest.approx((time.time() + 20) * 1000, abs=10_000)
