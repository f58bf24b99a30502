"""Puts a stage into the AWS account, or takes it out: checks what is needed, then terraform, then Chalice.

What Terraform sets on Chalice's API follows the application; both take the API's id from Chalice's note.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.settings import CONFIG_FOLDER
from ops.packaging import build_triage, make_sources_readable
from ops.project import PROJECT
from ops.running_cloud import leads_to_this_machine
from ops.runtime import Runtime
from ops.wheels import PACKAGING_UMASK, Platform, build_wheels, pip_environment

_INFRA = PROJECT / "infra"
_TERRAFORM_AT_LEAST = (1, 11)
_ON_THE_API = "aws_api_gateway_method_settings.throttling"


class DeployError(Exception):
    """Something that a deployment needs is missing, or a tool failed. Each line of the message names one thing."""


@dataclass(frozen=True)
class Target:
    """A stage, the account's region, and the bucket that keeps what terraform and Chalice remember of it."""

    stage: str
    region: str
    state_bucket: str

    @property
    def remembered_by_chalice(self) -> Path:
        """Chalice's note of what it has deployed; without it the next deployment would make a second API."""
        return PROJECT / ".chalice" / "deployed" / f"{self.stage}.json"

    @property
    def remembered_key(self) -> str:
        """The object that carries this note from one machine to the next."""
        return f"thermonet/{self.stage}/chalice-deployed.json"


def check(stage: str, environment: Mapping[str, str], session: Any) -> Target:
    """Find everything that a deployment needs; raises DeployError naming all that is missing."""
    if complaint := leads_to_this_machine(environment):
        raise DeployError(complaint)
    missing = []
    stages = sorted(file.stem for file in CONFIG_FOLDER.glob("*.yaml"))
    if stage not in stages:
        missing.append(f"stage: there is no {stage!r}, but {' and '.join(stages)}: `make deploy STAGE={stages[0]}`")
    if complaint := _terraform_complaint():
        missing.append(complaint)
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""
    if not region:
        missing.append("region: set AWS_REGION, such as eu-central-1")
    bucket = environment.get("STATE_BUCKET", "")
    try:
        account = session.client("sts", region_name=region or "us-east-1").get_caller_identity()["Account"]
        bucket = bucket or f"thermonet-terraform-state-{account}"
        session.client("s3", region_name=region or "us-east-1").head_bucket(Bucket=bucket)
    except ClientError as error:
        what = f"state bucket: {bucket}" if bucket and error.operation_name == "HeadBucket" else "credentials"
        missing.append(f"{what}: {error}; see docs/deployment.md for how to make one")
    except BotoCoreError as error:
        missing.append(f"credentials: {error}; sign in, or set AWS_PROFILE")
    if missing:
        raise DeployError("\n".join(f"missing {one}" for one in missing))
    return Target(stage, region, bucket)


def _terraform_complaint() -> str | None:
    program = shutil.which("terraform")
    needed = ".".join(map(str, _TERRAFORM_AT_LEAST))
    if program is None:
        return f"terraform: install version {needed} or newer"
    output = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Terraform v(\d+)\.(\d+)", output)
    if found is None or (int(found[1]), int(found[2])) < _TERRAFORM_AT_LEAST:
        return f"terraform: {program} is older than {needed}"
    return None


def plan(target: Target, s3: Any, runtime: Runtime, plan_file: Path) -> None:
    """Show what a deployment would change, and write it to a file that `deploy` can take, the runtime beside it."""
    if not plan_file.parent.is_dir() or plan_file.is_dir():
        raise DeployError(f"plan: {plan_file} cannot be written: it is a folder, or there is no folder for it")
    _recall(target, s3)
    _init(target)
    _terraform(target, "validate")
    _terraform(target, "plan", "-input=false", f"-out={plan_file.resolve()}", *_variables(target))
    runtime.write(plan_file)
    print(f"Runtime of the functions: {runtime}", flush=True)


def deploy(target: Target, s3: Any, runtime: Runtime, plan_file: Path | None, agrees: Callable[[str], bool]) -> None:
    """Apply the configuration, asking first unless a plan is given, deploy the application on it, and limit its API."""
    print(f"Runtime of the functions: {runtime}", flush=True)
    if plan_file is None:
        runtime.require_agreement(agrees)
    elif not plan_file.is_file():
        raise DeployError(f"plan: there is no file {plan_file}: `make plan STAGE={target.stage}` writes one")
    else:
        runtime.require_planned(plan_file)
    _recall(target, s3)
    _init(target)
    if plan_file is None:
        _terraform(target, "apply", *_variables(target))
    else:
        _terraform(target, "apply", "-input=false", str(plan_file.resolve()))
    try:
        _chalice(target, "deploy")
    finally:
        # Also when it failed half-way: what was made must be known the next time.
        _remember(target, s3)
    # The first time there was no API before; later this changes nothing.
    _terraform(target, "apply", "-input=false", "-auto-approve", f"-target={_ON_THE_API}", *_variables(target))


def destroy(target: Target, s3: Any, logs: Any) -> None:
    """Take everything of the stage out of the account, asking first; only dev can be."""
    if target.stage != "dev":
        raise DeployError(f"{target.stage} is protected: see docs/deployment.md for how to remove it")
    _recall(target, s3)
    variables = _variables(target)
    _chalice(target, "delete")
    s3.delete_object(Bucket=target.state_bucket, Key=target.remembered_key)
    for page in logs.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix=f"/aws/lambda/thermonet-{target.stage}-"
    ):
        for group in page["logGroups"]:
            logs.delete_log_group(logGroupName=group["logGroupName"])
    _init(target)
    _terraform(target, "destroy", *variables)


def _init(target: Target) -> None:
    """Build what terraform reads beside its configuration, and let it find the stage's state."""
    build_triage(_INFRA / "dead_letter_triage.zip")
    settings = {
        "bucket": target.state_bucket,
        "key": f"thermonet/{target.stage}/terraform.tfstate",
        "region": target.region,
    }
    backend = [f"-backend-config={name}={value}" for name, value in settings.items()]
    _terraform(target, "init", "-input=false", "-reconfigure", *backend)


def _variables(target: Target) -> list[str]:
    variables = [f"-var=config_path=../chalicelib/config/{target.stage}.yaml", f"-var=aws_region={target.region}"]
    api_id = _api_id(target)
    return [*variables, f"-var=api_id={api_id}"] if api_id else variables


def _api_id(target: Target) -> str | None:
    """Return the id of the API that Chalice has deployed, as it is noted; None before the first deployment."""
    try:
        noted = json.loads(target.remembered_by_chalice.read_text())
    except FileNotFoundError:
        return None
    return next((one["rest_api_id"] for one in noted["resources"] if one["resource_type"] == "rest_api"), None)


def _terraform(target: Target, *arguments: str) -> None:
    _run(["terraform", f"-chdir={_INFRA}", *arguments], target)


def _chalice(target: Target, command: str) -> None:
    chalice = Path(sys.executable).with_name("chalice")
    # The same wheels whatever machine this is: it could not run them.
    wheels = pip_environment(build_wheels(Platform.LAMBDA))
    make_sources_readable()
    _run([str(chalice), "--project-dir", str(PROJECT), command, "--stage", target.stage], target, wheels)


def _run(command: list[str], target: Target, variables: Mapping[str, str] | None = None) -> None:
    environment = {**os.environ, "AWS_REGION": target.region, "AWS_DEFAULT_REGION": target.region}
    environment |= {"THERMONET_STAGE": target.stage, **(variables or {})}
    # A plan may hold secrets; packaged code must be readable, since Lambda runs it as somebody else.
    umask = 0o077 if command[0] == "terraform" else PACKAGING_UMASK
    finished = subprocess.run(command, env=environment, cwd=PROJECT, umask=umask, check=False)
    if finished.returncode != 0:
        raise DeployError(f"{' '.join(command[:3])}: failed with {finished.returncode}")


def _recall(target: Target, s3: Any) -> None:
    path = target.remembered_by_chalice
    try:
        content = s3.get_object(Bucket=target.state_bucket, Key=target.remembered_key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        # Nothing is deployed; a note of another account must not say otherwise.
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _remember(target: Target, s3: Any) -> None:
    if target.remembered_by_chalice.exists():
        content = target.remembered_by_chalice.read_bytes()
        s3.put_object(Bucket=target.state_bucket, Key=target.remembered_key, Body=content)
