"""Terraform, the local cloud, the settings, Chalice's configuration and the workflow speak of the same things."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from moto import mock_aws

from chalicelib.api.tokens import signing_keys_parameter
from chalicelib.aws import Resources
from chalicelib.settings import Settings, load_settings
from localcloud.stack import create_resources, function_name
from tests.infra.recorded_calls import API
from tests.infra.terraform_files import PROJECT, in_stage, load, local_values, resources
from tests.states_language import DEFINITION

CHALICE = json.loads((PROJECT / ".chalice" / "config.json").read_text())
STAGES = tuple(CHALICE["stages"])


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def settings(stage: str) -> Settings:
    return load_settings(stage)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield cache(lambda service: boto3.client(service, region_name="us-east-1"))


@pytest.fixture
def local(stage: str, settings: Settings, client: Any) -> Resources:
    """What the local cloud makes."""
    return create_resources(stage, settings, client)


def chalice_setting(stage: str, function: str, key: str) -> Any:
    """Look a key up where Chalice does, in its order."""
    levels = (
        CHALICE["stages"][stage].get("lambda_functions", {}).get(function, {}),
        CHALICE["stages"][stage],
        CHALICE["lambda_functions"].get(function, {}),
        CHALICE,
    )
    return next((level[key] for level in levels if key in level), None)


def functions() -> dict[str, Any]:
    """What app.py declares, by Chalice's names."""
    from app import app

    declared = [*app.builtin_auth_handlers, *app.event_sources, *app.pure_lambda_functions]
    return {API: app} | {function.name: function for function in declared}


def named_by_terraform(type_: str, attribute: str, stage: str) -> set[str]:
    return {in_stage(body[attribute], stage) for body in resources(type_).values()}


def test_terraform_and_the_local_cloud_make_the_same_tables(stage: str, client: Any, local: Resources) -> None:
    by_terraform = {in_stage(body["name"], stage): body for body in resources("aws_dynamodb_table").values()}
    assert set(by_terraform) == {local.registry_table, local.idempotency_table, local.ledger_table}
    for name, body in by_terraform.items():
        described = client("dynamodb").describe_table(TableName=name)["Table"]
        assert described["KeySchema"] == [{"AttributeName": body["hash_key"], "KeyType": "HASH"}]
        assert described["AttributeDefinitions"] == [
            {"AttributeName": attribute["name"], "AttributeType": attribute["type"]} for attribute in body["attribute"]
        ]
        assert described["BillingModeSummary"]["BillingMode"] == body["billing_mode"]
        expiry = client("dynamodb").describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert expiry.get("AttributeName") == next((ttl["attribute_name"] for ttl in body.get("ttl", [])), None)


def test_idempotency_records_expire_by_the_attribute_that_the_code_writes() -> None:
    (expiry,) = resources("aws_dynamodb_table")["idempotency"]["ttl"]
    assert (expiry["enabled"], expiry["attribute_name"]) == (True, "expiration")
    assert '"expiration"' in (PROJECT / "chalicelib" / "ingest" / "alerts.py").read_text()


def test_markers_in_the_ledger_expire_by_the_attribute_that_the_code_writes() -> None:
    (expiry,) = resources("aws_dynamodb_table")["analytics_runs"]["ttl"]
    assert (expiry["enabled"], expiry["attribute_name"]) == (True, "expires_at")
    assert '"expires_at"' in (PROJECT / "chalicelib" / "quarantine_count.py").read_text()


def test_every_table_can_be_restored_and_only_devs_can_be_deleted() -> None:
    for body in resources("aws_dynamodb_table").values():
        assert body["point_in_time_recovery"] == [{"enabled": True}]
        assert body["server_side_encryption"] == [{"enabled": True}]
        assert body["deletion_protection_enabled"] == "${local.protected}"
    assert local_values()["protected"] == '${local.stage != "dev"}'


def test_terraform_and_the_local_cloud_make_the_same_queues(
    stage: str, settings: Settings, client: Any, local: Resources
) -> None:
    queues = resources("aws_sqs_queue")
    for name, url in (("measurements", local.queue_url), ("dead_letters", local.dead_letter_queue_url)):
        made = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert made["QueueArn"].endswith(f":{in_stage(queues[name]['name'], stage)}")
        assert made["MessageRetentionPeriod"] == str(14 * 24 * 3600)
        assert queues[name]["message_retention_seconds"] == "${local.queue_retention_seconds}"
        assert queues[name]["sqs_managed_sse_enabled"] is True
    assert local_values()["queue_retention_seconds"] == "${14 * 24 * 3600}"
    main = client("sqs").get_queue_attributes(QueueUrl=local.queue_url, AttributeNames=["All"])["Attributes"]
    assert main["VisibilityTimeout"] == str(settings.message_retention_seconds)
    assert queues["measurements"]["visibility_timeout_seconds"] == "${local.settings.message_retention_seconds}"
    receives = json.loads(main["RedrivePolicy"])["maxReceiveCount"]
    assert f"maxReceiveCount = {receives}" in queues["measurements"]["redrive_policy"]


def test_terraform_and_the_local_cloud_make_the_same_bucket_topic_and_workflow(stage: str, local: Resources) -> None:
    bucket = local.bucket.replace("123456789012", "${local.account_id}")
    assert named_by_terraform("aws_s3_bucket", "bucket", stage) == {bucket}
    assert named_by_terraform("aws_sns_topic", "name", stage) == {local.topic_arn.rpartition(":")[2]}
    assert named_by_terraform("aws_sfn_state_machine", "name", stage) == {local.state_machine_arn.rpartition(":")[2]}
    assert in_stage(local_values()["workflow_name"], stage) == local.state_machine_arn.rpartition(":")[2]


def test_terraform_and_the_local_cloud_tell_the_application_the_same(stage: str, client: Any, local: Resources) -> None:
    name = in_stage(resources("aws_ssm_parameter")["resources"]["name"], stage)
    parameter = json.loads(client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
    assert set(parameter) == set(local_values()["resources"])
    assert in_stage(resources("aws_ssm_parameter")["signing_keys"]["name"], stage) == signing_keys_parameter(stage)


def test_terraform_fills_every_placeholder_of_the_workflow() -> None:
    call = local_values()["workflow_definition"]
    given = dict(re.findall(r"(\w+) = ([\w.]+)", call))
    placeholders = set(re.findall(r"\$\{(.*?)\}", (PROJECT / "stepfunctions" / "analytics.asl.json").read_text()))
    assert set(given) == placeholders
    assert given["max_concurrency"] == "local.settings.analytics.max_concurrency"


def test_what_terraform_reads_from_the_settings_is_there(stage: str) -> None:
    read = set()
    for file in (PROJECT / "infra").glob("*.tf"):
        read |= set(re.findall(r"local\.settings((?:\.\w+)+)", file.read_text()))
    assert read
    for path in read:
        value: Any = load_settings(stage)
        for key in path.removeprefix(".").split("."):
            value = getattr(value, key)
        assert value is None or isinstance(value, int | str), path


def test_terraform_replaces_the_key_and_sends_the_mail_that_the_settings_ask_for() -> None:
    key = resources("aws_ssm_parameter")["signing_keys"]
    assert key["value_wo_version"] == "${local.settings.signing_key_version}"
    assert "local.settings.signing_key_version" in key["value_wo"]
    subscription = resources("aws_sns_topic_subscription")["email"]
    assert subscription["endpoint"] == "${local.settings.alerts.email}"
    assert subscription["count"] == "${local.settings.alerts.email == null ? 0 : 1}"


def test_the_functions_that_terraform_names_are_those_of_the_application(stage: str) -> None:
    named = {key: in_stage(name, stage) for key, name in local_values()["functions"].items()}
    # What stands alone is an expression to the parser.
    deployed = {name: function_name(stage, name) for name in functions() if name != API}
    deployed["api"] = function_name(stage, "app")
    assert named == deployed


def test_the_functions_that_the_workflow_calls_are_in_the_application() -> None:
    called = set(re.findall(r"\$\{(\w+)_arn\}", json.dumps(DEFINITION))) - {"topic"}
    assert called
    assert called <= set(functions())


def test_chalice_configures_the_functions_of_the_application_and_no_others(stage: str) -> None:
    declared = set(functions())
    assert set(CHALICE["stages"][stage]["lambda_functions"]) == declared
    assert set(CHALICE["lambda_functions"]) <= declared
    for function in declared:
        assert chalice_setting(stage, function, "lambda_memory_size") >= 128
        assert 1 <= chalice_setting(stage, function, "lambda_timeout") <= 900
        assert chalice_setting(stage, function, "reserved_concurrency") >= 1
        assert chalice_setting(stage, function, "autogen_policy") is False


def test_every_function_is_told_its_stage(stage: str) -> None:
    assert CHALICE["stages"][stage]["environment_variables"] == {"THERMONET_STAGE": stage}


def test_metrics_of_the_api_tell_the_stages_apart(stage: str) -> None:
    assert CHALICE["stages"][stage]["api_gateway_stage"] == stage


def test_every_log_is_kept_as_long(stage: str) -> None:
    days = local_values()["log_retention_days"]
    for function in functions():
        # Chalice would make a log group of another name than that of the API's handler.
        assert chalice_setting(stage, function, "log_retention_in_days") == (None if function == API else days)
    for body in resources("aws_cloudwatch_log_group").values():
        assert body["retention_in_days"] == "${local.log_retention_days}"
    log_groups = named_by_terraform("aws_cloudwatch_log_group", "name", stage)
    assert "/aws/lambda/${local.functions.api}" in log_groups


def test_a_message_stays_invisible_until_its_consumer_is_surely_done(stage: str, settings: Settings) -> None:
    timeout = chalice_setting(stage, "buffer_measurements", "lambda_timeout")
    window = functions()["buffer_measurements"].maximum_batching_window_in_seconds
    # AWS recommends this much, so that throttled polls do not use up a message's tries.
    assert settings.message_retention_seconds >= 6 * timeout + window


def test_no_more_consumers_are_started_than_may_run(stage: str) -> None:
    most = functions()["buffer_measurements"].maximum_concurrency
    assert 2 <= most <= chalice_setting(stage, "buffer_measurements", "reserved_concurrency")


def test_the_reporters_of_a_run_are_never_throttled_by_their_own_limit(stage: str, settings: Settings) -> None:
    assert chalice_setting(stage, "reporter", "reserved_concurrency") >= settings.analytics.max_concurrency


def test_requests_are_answered_before_api_gateway_gives_up(stage: str) -> None:
    assert chalice_setting(stage, API, "lambda_timeout") < 29


def test_api_gateway_lets_no_more_through_than_the_handlers_can_take(stage: str, settings: Settings) -> None:
    handlers = chalice_setting(stage, API, "reserved_concurrency")
    assert settings.api.burst_requests <= handlers
    # A request keeps its handler for about 50 ms.
    assert settings.api.requests_per_second <= handlers / 0.05


def test_the_quota_that_a_deployment_needs_is_told() -> None:
    reserved = [
        chalice_setting(stage, function, "reserved_concurrency") for stage in STAGES for function in functions()
    ]
    (triage,) = (block["dead_letter_triage"] for block in load(PROJECT / "infra" / "dead_letters.tf")["module"])
    total = sum(reserved) + len(STAGES) * triage["reserved_concurrency"]
    assert f"the functions of both stages reserve {total}," in (PROJECT / "docs" / "deployment.md").read_text()


def test_terraform_limits_every_route_of_the_api(stage: str) -> None:
    (limits,) = resources("aws_api_gateway_method_settings").values()
    assert (limits["rest_api_id"], limits["method_path"]) == ("${var.api_id}", "*/*")
    assert in_stage(limits["stage_name"], stage) == CHALICE["stages"][stage]["api_gateway_stage"]
    assert limits["settings"] == [
        {
            "throttling_rate_limit": "${local.settings.api.requests_per_second}",
            "throttling_burst_limit": "${local.settings.api.burst_requests}",
        }
    ]


def test_functions_are_over_before_the_workflow_gives_up(stage: str) -> None:
    states = DEFINITION["States"]
    tasks = [*states.values(), *states["ReportLocations"]["ItemProcessor"]["States"].values()]
    seconds = {
        re.findall(r"\w+", task["Parameters"]["FunctionName"])[0].removesuffix("_arn"): task["TimeoutSeconds"]
        for task in tasks
        if task.get("Resource", "").endswith("lambda:invoke")
    }
    assert set(seconds) == {"claimer", "receiver", "reporter", "summarizer"}
    for function, given_up_after in seconds.items():
        assert chalice_setting(stage, function, "lambda_timeout") < given_up_after < DEFINITION["TimeoutSeconds"]


def test_functions_have_more_memory_than_they_give_to_duckdb(stage: str, settings: Settings) -> None:
    for function in ("claimer", "receiver", "reporter"):
        memory_mb = chalice_setting(stage, function, "lambda_memory_size")
        assert memory_mb >= settings.analytics.duckdb_memory_limit_mb + 300


def test_the_schedules_rule_carries_the_stage(stage: str) -> None:
    rule = f"{CHALICE['app_name']}-{stage}-start_analytics-event"
    # Chalice names it so, which a rename of function or application would change.
    assert rule.startswith(f"thermonet-{stage}-")
    assert len(rule) <= 64


def test_the_signing_key_is_written_and_never_stored() -> None:
    body = resources("aws_ssm_parameter")["signing_keys"]
    assert body["type"] == "SecureString"
    assert "value_wo" in body
    assert "value" not in body
