"""A deployment names what it lacks before it begins, and forgets nothing that it has made."""

import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ops import deploy as deployment
from ops.deploy import DeployError, Target, check
from ops.runtime import Runtime, RuntimeChangeError
from ops.wheels import Platform, build_wheels, pip_environment
from tests.infra.terraform_files import INFRA, load

NOTE = json.dumps(
    {
        "resources": [
            {"name": "receiver", "resource_type": "lambda_function"},
            {"name": "rest_api", "resource_type": "rest_api", "rest_api_id": "a1b2c3"},
        ]
    }
)
ENVIRONMENT = {"AWS_REGION": "us-east-1", "STATE_BUCKET": "states"}


class Tools:
    """Stands in for terraform and Chalice: notes what is asked of them; Chalice writes its note as it does."""

    def __init__(self, note: Path, infra: Path) -> None:
        self.asked: list[str] = []
        self.options: list[list[str]] = []
        self.zip_is_there: list[bool] = []
        self.failing = ""
        self.packaging: dict[str, str] = {}
        self._note = note
        self._zip = infra / "dead_letter_triage.zip"

    def run(self, command: list[str], _target: Target, variables: Mapping[str, str] | None = None) -> None:
        tool = Path(command[0]).name
        self.asked.append(f"{tool} {command[2] if tool == 'terraform' else command[3]}")
        self.options.append(command)
        if tool == "terraform":
            self.zip_is_there.append(self._zip.exists())
        if self.asked[-1] == "chalice deploy":
            self.packaging = dict(variables or {})
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(NOTE)
        if self.asked[-1] == self.failing:
            raise DeployError(f"{self.failing}: failed")


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield boto3.session.Session()


@pytest.fixture
def s3(account: Any) -> Any:
    client = account.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="states")
    return client


@pytest.fixture
def has_terraform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "terraform"
    program.write_text("#!/bin/sh\necho Terraform v1.11.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    target = Target("dev", "us-east-1", "states")
    monkeypatch.setattr(deployment, "PROJECT", tmp_path)
    monkeypatch.setattr(deployment, "_INFRA", tmp_path / "infra")
    tools = Tools(target.remembered_by_chalice, tmp_path / "infra")
    monkeypatch.setattr(deployment, "_run", tools.run)
    return tools


TARGET = Target("dev", "us-east-1", "states")
SAME, FIRST, OTHER = (Runtime("python3.13", deployed) for deployed in ("python3.13", None, "python3.11"))


def disagree(question: str) -> bool:
    raise AssertionError(question)


def planned(plan_file: Path, runtime: Runtime = SAME) -> None:
    """Leave what `plan` does."""
    plan_file.write_text("a plan")
    runtime.write(plan_file)


def remembered(s3: Any) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket="states").get("Contents", [])]


@pytest.mark.usefixtures("has_terraform", "s3")
def test_a_complete_environment_gives_the_target(account: Any) -> None:
    assert check("dev", ENVIRONMENT, account) == TARGET


def test_everything_missing_is_named_at_once(account: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeployError) as complaint:
        check("nowhere", {}, account)
    assert [line.split(":")[0] for line in str(complaint.value).splitlines()] == [
        "missing stage",
        "missing terraform",
        "missing region",
        "missing state bucket",
    ]


@pytest.mark.usefixtures("has_terraform")
def test_the_state_bucket_has_a_name_by_default(account: Any) -> None:
    with pytest.raises(DeployError, match="state bucket: thermonet-terraform-state-123456789012"):
        check("dev", {"AWS_REGION": "us-east-1"}, account)


@pytest.mark.usefixtures("s3", "has_terraform")
def test_a_terraform_too_old_is_named(account: Any, tmp_path: Path) -> None:
    (tmp_path / "terraform").write_text("#!/bin/sh\necho Terraform v1.9.8\n")
    with pytest.raises(DeployError, match=r"older than 1\.11"):
        check("dev", ENVIRONMENT, account)


def test_the_application_follows_its_resources(s3: Any, tools: Tools) -> None:
    deployment.deploy(TARGET, s3, SAME, None, disagree)
    assert tools.asked == ["terraform init", "terraform apply", "chalice deploy", "terraform apply"]
    assert remembered(s3) == ["thermonet/dev/chalice-deployed.json"]


@pytest.mark.parametrize(("tool", "mode"), [("terraform", 0o600), ("chalice", 0o644)])
def test_a_plan_is_its_owners_only_and_what_is_packaged_can_be_read_by_lambda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, mode: int
) -> None:
    program = tmp_path / tool
    program.write_text('#!/bin/sh\necho content > "$1"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    deployment._run([tool, str(tmp_path / "written")], TARGET)
    assert stat.S_IMODE((tmp_path / "written").stat().st_mode) == mode


def test_every_machine_deploys_the_wheels_that_lambda_runs_and_no_others(s3: Any, tools: Tools) -> None:
    deployment.deploy(TARGET, s3, SAME, None, disagree)
    assert tools.packaging == pip_environment(build_wheels(Platform.LAMBDA))
    assert tools.packaging["PIP_NO_INDEX"] == "1"
    assert {name.rpartition("_x86_64")[1] for name in tools.packaging["PIP_PLATFORM"].split()} == {"_x86_64"}


def test_the_limits_of_the_api_follow_its_first_deployment_and_stay(s3: Any, tools: Tools, tmp_path: Path) -> None:
    deployment.deploy(TARGET, s3, SAME, None, disagree)
    _, first, _, last = tools.options
    assert not [option for option in first if "api_id" in option]
    assert {"-target=aws_api_gateway_method_settings.throttling", "-var=api_id=a1b2c3"} <= set(last)
    TARGET.remembered_by_chalice.unlink()
    deployment.plan(TARGET, s3, SAME, tmp_path / "plan")
    assert "-var=api_id=a1b2c3" in tools.options[-1]


def test_a_deployment_tells_terraform_every_variable(s3: Any, tools: Tools, tmp_path: Path) -> None:
    s3.put_object(Bucket="states", Key=TARGET.remembered_key, Body=NOTE.encode())
    deployment.plan(TARGET, s3, SAME, tmp_path / "plan")
    given = {option.removeprefix("-var=").partition("=")[0] for option in tools.options[-1] if "-var=" in option}
    # One that is not given falls back to its default, and takes back what was deployed with another value.
    assert given == {name for block in load(INFRA / "variables.tf")["variable"] for name in block}


def test_a_plan_is_applied_as_it_is(s3: Any, tools: Tools, tmp_path: Path) -> None:
    planned(tmp_path / "plan")
    deployment.deploy(TARGET, s3, SAME, tmp_path / "plan", disagree)
    assert tools.options[1][2:] == ["apply", "-input=false", str(tmp_path / "plan")]


def test_what_a_failed_deployment_has_made_is_remembered(s3: Any, tools: Tools) -> None:
    tools.failing = "chalice deploy"
    with pytest.raises(DeployError):
        deployment.deploy(TARGET, s3, SAME, None, disagree)
    assert remembered(s3) == ["thermonet/dev/chalice-deployed.json"]


def test_another_machine_goes_on_where_the_first_has_deployed(s3: Any, tools: Tools) -> None:
    s3.put_object(Bucket="states", Key=TARGET.remembered_key, Body=NOTE.encode())
    tools.failing = "chalice delete"
    with pytest.raises(DeployError):
        deployment.destroy(TARGET, s3, None)
    assert TARGET.remembered_by_chalice.read_text() == NOTE


def test_a_note_of_something_else_is_not_believed(s3: Any, tools: Tools) -> None:
    TARGET.remembered_by_chalice.parent.mkdir(parents=True)
    TARGET.remembered_by_chalice.write_text("of another account")
    tools.failing = "chalice delete"
    with pytest.raises(DeployError):
        deployment.destroy(TARGET, s3, None)
    assert not TARGET.remembered_by_chalice.exists()


def test_resources_go_after_the_application_that_uses_them(account: Any, s3: Any, tools: Tools) -> None:
    logs = account.client("logs", region_name="us-east-1")
    logs.create_log_group(logGroupName="/aws/lambda/thermonet-dev-receiver")
    deployment.destroy(TARGET, s3, logs)
    assert tools.asked == ["chalice delete", "terraform init", "terraform destroy"]
    assert logs.describe_log_groups()["logGroups"] == []
    assert remembered(s3) == []


@pytest.mark.parametrize("command", ["plan", "deploy", "destroy"])
def test_the_zip_of_the_dead_letter_function_is_there_whenever_terraform_is_asked(
    account: Any, s3: Any, tools: Tools, tmp_path: Path, command: str
) -> None:
    if command == "destroy":
        deployment.destroy(TARGET, s3, account.client("logs", region_name="us-east-1"))
    else:
        planned(tmp_path / "plan")
        more = [disagree] if command == "deploy" else []
        getattr(deployment, command)(TARGET, s3, SAME, tmp_path / "plan", *more)
    assert tools.zip_is_there
    assert all(tools.zip_is_there)


def test_prod_is_not_destroyed(s3: Any, tools: Tools) -> None:
    with pytest.raises(DeployError, match="prod is protected"):
        deployment.destroy(Target("prod", "us-east-1", "states"), s3, None)
    assert tools.asked == []


@pytest.mark.parametrize(
    ("runtime", "said"), [(SAME, "python3.13"), (FIRST, "python3.13"), (OTHER, "python3.13, instead of python3.11")]
)
def test_a_deployment_and_a_plan_say_which_runtime_it_will_be(
    s3: Any, tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str], runtime: Runtime, said: str
) -> None:
    deployment.deploy(TARGET, s3, runtime, None, lambda _: True)
    deployment.plan(TARGET, s3, runtime, tmp_path / "plan")
    assert capsys.readouterr().out == f"Runtime of the functions: {said}\n" * 2


def test_a_stages_runtime_changes_only_when_somebody_agrees(s3: Any, tools: Tools) -> None:
    asked: list[str] = []
    with pytest.raises(RuntimeChangeError, match=r"^runtime: python3\.11 stays"):
        deployment.deploy(TARGET, s3, OTHER, None, lambda question: bool(asked.append(question)))
    assert asked == ["Change the runtime of the functions from python3.11 to python3.13?"]
    assert tools.asked == []
    deployment.deploy(TARGET, s3, OTHER, None, lambda _: True)
    assert "chalice deploy" in tools.asked


def test_a_plan_is_applied_with_the_runtime_that_it_has_told_and_no_other(
    s3: Any, tools: Tools, tmp_path: Path
) -> None:
    deployment.plan(TARGET, s3, OTHER, tmp_path / "plan.tfplan")
    (tmp_path / "plan.tfplan").write_text("as terraform writes it")
    tools.asked.clear()
    with pytest.raises(RuntimeChangeError, match=r"python3\.13 is planned, and this Python would deploy python3\.12"):
        deployment.deploy(TARGET, s3, Runtime("python3.12", "python3.11"), tmp_path / "plan.tfplan", disagree)
    assert tools.asked == []
    deployment.deploy(TARGET, s3, OTHER, tmp_path / "plan.tfplan", disagree)
    assert "chalice deploy" in tools.asked


def test_a_plan_that_is_not_there_or_cannot_be_written_is_named_before_anything_happens(
    s3: Any, tools: Tools, tmp_path: Path
) -> None:
    with pytest.raises(DeployError, match=r"`make plan STAGE=dev` writes one$"):
        deployment.deploy(TARGET, s3, SAME, tmp_path / "plan", disagree)
    (tmp_path / "plan").write_text("a plan")
    with pytest.raises(RuntimeChangeError, match=r"plan\.runtime is missing"):
        deployment.deploy(TARGET, s3, SAME, tmp_path / "plan", disagree)
    for unwritable in (tmp_path, tmp_path / "nowhere" / "plan"):
        with pytest.raises(DeployError, match="cannot be written"):
            deployment.plan(TARGET, s3, SAME, unwritable)
    assert tools.asked == []
