"""The deployed functions live by their own policies: with them everything works, without one action it does not."""

import json

import pytest

from localcloud.cloud import Cloud, LocalCloudError
from ops.project import PROJECT
from tests.e2e.cloud_tools import (
    deployed_policy,
    log_lines,
    post_reading,
    retried_at_once,
    run_analytics,
    wait_for,
    without_action,
)

FUNCTIONS = {
    "app": "api_handler",
    "buffer_measurements": "buffer_measurements",
    "start_analytics": "start_analytics",
    "claimer": "claimer",
    "receiver": "receiver",
    "reporter": "reporter",
    "summarizer": "summarizer",
}


def run_once(cloud: Cloud, sensor_id: str) -> None:
    """Take a reading all the way into a report; raises when anything on the way fails."""
    status, answer = post_reading(cloud, sensor_id=sensor_id, location_id="rights", value=2_000)
    assert status == 200, answer
    cloud.wait_until_drained()
    assert run_analytics(cloud)["counts"]["measurements"] >= 1


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_deployed_with_the_policy_of_its_file(cloud: Cloud, function: str) -> None:
    _, _, deployed = deployed_policy(cloud, function)
    assert deployed == json.loads((PROJECT / ".chalice" / f"policy-{FUNCTIONS[function]}-dev.json").read_text())


@pytest.mark.parametrize("action", ["dynamodb:PutItem", "dynamodb:GetItem", "dynamodb:UpdateItem", "sqs:SendMessage"])
def test_a_reading_is_not_taken_without_a_right_of_the_api(cloud: Cloud, action: str) -> None:
    with without_action(cloud, "app", action):
        status, answer = post_reading(cloud, sensor_id=f"no-{action}", location_id="rights", value=2_000)
    assert (status, answer["Code"]) == (503, "ServiceUnavailableError")


def test_a_run_works_with_all_rights_and_not_without_one_of_the_claimer(cloud: Cloud) -> None:
    run_once(cloud, "all-rights")
    with (
        without_action(cloud, "claimer", "dynamodb:GetItem"),
        pytest.raises(LocalCloudError, match="FAILED"),
    ):
        run_once(cloud, "no-head")
    run_once(cloud, "all-rights-again")


@pytest.mark.parametrize(
    ("function", "action"),
    [
        ("claimer", "s3:PutObject"),
        ("receiver", "s3:PutObject"),
        ("reporter", "s3:PutObject"),
        ("summarizer", "s3:ListBucket"),
        ("summarizer", "s3:PutObject"),
        ("summarizer", "dynamodb:BatchGetItem"),
    ],
)
def test_a_run_does_not_work_without_a_right_of_one_of_its_functions(cloud: Cloud, function: str, action: str) -> None:
    with without_action(cloud, function, action), pytest.raises(LocalCloudError, match="FAILED"):
        run_once(cloud, f"{function}-no-{action}")


def test_no_run_starts_without_the_right_to_start_one(cloud: Cloud) -> None:
    with (
        without_action(cloud, "start_analytics", "states:StartExecution"),
        pytest.raises(LocalCloudError, match="start_analytics failed"),
    ):
        run_once(cloud, "no-start")


def test_nothing_lands_without_the_consumers_right_to_write(cloud: Cloud) -> None:
    def refusals() -> int:
        return len([line for line in log_lines(cloud, "buffer_measurements") if "AccessDenied" in line])

    with retried_at_once(cloud):
        with without_action(cloud, "buffer_measurements", "s3:PutObject"):
            before = refusals()
            assert post_reading(cloud, sensor_id="not-landed", location_id="rights", value=2_000)[0] == 200
            wait_for(lambda: refusals() > before)
            assert cloud.count_messages(cloud.resources.queue_url) == 1
        # Or it would come back in the middle of another test.
        cloud.wait_until_drained()
