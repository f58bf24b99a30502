"""What `plan`, `deploy` and `destroy` find out before they begin: the account, its runtime, and who agrees."""

import io
import sys
from fnmatch import fnmatch

import boto3
import pytest
import yaml
from moto import mock_aws

from ops.__main__ import _agrees, main
from ops.project import PROJECT
from ops.runtime import Runtime, find_runtime

ENVIRONMENT = {"AWS_REGION": "us-east-1", "STATE_BUCKET": "states"}


@mock_aws
def test_a_runtime_is_that_of_this_python_beside_the_one_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    account = boto3.session.Session()
    here = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    functions = account.client("lambda", region_name="us-east-1")
    assert find_runtime("dev", functions) == Runtime(here, None)
    role = account.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    functions.create_function(
        FunctionName="thermonet-dev", Runtime="python3.10", Role=role, Handler="app.app", Code={"ZipFile": b"zip"}
    )
    assert find_runtime("dev", functions) == Runtime(here, "python3.10")


def test_without_a_terminal_nobody_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert not _agrees("Change it?")


@pytest.mark.parametrize("command", ["plan", "deploy", "destroy"])
def test_what_is_left_of_a_local_cloud_in_a_shell_is_no_way_to_aws(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    left = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    assert main([command, "dev"], {**ENVIRONMENT, **left}) == 1
    assert capsys.readouterr().err == (
        "error: this shell's AWS_ENDPOINT_URL leads to this machine, not to AWS: "
        "`leave_local_cloud`, or `unset AWS_ACCESS_KEY_ID AWS_ENDPOINT_URL AWS_SECRET_ACCESS_KEY`\n"
    )


@pytest.mark.parametrize("command", ["plan", "deploy", "destroy"])
def test_a_profile_that_does_not_exist_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    assert main([command, "dev"], ENVIRONMENT) == 1
    assert capsys.readouterr().err == "error: The config profile (nosuch) could not be found\n"


def test_the_deploy_workflow_hands_the_plan_on_with_all_that_is_beside_it() -> None:
    jobs = yaml.safe_load((PROJECT / ".github" / "workflows" / "deploy.yaml").read_text())["jobs"]
    (kept,) = [step["with"]["path"] for step in jobs["plan"]["steps"] if "upload-artifact" in step.get("uses", "")]
    pattern = kept.replace("${{ inputs.stage }}", "dev")
    assert all(fnmatch(f".local/{name}", pattern) for name in ("dev.tfplan", "dev.runtime"))
