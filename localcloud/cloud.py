"""The local cloud: the emulator with one stage deployed in it, and what a demo or a test does with it."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from chalicelib.api.access import Scope
from chalicelib.aws import Resources
from chalicelib.errors import ThermonetError
from chalicelib.ledger import Ledger
from chalicelib.object_store import ObjectStore
from chalicelib.settings import load_settings
from localcloud.emulator import Emulator, running_emulator
from localcloud.polling import polls
from localcloud.stack import create_resources, deploy, function_name, wait_until_healthy
from ops.packaging import build_package
from ops.project import LOCAL_FOLDER, REGION
from ops.running_cloud import ClientFactory, client_factory
from ops.tokens import DAY_SECONDS, mint_token, read_keys
from ops.wheels import Platform

# However slow the machine is.
_WAIT_SECONDS = 600
_TOKEN_SECONDS = 30 * DAY_SECONDS


class LocalCloudError(ThermonetError):
    """The local cloud is missing, in the way, or does not do what it should within its time."""


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
        """The address of every AWS service."""
        return self.emulator.endpoint_url

    @property
    def identity(self) -> str:
        """Tells this cloud from any other that is or will be at its address."""
        return self.emulator.identity

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

    @property
    def dashboard_link(self) -> str:
        """The address that opens the dashboard signed in, with a token for that alone."""
        keys = read_keys(self.stage, self.client("ssm"))
        token = mint_token(keys, "dashboard", scopes=[Scope.READ_REPORTS], lifetime_seconds=_TOKEN_SECONDS)
        return f"{self.api_url}/#token={token}"

    @functools.cached_property
    def store(self) -> ObjectStore:
        """The stage's bucket."""
        return ObjectStore(self.resources.bucket, self.client("s3"))

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The stage's run ledger."""
        return Ledger(self.resources.ledger_table, self.client("dynamodb"), self.store)

    @functools.cached_property
    def account_id(self) -> str:
        """The emulated account."""
        return str(self.client("sts").get_caller_identity()["Account"])

    @functools.cached_property
    def functions(self) -> tuple[str, ...]:
        """The names of the deployed functions, sorted."""
        functions = self.client("lambda").list_functions()["Functions"]
        return tuple(sorted(function["FunctionName"] for function in functions))

    def require_up(self) -> None:
        """Raise LocalCloudError, which says why, if the cloud is down."""
        if self.emulator.process.poll() is not None:
            raise LocalCloudError("the emulator has ended by itself")
        if not self.emulator.is_up:
            raise LocalCloudError(f"{self.emulator.folder.parents[1]} was removed meanwhile")

    def wait_until_drained(self) -> None:
        """Wait until every queued message is consumed; raises LocalCloudError with how many are left."""
        for _ in polls(_WAIT_SECONDS):
            left = self.count_messages(self.resources.queue_url)
            if not left:
                return
        raise LocalCloudError(f"messages still in the queue after {_WAIT_SECONDS} s: {left}")

    def count_messages(self, queue_url: str) -> int:
        """Count the messages of a queue: waiting, being consumed, and waiting to be tried again."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        queue = self.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
        return sum(int(queue["Attributes"][name]) for name in names)

    def count_objects(self, prefix: str) -> int:
        """Count the bucket's objects whose keys begin with the prefix."""
        return len(self.store.list_keys(prefix))

    def start_analytics(self, now: datetime | None = None) -> str:
        """Start a run as the schedule would, after the one that may be going; returns its ARN.

        Raises LocalCloudError when no run starts, as for a time that is given and has had its run.
        """
        running = {"stateMachineArn": self.resources.state_machine_arn, "statusFilter": "RUNNING"}
        for _ in polls(_WAIT_SECONDS):
            if not self.client("stepfunctions").list_executions(**running)["executions"]:
                if started := self._invoke_start_analytics(now or datetime.now(UTC)):
                    return started
                # A run is named after its second, which the next try does not share.
                if now is not None:
                    raise LocalCloudError(f"start_analytics started no run: {now} has had one, or one is going")
        raise LocalCloudError(f"a run is still going after {_WAIT_SECONDS} s")

    def _invoke_start_analytics(self, now: datetime) -> str | None:
        answer = self.client("lambda").invoke(
            FunctionName=function_name(self.stage, "start_analytics"),
            Payload=json.dumps(self._scheduled_event(now)),
        )
        payload = answer["Payload"].read().decode()
        if "FunctionError" in answer:
            raise LocalCloudError(f"start_analytics failed: {payload}")
        started: str | None = json.loads(payload)["execution_arn"]
        return started

    def wait_for_run(self, execution_arn: str) -> Any:
        """Wait for a run and return its output, decoded; raises LocalCloudError with a failure's cause."""
        for _ in polls(_WAIT_SECONDS):
            run = self.client("stepfunctions").describe_execution(executionArn=execution_arn)
            if run["status"] == "SUCCEEDED":
                return json.loads(run["output"])
            if run["status"] != "RUNNING":
                raise LocalCloudError(f"{execution_arn}: {run['status']}: {run.get('error')}: {run.get('cause')}")
        raise LocalCloudError(f"{execution_arn} is still running after {_WAIT_SECONDS} s")

    def _scheduled_event(self, now: datetime) -> dict[str, object]:
        return {
            "version": "0",
            "id": str(uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": self.account_id,
            "time": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "region": self.region,
            "resources": [f"arn:aws:events:{self.region}:{self.account_id}:rule/{self.stage}"],
            "detail": {},
        }


def start_processes(api_url: str, token: str, count: int) -> None:
    """Have `count` requests answered at a time, so that processes for as many are up before the first reading is due.

    Raises LocalCloudError when one is not answered.
    """
    address = urlsplit(api_url)

    def ask(_number: int) -> None:
        # It needs the authorizer and a table, as readings do. Before the first run the answer is 404.
        with contextlib.closing(HTTPConnection(address.netloc, timeout=_WAIT_SECONDS)) as connection:
            connection.request("GET", f"{address.path}/runs/latest", headers={"Authorization": f"Bearer {token}"})
            connection.getresponse().read()

    with ThreadPoolExecutor(count) as pool:
        try:
            list(pool.map(ask, range(count)))
        except (OSError, HTTPException) as error:
            raise LocalCloudError(f"GET {api_url}/runs/latest: {error}") from None


@contextlib.contextmanager
def local_cloud(
    stage: str,
    *,
    schedule: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
    local_folder: Path = LOCAL_FOLDER,
    port: int | None = None,
) -> Iterator[Cloud]:
    """Run a local cloud of one's own, with nobody but the caller starting runs unless `schedule` is set.

    `on_step` gets a line for each step; what the cloud keeps is below `local_folder`. `port` is taken if it is free.
    Raises ThermonetError when anything does not come up.
    """
    on_step("Starting the emulator")
    with running_emulator(local_folder, port=port) as emulator:
        yield deploy_stage(stage, emulator, schedule=schedule, on_step=on_step)


def deploy_stage(
    stage: str,
    emulator: Emulator,
    *,
    schedule: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
    resources: Resources | None = None,
    platform: Platform | None = None,
) -> Cloud:
    """Put a stage into a running emulator, on resources of its own unless some are given; raises ThermonetError.

    `platform` is what its package is for, where that is not what this machine can run.
    """
    client = client_factory(emulator.endpoint_url)
    if resources is None:
        on_step("Creating the resources")
        resources = create_resources(stage, load_settings(stage), client)
    on_step("Packaging the application")
    package = build_package(stage, platform or Platform.of_local_cloud())
    on_step("Deploying the application")
    api_url = emulator.endpoint_url + deploy(stage, package, client, schedule=schedule)
    on_step("Waiting for the API")
    wait_until_healthy(api_url)
    return Cloud(stage=stage, api_url=api_url, resources=resources, client=client, emulator=emulator)
