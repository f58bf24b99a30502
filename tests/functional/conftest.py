"""AWS in memory (moto), with the resources of a stage, behind the real app.py."""

import copy
import functools
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import moto.dynamodb.models
import pytest
from botocore.loaders import create_loader
from chalice.test import Client
from moto import mock_aws
from moto.dynamodb.models.table import Table
from msgspec import structs

from chalicelib.api.tokens import signing_keys_parameter
from chalicelib.settings import load_settings
from localcloud.stack import create_resources
from ops.tokens import mint_token
from simulator.__main__ import main
from tests.faults import AwsCalls
from tests.functional.simulator_stub import CONFIG, serve_stub

STAGE = "dev"
SIGNING_KEYS = {"before": "an older key, still in use somewhere", "now": "the key that new tokens are signed with"}
REGION = "us-east-1"


@dataclass(frozen=True)
class Stage:
    """A stage's resources and the app that runs on them."""

    http: Any
    lambdas: Any
    resources: dict[str, str]
    token: str

    def aws(self, service: str) -> Any:
        return client(service)

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}

    def post(self, reading: Any, **headers: str) -> Any:
        body = reading if isinstance(reading, (str, bytes)) else json.dumps(reading)
        return self.http.post("/readings", headers={**self.headers, **headers}, body=body)

    def get(self, path: str, **headers: str) -> Any:
        return self.http.get(path, headers={"Authorization": f"Bearer {self.token}", **headers})

    def queued(self) -> list[dict[str, Any]]:
        """Take every measurement out of the queue."""
        measurements: list[dict[str, Any]] = []
        sqs = self.aws("sqs")
        while messages := sqs.receive_message(QueueUrl=self.resources["queue_url"], MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                measurements += json.loads(message["Body"])
        return measurements

    def keys(self, prefix: str) -> list[str]:
        listed = self.aws("s3").list_objects_v2(Bucket=self.resources["bucket"], Prefix=prefix)
        return [content["Key"] for content in listed.get("Contents", [])]

    def object(self, key: str) -> bytes:
        return self.aws("s3").get_object(Bucket=self.resources["bucket"], Key=key)["Body"].read()

    def put_object(self, key: str, content: bytes) -> None:
        self.aws("s3").put_object(Bucket=self.resources["bucket"], Key=key, Body=content)


@pytest.fixture(scope="session", autouse=True)
def _read_service_descriptions_once() -> Iterator[None]:
    """Spare every test the parsing of botocore's service descriptions, most of what a stage costs."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("botocore.session.create_loader", functools.cache(create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _back_up_tables_once_in_a_transaction() -> Iterator[None]:
    """Spare moto a copy of the whole table for every single part of a transaction, which takes it half a minute."""
    copies: ContextVar[dict[int, Any] | None] = ContextVar("copies", default=None)
    write = moto.dynamodb.models.DynamoDBBackend.transact_write_items

    def write_with_one_copy(backend: Any, parts: Any) -> None:
        token = copies.set({})
        try:
            write(backend, parts)
        finally:
            copies.reset(token)

    def deepcopy(value: Any) -> Any:
        made = copies.get()
        if made is None or not isinstance(value, Table):
            return copy.deepcopy(value)
        return made[id(value)] if id(value) in made else made.setdefault(id(value), copy.deepcopy(value))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(moto.dynamodb.models, "copy", SimpleNamespace(deepcopy=deepcopy))
        monkeypatch.setattr(moto.dynamodb.models.DynamoDBBackend, "transact_write_items", write_with_one_copy)
        yield


@functools.cache
def client(service: str) -> Any:
    """Return a client of the tests; moto answers it with what the test's own stage has."""
    return boto3.client(service, region_name=REGION)


@contextmanager
def running_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Make a stage in memory, with the app's process just started."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("THERMONET_STAGE", STAGE)
    import app as app_module
    from chalicelib.aws import Aws
    from chalicelib.services import Services

    with mock_aws():
        resources = make_stage()
        monkeypatch.setattr(
            app_module, "services", Services(app_module.SETTINGS, Aws(STAGE), on_refused=app_module.count_refused)
        )
        # moto may be slow on a busy machine; that a request runs out of time is for test_time_limits.py.
        monkeypatch.setattr("chalicelib.aws.monotonic", lambda: 0.0)
        with Client(app_module.app, stage_name=STAGE) as app_client:
            yield Stage(app_client.http, app_client.lambda_, resources, mint_token(SIGNING_KEYS, "tests"))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage of the test's own."""
    with running_stage(monkeypatch) as stage:
        yield stage


def make_stage() -> dict[str, str]:
    """Make what Terraform makes, as the local cloud does, with keys that tests know."""
    resources = create_resources(STAGE, load_settings(STAGE), client)
    client("ssm").put_parameter(
        Name=signing_keys_parameter(STAGE), Type="SecureString", Value=json.dumps(SIGNING_KEYS), Overwrite=True
    )
    return structs.asdict(resources)


@pytest.fixture
def aws_calls(monkeypatch: pytest.MonkeyPatch) -> AwsCalls:
    """Watch every call that any client makes from now on, and let some fail."""
    return AwsCalls(monkeypatch)


@pytest.fixture
def restart(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which the app's process knows nothing that it knew."""
    import app as app_module
    from chalicelib.aws import Aws
    from chalicelib.services import Services

    return lambda: monkeypatch.setattr(
        app_module, "services", Services(app_module.SETTINGS, Aws(STAGE), on_refused=app_module.count_refused)
    )


@pytest.fixture
def log_lines(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that the application logs, as they are written."""
    import app

    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Lines()
    handler.setFormatter(app.logger.registered_formatter)
    for name in ("thermonet", "chalicelib"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [handler])
    return lines


@pytest.fixture
def api() -> Iterator[Any]:
    """An API of its own for a simulator, which remembers what is posted."""
    with serve_stub() as stub:
        yield stub


@pytest.fixture
def run(api: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """The command `run` against the API, with a dump; returns the exit code and what it printed."""

    def run_simulator(*options: str, config: str = CONFIG, environment: dict[str, str] | None = None) -> Any:
        path = tmp_path / "sensors.yaml"
        path.write_text(config)
        arguments = ["run", "--config", str(path), "--url", api.url, "--dump", str(tmp_path / "dump.csv")]
        code = main([*arguments, *options], environment or {}, api.clock)
        return code, capsys.readouterr()

    return run_simulator
