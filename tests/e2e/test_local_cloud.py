"""The local cloud, and what is in it; tests/e2e/test_serving.py has the commands that keep one up."""

import json
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.api.tokens import signing_keys_parameter
from localcloud.cloud import Cloud, LocalCloudError
from localcloud.stack import function_name
from ops.project import PROJECT
from ops.tokens import mint_token, read_keys
from simulator.client import ANSWER_TIMEOUT_SECONDS
from tests.e2e.cloud_tools import get, log_lines, post_reading

CHALICE = json.loads((PROJECT / ".chalice" / "config.json").read_text())


def status_of(cloud: Cloud, sensor_id: str, resistance_ohm: float) -> Any:
    """Post a reading and return the status in the answer."""
    code, answer = post_reading(cloud, sensor_id=sensor_id, location_id="cloud", value=resistance_ohm)
    assert code == 200, answer
    return answer["status"]


def test_a_fresh_cloud_answers_on_health(cloud: Cloud) -> None:
    assert get(f"{cloud.api_url}/health") == {"status": "OK"}


def test_the_functions_have_the_names_that_chalice_deploy_gives_them(cloud: Cloud) -> None:
    functions = {"authorize", "buffer_measurements", "start_analytics", "receiver", "reporter", "summarizer"}
    assert {"thermonet-dev", *(f"thermonet-dev-{name}" for name in functions)} <= set(cloud.functions)


def test_the_application_is_told_the_resources_that_were_created(cloud: Cloud) -> None:
    parameter = cloud.client("ssm").get_parameter(Name="/thermonet/dev/resources")["Parameter"]
    resources = json.loads(parameter["Value"])
    assert set(resources) == {
        "registry_table",
        "idempotency_table",
        "ledger_table",
        "bucket",
        "queue_url",
        "dead_letter_queue_url",
        "topic_arn",
        "state_machine_arn",
    }
    for table in (resources["registry_table"], resources["idempotency_table"], resources["ledger_table"]):
        assert cloud.client("dynamodb").describe_table(TableName=table)["Table"]["TableStatus"] == "ACTIVE"


def test_a_message_is_retried_after_the_stages_retention_and_given_up_after_five_times(cloud: Cloud) -> None:
    queue = cloud.client("sqs").get_queue_attributes(QueueUrl=cloud.resources.queue_url, AttributeNames=["All"])
    attributes = queue["Attributes"]
    assert attributes["VisibilityTimeout"] == "60"
    assert attributes["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    redrive = json.loads(attributes["RedrivePolicy"])
    assert redrive["maxReceiveCount"] == 5
    assert redrive["deadLetterTargetArn"].endswith(":thermonet-dev-measurements-dlq")


def test_on_a_busy_machine_functions_may_take_their_time_but_no_message_is_given_out_twice(cloud: Cloud) -> None:
    seconds = {
        name.removeprefix("thermonet-dev-"): cloud.client("lambda").get_function(FunctionName=name)["Configuration"][
            "Timeout"
        ]
        for name in cloud.functions
        if name.startswith("thermonet-dev")
    }
    on_aws = {name: function["lambda_timeout"] for name, function in CHALICE["lambda_functions"].items()}
    # A request of which all calls were slow has 20 s.
    on_aws["thermonet-dev"] = CHALICE["lambda_timeout"]
    assert all(seconds[name] == min(6 * on_aws[name], 900) for name in on_aws)
    assert seconds["buffer_measurements"] < 60
    assert seconds["thermonet-dev"] <= ANSWER_TIMEOUT_SECONDS


def test_no_schedule_interferes_with_the_runs_of_a_test(cloud: Cloud) -> None:
    (rule,) = cloud.client("events").list_rules(NamePrefix="thermonet-dev")["Rules"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "DISABLED")


def test_a_posted_reading_goes_through_the_queue_into_a_run(cloud: Cloud) -> None:
    assert status_of(cloud, "through", 2_000) == "OK"
    cloud.wait_until_drained()
    assert cloud.count_messages(cloud.resources.queue_url) == 0
    assert cloud.count_objects("landing/") >= 1
    output = cloud.wait_for_run(cloud.start_analytics())
    assert output["counts"]["measurements"] >= 1
    assert [line for line in log_lines(cloud, "receiver") if "run prepared" in line]


def test_a_run_that_fails_is_told_with_its_cause(cloud: Cloud) -> None:
    started = cloud.client("stepfunctions").start_execution(
        stateMachineArn=cloud.resources.state_machine_arn, input='{"source":"S3","key":"not-there.csv"}'
    )
    with pytest.raises(LocalCloudError, match="not-there"):
        cloud.wait_for_run(started["executionArn"])


def test_chalice_local_serves_the_same_resources(cloud: Cloud, local_routes: str) -> None:
    assert status_of(replace(cloud, api_url=local_routes), "latched-locally", 25_000) == "BROKEN"
    assert status_of(cloud, "latched-locally", 2_000) == "BROKEN"


def test_signing_keys_that_cannot_be_read_are_the_gateways_own_error_and_nothing_that_it_keeps(cloud: Cloud) -> None:
    ssm, name = cloud.client("ssm"), signing_keys_parameter(cloud.stage)
    keys = read_keys(cloud.stage, ssm)
    request = urllib.request.Request(f"{cloud.api_url}/locations")
    request.add_header("Authorization", f"Bearer {mint_token(keys, 'nobody that the gateway remembers')}")
    functions, authorizer = cloud.client("lambda"), function_name(cloud.stage, "authorize")
    ssm.put_parameter(Name=name, Type="SecureString", Value="{", Overwrite=True)
    # A process that has read the keys before would use them on, so the next one is new.
    seconds = functions.get_function_configuration(FunctionName=authorizer)["Timeout"]
    functions.update_function_configuration(FunctionName=authorizer, Timeout=seconds)
    try:
        with pytest.raises(urllib.error.HTTPError) as raised, urllib.request.urlopen(request, timeout=30):
            pass
    finally:
        ssm.put_parameter(Name=name, Type="SecureString", Value=json.dumps(keys), Overwrite=True)
    assert (raised.value.code, json.load(raised.value)) == (500, {"message": None})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200
