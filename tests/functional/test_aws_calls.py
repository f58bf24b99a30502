"""What a reading costs in AWS calls, and what the next one costs after a failure."""

import pytest

from tests.factories import posted
from tests.fakes import service_error


def calls_of(stage, aws_calls, **fields):
    aws_calls.made.clear()
    response = stage.post(posted(**fields))
    assert response.status_code == 200
    return aws_calls.made.copy()


def test_a_reading_of_a_known_working_sensor_costs_four_calls(stage, aws_calls):
    stage.post(posted(reading_id="first"))
    assert calls_of(stage, aws_calls, reading_id="r") == [
        "dynamodb:PutItem", "dynamodb:GetItem", "sqs:SendMessage", "dynamodb:UpdateItem",
    ]  # fmt: skip


def test_a_repeated_reading_costs_one_call(stage, aws_calls):
    stage.post(posted(reading_id="r"))
    assert calls_of(stage, aws_calls, reading_id="r") == ["dynamodb:PutItem"]


@pytest.mark.parametrize("value", [2000, 25_000])
def test_a_sensor_known_to_be_broken_costs_idempotency_and_nothing_else(stage, aws_calls, value):
    stage.post(posted(value=25_000, reading_id="first"))
    assert calls_of(stage, aws_calls, value=value, reading_id="r") == ["dynamodb:PutItem", "dynamodb:UpdateItem"]


def test_a_reading_that_breaks_its_sensor_costs_a_latch_and_an_alert(stage, aws_calls):
    stage.post(posted(reading_id="first"))
    made = calls_of(stage, aws_calls, value=25_000, reading_id="r")
    assert [call for call in made if call.startswith("dynamodb:")] == [
        "dynamodb:PutItem", "dynamodb:GetItem", "dynamodb:TransactWriteItems",
        "dynamodb:PutItem", "dynamodb:UpdateItem",
    ]  # fmt: skip


def test_a_reading_that_is_refused_costs_nothing(stage, aws_calls):
    stage.post(posted())
    aws_calls.made.clear()
    assert stage.post(posted(value="text")).status_code == 400
    assert aws_calls.made == []


def test_resources_and_keys_are_looked_up_once_in_a_process(stage, aws_calls):
    for number in range(3):
        stage.post(posted(reading_id=str(number)))
    assert aws_calls.made.count("ssm:GetParameter") == 2


def test_a_reading_whose_success_could_not_be_recorded_is_in_progress_and_not_sent_again(stage, aws_calls):
    aws_calls.fail("dynamodb:UpdateItem", service_error())
    stage.post(posted(reading_id="r"))
    aws_calls.heal()
    response = stage.post(posted(reading_id="r"))
    assert response.status_code == 409
    assert int(response.headers["Retry-After"]) > 0
    assert len(stage.queued()) == 1


def test_an_alert_is_published_once_in_its_cooldown(stage, aws_calls):
    for number in range(3):
        stage.post(posted(value=25_000, reading_id=str(number)))
    assert aws_calls.made.count("sns:PublishBatch") == 1


def test_alerts_of_a_batch_are_published_ten_at_a_time(stage, aws_calls):
    stage.post({"readings": [posted(sensor_id=number, value=25_000) for number in range(11)]})
    assert aws_calls.made.count("sns:PublishBatch") == 2


def test_an_expected_status_publishes_nothing(stage, aws_calls):
    stage.post(posted())
    assert not [call for call in aws_calls.made if call.startswith("sns:")]


def test_a_stage_that_is_not_deployed_is_unavailable_and_says_so(stage):
    stage.aws("ssm").delete_parameter(Name="/thermonet/dev/resources")
    response = stage.post(posted())
    assert response.status_code == 503
    assert "is the stage deployed?" in response.json_body["Message"]


def test_resources_that_cannot_be_read_are_the_servers_fault(stage):
    for value in ("{", "{}", "[]", '{"registry_table": 5}'):
        stage.aws("ssm").put_parameter(Name="/thermonet/dev/resources", Type="String", Value=value, Overwrite=True)
        assert stage.post(posted()).status_code == 503
