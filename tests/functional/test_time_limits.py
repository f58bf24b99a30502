"""A request ends before its function does, and what a function leaves behind when it does not is soon over."""

import json
import time
from pathlib import Path

import pytest

from chalicelib.aws import Aws, longest_call_seconds
from tests.factories import posted
from tests.fakes import service_error
from tests.functional.test_failing_services import (
    BATCH,
    CRITICAL,
    KNOWN,
    NEW,
    OUT_OF_RANGE,
    TIME,
    answer_in_the_end,
    assert_unavailable,
    attempts_that_died_are_over,
    records,
)

CHALICE = json.loads((Path(__file__).parents[2] / ".chalice" / "config.json").read_text())
FUNCTION_SECONDS = CHALICE["lambda_timeout"]


class KilledError(BaseException):
    """Lambda ends the process; nothing that the program does about errors happens."""


KILLED = [
    pytest.param(body, call, id=f"{kind}, {call}")
    for kind, body, read in (("one", KNOWN, "GetItem"), ("batch", {"readings": [KNOWN, NEW]}, "BatchGetItem"))
    for call in (f"dynamodb:{read}", "sqs:SendMessage", "dynamodb:UpdateItem")
]


@pytest.mark.parametrize(("body", "killed_at"), KILLED)
def test_a_function_killed_in_the_middle_blocks_no_repetition_longer_than_it_could_have_run(
    stage, aws_calls, body, killed_at
):
    aws_calls.fail(killed_at, KilledError(), had_effect=killed_at == "sqs:SendMessage")
    with pytest.raises(KilledError):
        stage.post(body)
    aws_calls.heal()
    (record,) = [item for item in records(stage) if item["status"]["S"] == "INPROGRESS"]
    assert int(record["in_progress_expiration"]["N"]) <= (time.time() + FUNCTION_SECONDS) * 1_000
    assert stage.post(body).status_code == 409
    assert answer_in_the_end(stage, body)
    sensors = {one["sensor_id"] for one in body.get("readings", [body])}
    assert {one["sensor_id"] for one in stage.queued()} == sensors


class Clock:
    """A clock that stands still but for calls to AWS, each of which takes as long as a test says."""

    def __init__(self, call_seconds):
        self.now = 1_000.0
        self.call_seconds = call_seconds
        self.calls = 0

    def __call__(self):
        return self.now

    def pass_on(self, client, *_):
        """Let the time of a call pass: as long as it may take at most, unless the test says how long."""
        self.calls += 1
        self.now += self.call_seconds or longest_call_seconds(client.meta.config)


@pytest.fixture
def slow_aws(aws_calls, monkeypatch):
    def slow_down(call_seconds):
        clock = Clock(call_seconds)
        monkeypatch.setattr(aws_calls, "on_answer", clock.pass_on)
        monkeypatch.setattr("chalicelib.aws.monotonic", clock)
        return clock

    return slow_down


MANY = {"readings": [posted(sensor_id=f"new-{number}", timestamp=TIME, value=2000 + number) for number in range(120)]}


@pytest.mark.parametrize("body", [NEW, CRITICAL, OUT_OF_RANGE, BATCH, MANY], ids=lambda body: str(body)[:30])
@pytest.mark.parametrize("call_seconds", [None, 3, 0.2])
def test_however_slow_every_call_is_a_request_ends_before_its_function_does(stage, slow_aws, body, call_seconds):
    stage.post(posted(timestamp=TIME))
    clock = slow_aws(call_seconds)
    began = clock.now
    response = stage.post(body)
    assert response.status_code in {200, 503}
    if response.status_code == 503:
        assert_unavailable(response)
    assert clock.calls > 0
    assert clock.now - began < FUNCTION_SECONDS


def test_a_batch_that_ran_out_of_time_gets_on_with_every_repetition(stage, slow_aws):
    stage.post(OUT_OF_RANGE)
    slow_aws(1.5)
    statuses = []
    while 200 not in statuses:
        statuses.append(stage.post(MANY).status_code)
        assert len(statuses) < 20
        attempts_that_died_are_over(stage)
    assert statuses[0] == 503
    assert {one["sensor_id"] for one in stage.queued()} == {f"new-{number}" for number in range(120)}


def test_the_longest_call_fits_its_function_and_the_function_api_gateways_patience(stage):
    aws = Aws("dev")
    for client in (aws.ssm, aws.dynamodb, aws.sqs, aws.sns, aws.s3_online):
        longest_seconds = longest_call_seconds(client.meta.config)
        assert longest_seconds + 1 < CHALICE["lambda_functions"]["authorize"]["lambda_timeout"] <= FUNCTION_SECONDS < 29
    # The first two, without which nothing is done for a request, fit even when each is nearly as slow as may be.
    assert FUNCTION_SECONDS - longest_call_seconds(aws.dynamodb.meta.config) > 5


def test_callers_that_failed_together_are_asked_back_at_different_times(stage, aws_calls, monkeypatch):
    aws_calls.fail("dynamodb:UpdateItem", service_error())
    asked_back = {503: set(), 409: set()}
    for first_or_last in (0, -1):
        monkeypatch.setattr("app.routes._choose", lambda seconds, which=first_or_last: seconds[which])
        for _ in range(2):
            response = stage.post(posted(reading_id=str(first_or_last)))
            asked_back[response.status_code].add(response.headers["Retry-After"])
    assert asked_back == {503: {"1", "3"}, 409: {"1", "2"}}
