"""The real terraform makes both stages in an emulated account, and the application runs on what it made.

Needs terraform and the AWS provider: from a network, or from where TF_CLI_CONFIG_FILE tells terraform to look.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chalicelib.aws import Resources
from localcloud.cloud import deploy_stage
from localcloud.emulator import Emulator, running_emulator
from ops.packaging import build_triage
from ops.project import PROJECT, REGION
from ops.running_cloud import client_factory
from tests.e2e.cloud_tools import call, post_reading, run_analytics, wait_for

LOCAL_BACKEND = 'terraform {\n  backend "local" {}\n}\n'


@dataclass(frozen=True)
class Terraform:
    """A copy of the configuration with a state of its own for each stage, applied to an emulator."""

    folder: Path
    emulator: Emulator
    environment: dict[str, str]

    def run(self, command: str, stage: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run a command on a stage."""
        variables = [f"-var=config_path=../chalicelib/config/{stage}.yaml", f"-var=aws_region={REGION}"]
        arguments = [command, f"-state={stage}.tfstate", "-input=false", *variables, *options]
        return terraform_in(self.folder, self.environment, *arguments)

    def client(self, service: str) -> Any:
        """Return a client of the emulator."""
        return client_factory(self.emulator.endpoint_url)(service)

    def resources(self, stage: str) -> Resources:
        """Return what the application is given."""
        parameter = self.client("ssm").get_parameter(Name=f"/thermonet/{stage}/resources")["Parameter"]
        return msgspec.json.decode(parameter["Value"], type=Resources)


def terraform_in(folder: Path, environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["terraform", f"-chdir={folder}", *arguments, "-no-color"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def get_provider(folder: Path, environment: dict[str, str]) -> None:
    """Let terraform install the AWS provider; skips the tests when there is none."""
    result = terraform_in(folder, environment, "init", "-input=false")
    if "provider packages" in result.stderr:
        pytest.skip("terraform finds no AWS provider: it needs a network, or a mirror that TF_CLI_CONFIG_FILE tells of")
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    copy = tmp_path_factory.mktemp("terraform")
    folder = copy / "infra"
    for name in ("infra", "stepfunctions", "chalicelib/config"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    build_triage(folder / "dead_letter_triage.zip")
    (folder / "backend_override.tf").write_text(LOCAL_BACKEND)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(copy),
        "CHECKPOINT_DISABLE": "1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        **{name: os.environ[name] for name in ("TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR") if name in os.environ},
    }
    get_provider(folder, environment)
    # With permissions it would refuse what the policies of queues and bucket forbid: connections without TLS.
    with running_emulator(tmp_path_factory.mktemp("cloud"), permissions=False) as emulator:
        prepared = Terraform(folder, emulator, environment | {"AWS_ENDPOINT_URL": emulator.endpoint_url})
        for stage in ("dev", "prod"):
            applied = prepared.run("apply", stage, "-auto-approve")
            assert applied.returncode == 0, applied.stderr
        yield prepared


# Of dev, the test of what changes shows that nothing else does.
def test_a_second_plan_is_empty(terraform: Terraform) -> None:
    planned = terraform.run("plan", "prod", "-detailed-exitcode")
    assert planned.returncode == 0, planned.stdout + planned.stderr


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_signing_key_is_in_the_account_and_not_in_the_state(terraform: Terraform, stage: str) -> None:
    parameter = terraform.client("ssm").get_parameter(Name=f"/thermonet/{stage}/signing-keys", WithDecryption=True)
    keys = msgspec.json.decode(parameter["Parameter"]["Value"], type=dict[str, str])
    assert [len(key) for key in keys.values()] == [88]
    state = (terraform.folder / f"{stage}.tfstate").read_text()
    assert not [key for key in keys.values() if key in state]


def test_an_api_a_new_key_and_an_address_change_what_they_should_and_nothing_else(
    terraform: Terraform, tmp_path: Path
) -> None:
    settings = (PROJECT / "chalicelib" / "config" / "dev.yaml").read_text()
    changed = settings.replace("signing_key_version: 1", "signing_key_version: 2")
    (tmp_path / "dev.yaml").write_text(changed.replace("email: null", "email: you@example.org"))
    planned = terraform.run("plan", "dev", "-var=api_id=a1b2c3", f"-var=config_path={tmp_path / 'dev.yaml'}")
    assert planned.returncode == 0, planned.stderr
    assert "aws_api_gateway_method_settings.throttling[0] will be created" in planned.stdout
    assert "aws_ssm_parameter.signing_keys will be updated in-place" in planned.stdout
    assert "aws_sns_topic_subscription.email[0] will be created" in planned.stdout
    assert "2 to add, 1 to change, 0 to destroy" in planned.stdout


def test_the_workflow_is_limited_to_the_concurrency_of_the_settings(terraform: Terraform) -> None:
    arn = terraform.resources("dev").state_machine_arn
    described = terraform.client("stepfunctions").describe_state_machine(stateMachineArn=arn)
    definition = msgspec.json.decode(described["definition"])
    assert definition["States"]["ReportLocations"]["MaxConcurrency"] == 2


def test_the_application_runs_on_what_terraform_made(terraform: Terraform) -> None:
    cloud = deploy_stage("dev", terraform.emulator, resources=terraform.resources("dev"))
    try:
        assert post_reading(cloud, sensor_id="1", location_id="a", value=2_000)[1]["status"] == "OK"
        assert post_reading(cloud, sensor_id="2", location_id="a", value=25_000)[1]["status"] == "BROKEN"
        cloud.wait_until_drained()
        assert run_analytics(cloud)["counts"]["measurements"] == 1
        assert cloud.ledger.committed().reports.keys() == {"a"}
        report = call(cloud, "thermonet-dev-dead_letter_triage", action="report")
        assert (report["examined"], report["remaining"]) == (0, 0)
    finally:
        undeploy(terraform, "dev")


def undeploy(terraform: Terraform, stage: str) -> None:
    terraform.client("cloudformation").delete_stack(StackName=f"thermonet-{stage}")
    wait_for(lambda: f"thermonet-{stage}-receiver" not in names_in_account(terraform))


def names_in_account(terraform: Terraform) -> set[str]:
    """Everything of the kinds that Terraform makes."""
    client = terraform.client
    return {
        *client("dynamodb").list_tables()["TableNames"],
        *(url.rpartition("/")[2] for url in client("sqs").list_queues().get("QueueUrls", [])),
        *(topic["TopicArn"].rpartition(":")[2] for topic in client("sns").list_topics()["Topics"]),
        *(bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]),
        *(machine["name"] for machine in client("stepfunctions").list_state_machines()["stateMachines"]),
        *(role["RoleName"] for role in client("iam").list_roles()["Roles"]),
        *(function["FunctionName"] for function in client("lambda").list_functions()["Functions"]),
        *(group["logGroupName"] for group in client("logs").describe_log_groups()["logGroups"]),
        *(parameter["Name"] for parameter in client("ssm").describe_parameters()["Parameters"]),
        *(alarm["AlarmName"] for alarm in client("cloudwatch").describe_alarms()["MetricAlarms"]),
        *(board["DashboardName"] for board in client("cloudwatch").list_dashboards()["DashboardEntries"]),
    }


@pytest.mark.last
def test_prod_refuses_to_lose_its_tables_and_dev_goes_without_a_trace(terraform: Terraform) -> None:
    before = names_in_account(terraform)
    refused = terraform.run("destroy", "prod", "-auto-approve", "-refresh=false")
    assert refused.returncode != 0
    assert "protected against deletion" in refused.stdout + refused.stderr
    destroyed = terraform.run("destroy", "dev", "-auto-approve", "-refresh=false")
    assert destroyed.returncode == 0, destroyed.stderr
    left = names_in_account(terraform)
    of_dev = {name for name in before if "thermonet-dev" in name or "thermonet/dev" in name}
    assert len(of_dev) > 10
    # The bucket that a deployment put its code into is not Terraform's.
    assert of_dev & left <= {name for name in of_dev if "-deployment-" in name}
    for kept in ("sensor-registry", "idempotency", "analytics-runs", "measurements", "measurements-dlq"):
        assert f"thermonet-prod-{kept}" in left
    assert [name for name in left if name.startswith("thermonet-prod-data-")]
