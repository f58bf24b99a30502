"""Alerts: one per sensor and status in a cooldown, and never in a reading's way."""

import json

import pytest

from chalicelib.ingest.alerts import Alerts
from chalicelib.ingest.readings import Answer
from chalicelib.thermistor import Status
from tests.factories import alert_settings
from tests.fakes import FakeDynamoDb, FakeSns, service_error
from tests.posting_service import TIME

TABLE = "claims"


@pytest.fixture
def dynamodb():
    return FakeDynamoDb({TABLE: "id"})


@pytest.fixture
def sns():
    return FakeSns()


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def new_process(dynamodb, sns, clock):
    def start(**settings):
        return Alerts(alert_settings(**settings), "arn:topic", TABLE, sns, dynamodb, clock)

    return start


def answer(status=Status.BROKEN, sensor_id="s", location_id="a"):
    temperature = None if status is Status.BROKEN else 300.0
    return Answer(sensor_id=sensor_id, location_id=location_id, temperature=temperature, status=status, timestamp=TIME)


def test_an_unexpected_status_is_published_with_all_about_the_reading(new_process, sns):
    new_process().consider([(answer(Status.TEMPERATURE_CRITICAL), 1.5)])
    (published,) = sns.published
    assert published["TopicArn"] == "arn:topic"
    assert "s" in published["Subject"]
    assert published["MessageAttributes"]["status"]["StringValue"] == "TEMPERATURE_CRITICAL"
    assert json.loads(published["Message"]) == {
        "sensor_id": "s",
        "location_id": "a",
        "temperature": 300.0,
        "status": "TEMPERATURE_CRITICAL",
        "timestamp": TIME,
        "value": 1.5,
    }


@pytest.mark.parametrize("status", [Status.OK, Status.TEMPERATURE_TOO_LOW, Status.TEMPERATURE_TOO_HIGH])
def test_other_statuses_cost_no_call(new_process, sns, dynamodb, status):
    new_process().consider([(answer(status), 1.5)])
    assert (sns.published, dynamodb.calls) == ([], [])


@pytest.mark.parametrize("status", [Status.BROKEN, Status.TEMPERATURE_CRITICAL])
def test_the_longest_ids_get_their_alert_too(new_process, sns, status):
    new_process().consider([(answer(status, "x" * 64, "y" * 64), 0.5)])
    (published,) = sns.published
    assert published["Subject"].startswith(status)


def test_a_sensor_is_quiet_for_the_cooldown_and_alerts_again_after_it(new_process, sns, clock, dynamodb):
    alerts = new_process(cooldown_seconds=300)
    alerts.consider([(answer(), 0.5)])
    dynamodb.calls.clear()
    clock.now += 299
    alerts.consider([(answer(), 0.5)])
    assert len(sns.published) == 1
    assert dynamodb.calls == [], "a warm process remembers its own claim"
    clock.now += 1
    alerts.consider([(answer(), 0.5)])
    assert len(sns.published) == 2


def test_without_a_cooldown_every_reading_alerts(new_process, sns):
    alerts = new_process(cooldown_seconds=0)
    for _ in range(3):
        alerts.consider([(answer(), 0.5)])
    assert len(sns.published) == 3


def test_each_sensor_and_each_status_has_a_cooldown_of_its_own(new_process, sns):
    alerts = new_process()
    for sensor in (("s", "a"), ("t", "a"), ("s", "b")):
        for status in (Status.BROKEN, Status.TEMPERATURE_CRITICAL):
            alerts.consider([(answer(status, *sensor), 0.5)])
            alerts.consider([(answer(status, *sensor), 0.5)])
    assert len(sns.published) == 6


def test_the_claim_of_one_process_keeps_the_others_quiet(new_process, sns, clock):
    new_process().consider([(answer(), 0.5)])
    other = new_process()
    other.consider([(answer(), 0.5)])
    assert len(sns.published) == 1
    clock.now += 300
    other.consider([(answer(), 0.5)])
    assert len(sns.published) == 2


def test_a_claim_carries_the_time_at_which_it_expires(new_process, dynamodb, clock):
    new_process(cooldown_seconds=300).consider([(answer(), 0.5)])
    (claim,) = dynamodb.tables[TABLE].values()
    assert claim["expiration"] == {"N": str(int(clock.now) + 300)}


def test_a_failing_topic_fails_nothing_and_the_next_reading_tries_again(new_process, sns, dynamodb):
    alerts = new_process()
    sns.error = service_error()
    alerts.consider([(answer(), 0.5)])
    assert dynamodb.tables[TABLE] == {}, "the claim is given back"
    sns.error = None
    alerts.consider([(answer(), 0.5)])
    assert len(sns.published) == 1


def test_after_a_failing_topic_another_process_may_alert(new_process, sns):
    sns.error = service_error()
    new_process().consider([(answer(), 0.5)])
    sns.error = None
    new_process().consider([(answer(), 0.5)])
    assert len(sns.published) == 1


@pytest.mark.parametrize("operation", ["put_item", "delete_item"])
def test_a_failing_claims_table_fails_nothing(new_process, sns, dynamodb, operation):
    sns.error = service_error()
    dynamodb.failing[operation] = service_error()
    new_process().consider([(answer(), 0.5)])
    assert sns.published == []


def test_a_process_that_has_alerted_about_very_many_sensors_forgets_and_asks_the_table(new_process, sns, monkeypatch):
    monkeypatch.setattr("chalicelib.ingest.alerts._REMEMBERED_MAX", 3)
    alerts = new_process()
    for _ in range(2):
        for number in range(10):
            alerts.consider([(answer(sensor_id=str(number)), 0.5)])
    assert len(sns.published) == 10
    assert len(alerts._quiet_until) <= 3


def test_a_process_that_found_the_claim_taken_is_quiet_only_until_that_claim_ends(new_process, sns, clock):
    new_process(cooldown_seconds=100).consider([(answer(), 1.0)])
    other = new_process(cooldown_seconds=100)
    clock.now += 90
    other.consider([(answer(), 1.0)])
    clock.now += 20
    other.consider([(answer(), 1.0)])
    assert len(sns.published) == 2


def test_a_request_alerts_about_each_sensor_once_in_batches_of_ten(new_process, sns):
    alerts = new_process()
    alerts.consider([(answer(sensor_id=str(number % 15)), 0.5) for number in range(30)])
    assert len({message["Subject"] for message in sns.published}) == len(sns.published) == 15


def test_more_alerts_than_fit_a_request_are_left_to_the_next_readings(new_process, sns):
    alerts = new_process()
    answers = [(answer(sensor_id=str(number)), 0.5) for number in range(50)]
    alerts.consider(answers)
    assert len(sns.published) == 20
    alerts.consider(answers)
    alerts.consider(answers)
    assert len(sns.published) == 50


def test_claims_that_are_slow_do_not_use_up_the_time_of_their_request(new_process, sns, dynamodb, clock, monkeypatch):
    put_item = dynamodb.put_item

    def slow_put_item(**parameters):
        clock.now += 0.9
        return put_item(**parameters)

    monkeypatch.setattr(dynamodb, "put_item", slow_put_item)
    alerts = new_process()
    answers = [(answer(sensor_id=str(number)), 0.5) for number in range(15)]
    alerts.consider(answers)
    assert len(sns.published) == 3
    alerts.consider(answers)
    assert len(sns.published) == 6


def test_entries_of_a_batch_that_the_topic_refuses_are_tried_again_by_the_next_readings(new_process, sns, dynamodb):
    alerts = new_process()
    sns.refused = {"1"}
    answers = [(answer(sensor_id=str(number)), 0.5) for number in range(3)]
    alerts.consider(answers)
    assert len(sns.published) == 2
    assert len(dynamodb.tables[TABLE]) == 2
    sns.refused = set()
    alerts.consider(answers)
    assert len(sns.published) == 3


def test_alerts_whose_cooldown_was_claimed_before_the_table_failed_are_sent(new_process, sns, dynamodb, monkeypatch):
    put_item = dynamodb.put_item

    def fail_from_the_third_on(**parameters):
        if len(dynamodb.tables[TABLE]) == 2:
            raise service_error()
        return put_item(**parameters)

    monkeypatch.setattr(dynamodb, "put_item", fail_from_the_third_on)
    new_process().consider([(answer(sensor_id=str(number)), 0.5) for number in range(5)])
    assert len(sns.published) == 2


def test_a_claim_that_cannot_be_given_back_keeps_no_other_from_it(new_process, sns, dynamodb, monkeypatch):
    delete_item, deleted = dynamodb.delete_item, []

    def fail_first(**request):
        deleted.append(request)
        if len(deleted) == 1:
            raise service_error()
        return delete_item(**request)

    monkeypatch.setattr(dynamodb, "delete_item", fail_first)
    sns.error = service_error()
    answers = [(answer(sensor_id=str(number)), 0.5) for number in range(3)]
    new_process().consider(answers)
    sns.error = None
    new_process().consider(answers)
    assert {message["Subject"] for message in sns.published} == {"BROKEN: sensor 1 at a", "BROKEN: sensor 2 at a"}
