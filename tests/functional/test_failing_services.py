"""Every service fails in every way, at every call of a reading's way: 503, and repeating it has one effect."""

import itertools
import json

import pytest
from botocore.exceptions import ConnectTimeoutError, NoCredentialsError, ReadTimeoutError

from chalicelib.errors import ServiceUnavailableError
from chalicelib.settings import load_settings
from tests.factories import posted
from tests.fakes import service_error
from tests.functional.test_post_readings import ago

URL = "https://service"

# What is raised, and whether the call had its effect all the same.
FAILURES = {
    "throttling": (service_error("ThrottlingException"), False),
    "unable to connect": (ConnectTimeoutError(endpoint_url=URL), False),
    "refusing": (service_error("AccessDeniedException"), False),
    "timing out after its effect": (ReadTimeoutError(endpoint_url=URL), True),
}


TIME = ago(minutes=1)
KNOWN = posted(sensor_id="known", timestamp=TIME)
NEW = posted(sensor_id="new", timestamp=TIME)
CRITICAL = posted(sensor_id="critical", timestamp=TIME, value=1)
OUT_OF_RANGE = posted(sensor_id="broken", timestamp=TIME, value=25_000)

# A reading alone that makes the call, and the call; a batch of all of them makes those that name no single sensor.
CALLS = {
    "idempotency, begin": (KNOWN, "dynamodb:PutItem", "-idempotency"),
    "idempotency, complete": (KNOWN, "dynamodb:UpdateItem", "-idempotency"),
    "registry, read": (KNOWN, "dynamodb:GetItem", "-sensor-registry"),
    "registry, read many": (None, "dynamodb:BatchGetItem", "-sensor-registry"),
    "registry, register": (NEW, "dynamodb:TransactWriteItems", "attribute_not_exists(sensor_id)"),
    "registry, latch": (OUT_OF_RANGE, "dynamodb:TransactWriteItems", "broken-sensors-"),
    "queue": (KNOWN, "sqs:SendMessage", "-measurements"),
    "resources": (KNOWN, "ssm:GetParameter", "/resources"),
}
BATCH = {"readings": [KNOWN, NEW, CRITICAL, OUT_OF_RANGE]}
STATUSES = {"known": "OK", "new": "OK", "critical": "TEMPERATURE_CRITICAL", "broken": "BROKEN"}


def records(stage):
    return stage.aws("dynamodb").scan(TableName=stage.resources["idempotency_table"])["Items"]


def attempts_that_died_are_over(stage):
    """Let the time pass that a function may run at most, after which no attempt can be under way."""
    table, dynamodb = stage.resources["idempotency_table"], stage.aws("dynamodb")
    for item in records(stage):
        if "in_progress_expiration" in item:
            dynamodb.put_item(TableName=table, Item={**item, "in_progress_expiration": {"N": "1"}})


def assert_unavailable(response):
    assert response.status_code == 503
    assert response.json_body.keys() == {"Code", "Message"}
    assert response.json_body["Message"]
    # Within the window in which a reading without an id or a time is known as the same.
    assert 0 < int(response.headers["Retry-After"]) < load_settings("dev").idempotency.anonymous_window_seconds


def answer_in_the_end(stage, body):
    response = stage.post(body)
    if response.status_code == 409:
        assert int(response.headers["Retry-After"]) > 0
        attempts_that_died_are_over(stage)
        response = stage.post(body)
    assert response.status_code == 200
    return response.json_body


CASES = [
    pytest.param(body, call, where, id=f"{kind}, {name}")
    for name, (reading, call, where) in CALLS.items()
    for kind, body in (("one", reading), ("batch", BATCH))
    if body and (kind, name) != ("batch", "registry, read")
]


@pytest.mark.parametrize(("body", "call", "where"), CASES)
def test_a_failure_is_answered_with_try_again_and_the_repetition_has_one_effect(
    stage, aws_calls, restart, subtests, body, call, where
):
    # Each failure with readings and sensors of its own, and with a process that must ask for parameters.
    stage.post({"readings": [posted(sensor_id=f"known-{number}") for number in range(len(FAILURES))]})
    stage.queued()
    for number, (name, (error, had_effect)) in enumerate(FAILURES.items()):
        with subtests.test(name):
            request = json.loads(json.dumps(body).replace('", "location_id"', f'-{number}", "location_id"'))
            if call == "ssm:GetParameter":
                restart()
            aws_calls.failed = 0
            aws_calls.fail(call, error, where, had_effect=had_effect)
            assert_unavailable(stage.post(request))
            assert aws_calls.failed > 0
            aws_calls.heal()
            answer = answer_in_the_end(stage, request)
            results = answer.get("results", [answer])
            statuses = {result["sensor_id"].partition("-")[0]: result["status"] for result in results}
            assert statuses == {sensor: STATUSES[sensor] for sensor in statuses}
            queued = {(one["sensor_id"], one["timestamp"], one["temperature"]) for one in stage.queued()}
            good = {(one["sensor_id"], one["timestamp"], one["temperature"]) for one in results if one["temperature"]}
            assert queued == good
            assert stage.post(request).json_body == answer
            for sensor in [one["sensor_id"] for one in results if one["status"] == "BROKEN"]:
                assert stage.post(posted(sensor_id=sensor)).json_body["status"] == "BROKEN"


def test_signing_keys_that_fail_to_be_read_fail_that_call_alone(stage, aws_calls, subtests):
    for name, (error, had_effect) in FAILURES.items():
        with subtests.test(name):
            aws_calls.fail("ssm:GetParameter", error, "/signing-keys", had_effect=had_effect)
            # What API Gateway answers with a 500 of its own.
            with pytest.raises(ServiceUnavailableError, match=r"^the signing keys cannot be read$"):
                stage.post(KNOWN)
            aws_calls.heal()
            assert stage.queued() == []
    assert stage.post(KNOWN).status_code == 200


@pytest.mark.parametrize(
    ("call", "where"),
    [("sns:PublishBatch", ""), ("dynamodb:PutItem", "alert#"), ("dynamodb:DeleteItem", "alert#")],
)
def test_alerts_that_fail_in_whatever_way_block_no_reading(stage, aws_calls, subtests, call, where):
    for number, (name, (error, had_effect)) in enumerate(FAILURES.items()):
        critical, broken, *both = [
            posted(sensor_id=f"{number}-{index}", value=value, timestamp=TIME)
            for index, value in enumerate([1, 25_000, 1, 25_000])
        ]
        for body, measurements in ((critical, 1), (broken, 0), ({"readings": both}, 1)):
            with subtests.test(name, one="value" in body, measurements=measurements):
                aws_calls.fail(call, error, where, had_effect=had_effect)
                if call == "dynamodb:DeleteItem":
                    aws_calls.fail("sns:PublishBatch", error)
                first = stage.post(body)
                assert first.status_code == 200
                aws_calls.heal()
                assert stage.post(body).json_body == first.json_body
                assert len(stage.queued()) == measurements


def test_an_outage_of_every_service_at_once_is_one_more_503(stage, aws_calls):
    error = NoCredentialsError()
    for service in ("dynamodb:", "sqs:", "sns:"):
        aws_calls.fail(service, error)
    for body in (KNOWN, BATCH):
        assert_unavailable(stage.post(body))
    aws_calls.heal()
    assert answer_in_the_end(stage, BATCH)["accepted"] == 3


def test_readers_too_are_told_to_try_again(stage, aws_calls, subtests):
    stage.get("/runs/latest")
    paths = ["/locations/a/sensors/1", "/locations", "/locations/a/report", "/runs/latest"]
    for path, (name, (error, _)) in itertools.product(paths, FAILURES.items()):
        with subtests.test(path, failure=name):
            aws_calls.fail("dynamodb:GetItem", error)
            assert_unavailable(stage.get(path))
            aws_calls.heal()


def test_keys_left_unread_for_good_are_503_with_nothing_half_reported(stage, aws_calls, monkeypatch):
    def throttle(_client, operation, parameters, answer):
        if operation == "BatchGetItem":
            ((table, asked),) = parameters["RequestItems"].items()
            answer["UnprocessedKeys"] = {table: {**asked, "Keys": asked["Keys"][1:]}} if asked["Keys"][1:] else {}
            answer["Responses"][table] = [
                item for item in answer["Responses"][table] if item["sensor_id"] == asked["Keys"][0]["sensor_id"]
            ]

    many = {"readings": [posted(sensor_id=str(number), timestamp=TIME) for number in range(8)]}
    with monkeypatch.context() as throttling:
        throttling.setattr("chalicelib.ingest.registry.WAITS_SECONDS_MAX", (0, 0, 0))
        throttling.setattr(aws_calls, "on_answer", throttle)
        assert_unavailable(stage.post(many))
        assert stage.queued() == []
        # Four readings alert by four calls.
        few = {"readings": many["readings"][:4]}
        assert stage.post(few).json_body["accepted"] == 4
    assert answer_in_the_end(stage, many)["accepted"] == 8
    assert {one["sensor_id"] for one in stage.queued()} == {str(number) for number in range(8)}
