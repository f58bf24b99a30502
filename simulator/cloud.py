"""The local cloud: the emulator with one stage deployed in it, and what a demo or a test does with it."""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import msgspec

from chalicelib.errors import ThermonetError
from chalicelib.settings import load_settings
from simulator.emulator import LOCAL_FOLDER, REGION, Emulator, running_emulator
from simulator.packaging import build_package
from simulator.stack import (
    ClientFactory,
    Resources,
    create_resources,
    deploy,
    function_name,
    wait_until_healthy,
)
from simulator.tokens import DAY_SECONDS, mint_token, read_keys

_POLL_SECONDS = 0.2
_TOKEN_SECONDS = 30 * DAY_SECONDS


class LocalCloudError(ThermonetError):
    """The local cloud is missing, in the way, or does not do what it should within its time."""


class CloudFile(msgspec.Struct, frozen=True):
    """What .local/cloud.json tells other programs about a local cloud that is up."""

    stage: str
    endpoint_url: str
    api_url: str
    region: str
    account_id: str
    resources: Resources
    functions: tuple[str, ...]
    environment: dict[str, str]
    token: str


@dataclass(frozen=True)
class Cloud:
    """A local cloud that is up; `client` gives boto3 clients of it by the service's name."""

    stage: str
    api_url: str
    resources: Resources
    client: ClientFactory
    emulator: Emulator
    region: str = REGION

    @property
    def endpoint_url(self) -> str:
        """Where every AWS service answers."""
        return self.emulator.endpoint_url

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which any AWS client reaches this cloud."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": self.region,
        }

    @functools.cached_property
    def token(self) -> str:
        """A token for everything, that outlives any local cloud."""
        keys = read_keys(self.stage, self.client("ssm"))
        return mint_token(keys, "local-cloud", lifetime_seconds=_TOKEN_SECONDS)

    @functools.cached_property
    def function_names(self) -> tuple[str, ...]:
        """The deployed functions, sorted."""
        functions = self.client("lambda").list_functions()["Functions"]
        return tuple(sorted(function["FunctionName"] for function in functions))

    def describe(self) -> CloudFile:
        """Tell what other programs need."""
        return CloudFile(
            stage=self.stage,
            endpoint_url=self.endpoint_url,
            api_url=self.api_url,
            region=self.region,
            account_id=self.client("sts").get_caller_identity()["Account"],
            resources=self.resources,
            functions=self.function_names,
            environment=self.environment,
            token=self.token,
        )

    def wait_until_drained(self, timeout_seconds: float = 120) -> None:
        """Wait until every queued message is consumed; raises LocalCloudError with how many are left."""
        queue_url = self.resources.queue_url
        if not _wait_for(lambda: self.count_messages(queue_url) == 0, timeout_seconds):
            raise LocalCloudError(
                f"{self.count_messages(queue_url)} messages are still in the queue after {timeout_seconds} s"
            )

    def count_messages(self, queue_url: str) -> int:
        """Count the messages of a queue: waiting, being consumed, and waiting to be tried again."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        queue = self.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
        return sum(int(queue["Attributes"][name]) for name in names)

    def count_objects(self, prefix: str) -> int:
        """Count the bucket's objects whose keys begin with the prefix."""
        pages = self.client("s3").get_paginator("list_objects_v2")
        bucket = self.resources.bucket
        return sum(page["KeyCount"] for page in pages.paginate(Bucket=bucket, Prefix=prefix))

    def start_analytics(self, now: datetime | None = None, timeout_seconds: float = 120) -> str:
        """Start a run as the schedule would, after the one that may be going; returns its ARN.

        Raises LocalCloudError when no run starts, as for a time that has had its run.
        """
        if not _wait_for(self._is_idle, timeout_seconds):
            raise LocalCloudError(f"a run is still going after {timeout_seconds} s")
        answer = self.client("lambda").invoke(
            FunctionName=function_name(self.stage, "start_analytics"),
            Payload=json.dumps(self._scheduled_event(now or datetime.now(UTC))),
        )
        said = answer["Payload"].read().decode()
        if "FunctionError" in answer:
            raise LocalCloudError(f"start_analytics failed: {said}")
        started: str | None = json.loads(said)["execution_arn"]
        if started is None:
            raise LocalCloudError("start_analytics started no run: this time has had one, or one is going")
        return started

    def wait_for_run(self, execution_arn: str, timeout_seconds: float = 120) -> Any:
        """Wait for a run and return its output, decoded; raises LocalCloudError with a failure's cause."""

        def describe() -> dict[str, Any]:
            run: dict[str, Any] = self.client("stepfunctions").describe_execution(executionArn=execution_arn)
            return run

        if not _wait_for(lambda: describe()["status"] != "RUNNING", timeout_seconds):
            raise LocalCloudError(f"{execution_arn} is still running after {timeout_seconds} s")
        run = describe()
        if run["status"] != "SUCCEEDED":
            raise LocalCloudError(f"{execution_arn}: {run['status']}: {run.get('error')}: {run.get('cause')}")
        return json.loads(run["output"])

    def log_lines(self, function: str) -> list[str]:
        """Return what a function has logged, oldest first; its name is that in app.py, the API's is `app`."""
        group = f"/aws/lambda/{function_name(self.stage, function)}"
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return [event["message"] for page in pages for event in page["events"]]

    def _is_idle(self) -> bool:
        running = self.client("stepfunctions").list_executions(
            stateMachineArn=self.resources.state_machine_arn, statusFilter="RUNNING"
        )
        return not running["executions"]

    def _scheduled_event(self, now: datetime) -> dict[str, object]:
        account = self.client("sts").get_caller_identity()["Account"]
        return {
            "version": "0",
            "id": str(uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": account,
            "time": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "region": self.region,
            "resources": [f"arn:aws:events:{self.region}:{account}:rule/{self.stage}"],
            "detail": {},
        }


@contextlib.contextmanager
def local_cloud(
    stage: str,
    *,
    schedule: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
    local_folder: Path = LOCAL_FOLDER,
) -> Iterator[Cloud]:
    """Run a local cloud of one's own, with nobody but the caller starting runs unless `schedule` is set.

    `on_step` is told what is going on; whatever the cloud keeps is below `local_folder`.
    Raises ThermonetError when anything does not come up.
    """
    on_step("Packaging the application")
    build_package(stage)
    on_step("Starting the emulator")
    with running_emulator(local_folder) as emulator:
        yield deploy_stage(stage, emulator, schedule=schedule, on_step=on_step)


def deploy_stage(
    stage: str,
    emulator: Emulator,
    *,
    schedule: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
    resources: Resources | None = None,
) -> Cloud:
    """Put a stage into a running emulator, on resources of its own unless some are given; raises ThermonetError."""
    settings = load_settings(stage)
    package = build_package(stage)
    client = _client_factory(emulator.endpoint_url)
    if resources is None:
        on_step("Creating the resources")
        resources = create_resources(stage, settings, client)
    on_step("Deploying the application")
    api_url = emulator.endpoint_url + deploy(stage, package, client, schedule=schedule)
    on_step("Waiting for the API")
    wait_until_healthy(api_url)
    return Cloud(stage=stage, api_url=api_url, resources=resources, client=client, emulator=emulator)


def _client_factory(endpoint_url: str) -> ClientFactory:
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)  # noqa: S106 - not one
    return functools.cache(functools.partial(session.client, endpoint_url=endpoint_url))


def _wait_for(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
