"""Plays a stage's life on moto through the real app.py, and records which AWS calls each function makes, to what."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any

import boto3
import pytest
from botocore.loaders import create_loader
from chalice.local import LambdaContext, LambdaEventConverter, RouteMatcher
from chalice.test import Client
from moto import mock_aws

from chalicelib.api.tokens import signing_keys_parameter
from chalicelib.aws import Aws
from chalicelib.errors import ObjectNotFoundError
from chalicelib.landing import landing_key
from chalicelib.ledger import Ledger, run_of
from chalicelib.object_store import ObjectStore
from chalicelib.services import Services
from localcloud.stack import create_resources
from ops.tokens import mint_token
from tests.factories import NOW, landed, measurement_fields, posted
from tests.infra.rights import REGION, Call, calls_of
from tests.workflow_player import WorkflowPlayer

STAGE = "dev"
# Chalice's name for the handler of the API.
API = "api_handler"
_SIGNING_KEYS = {"now": "a key that is no shorter than the hash"}


@cache
def recorded_calls() -> Mapping[str, frozenset[Call]]:
    """Return the calls of each function, by its name in Chalice's configuration, and those of the `workflow` itself."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        # Every process would parse botocore's descriptions anew, which takes longer than all the rest.
        monkeypatch.setattr("botocore.session.create_loader", cache(create_loader))
        # Nothing here is about time.
        monkeypatch.setattr("chalicelib.aws.monotonic", lambda: 0.0)
        with mock_aws():
            life = _Life(monkeypatch)
            life.read_before_the_first_run()
            life.take_readings()
            life.provision()
            for day in range(3):
                life.run(day)
            life.run_without_input()
            life.run_over_a_file()
            life.read()
            life.miss_objects()
            life.start_runs()
            life.fail_behind_readings()
            life.fail_behind_the_queue()
    return {function: frozenset(calls) for function, calls in life.calls.items()}


class _Player(WorkflowPlayer):
    """The workflow on the stage, which calls the functions of app.py, each of them twice: answers can get lost."""

    def __init__(self, life: "_Life") -> None:
        services = life.process("workflow")
        super().__init__(life.app.SETTINGS, ObjectStore(life.resources.bucket, services.aws.s3), services.aws.dynamodb)
        self._life = life

    def _invoke(self, parameters: dict[str, Any]) -> Any:
        function = parameters["FunctionName"].removeprefix("${").removesuffix("_arn}")
        self._life.invoke(function, parameters["Payload"])
        return self._life.invoke(function, parameters["Payload"])


class _Life:
    """A stage, the processes of its functions, and what happens to them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import app

        self.app = app
        self.calls: dict[str, set[Call]] = defaultdict(set)
        # Each function has a process of its own, which asks once for what it needs to know.
        self.process = cache(self._start_process)
        self._monkeypatch = monkeypatch
        self._events = Client(app.app).events
        self._client = cache(boto3.Session().client)
        self.resources = create_resources(STAGE, app.SETTINGS, self._client)
        self._client("ssm").put_parameter(
            Name=signing_keys_parameter(STAGE), Type="SecureString", Value=json.dumps(_SIGNING_KEYS), Overwrite=True
        )
        self._player = _Player(self)

    def _start_process(self, function: str) -> Services:
        aws = Aws(STAGE)
        aws._session.events.register("provide-client-params", partial(self._note, function))
        aws._session.events.register("after-call.s3.GetObject", partial(self._note_missing, function))
        return Services(self.app.SETTINGS, aws)

    def _note(self, function: str, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.calls[function].update(calls_of(model.service_model.signing_name, model.name, params))

    def _note_missing(self, function: str, parsed: dict[str, Any], **_: Any) -> None:
        """Without the right to list, S3 does not tell what is missing from what is forbidden."""
        if parsed.get("Error", {}).get("Code") == "NoSuchKey":
            self.calls[function].update(calls_of("s3", "ListObjectsV2", {"Bucket": self.resources.bucket}))

    def invoke(self, function: str, event: Any) -> Any:
        """Call a function of app.py in its process."""
        self._monkeypatch.setattr(self.app, "services", self.process(function))
        handler = self.app.app if function == API else self.app.app.handler_map[function]
        return handler(event, LambdaContext(function, memory_size=256, max_runtime_ms=20_000))

    def _request(
        self, status: int, path: str, body: Any = None, method: str | None = None, location: str = "*", **headers: str
    ) -> None:
        """Ask as the gateway does once the authorizer has let the token in, and expect the status."""
        method = method or ("GET" if body is None else "POST")
        token = mint_token(_SIGNING_KEYS, "tests", locations=[location])
        asked = {
            "type": "TOKEN",
            "authorizationToken": f"Bearer {token}",
            "methodArn": "arn:aws:execute-api:::api/dev/GET/",
        }
        access = self.invoke("authorize", asked)["context"]
        converter = LambdaEventConverter(RouteMatcher(list(self.app.app.routes)))
        event = converter.create_lambda_event(
            method, path, {"Content-Type": "application/json", **headers}, json.dumps(body).encode()
        )
        event["requestContext"]["authorizer"] = access
        answer = self.invoke(API, event)
        assert answer["statusCode"] == status, answer

    def take_readings(self) -> None:
        """Post single readings and batches, of new sensors, known ones and broken ones, and one of them again."""
        for reading in (posted(sensor_id="good"), posted(sensor_id="good"), posted(sensor_id="bad", value=25_000)):
            self._request(200, "/readings", reading)
        for name, value in (("good", 2_000), ("bad", 25_000)):
            batch = [posted(sensor_id=f"{name}-{number}", value=value) for number in range(2)]
            self._request(200, "/readings", {"readings": batch})
        self._request(200, "/locations/a/sensors/good")

    def provision(self) -> None:
        """Make, change and retire sensors, and let a retired one come back."""
        for thermistor in ("ntc-10k", None):
            self._request(200, "/locations/a/sensors/new", {"thermistor": thermistor}, "PUT")
        self._request(200, "/locations/a/sensors", {"sensors": [{"sensor_id": number} for number in range(2)]})
        self._request(200, "/locations/a/sensors/new", method="DELETE")
        self._request(200, "/readings", posted(sensor_id="new"))

    def read_before_the_first_run(self) -> None:
        """Ask while there is nothing."""
        self._request(200, "/locations")
        self._request(404, "/runs/latest")

    def run(self, day: int) -> None:
        """Buffer a measurement, its duplicate and an undecodable message beside a damaged object, and run.

        A day is one on which a run also does all that the run of the day before has left to do.
        """
        time = NOW + timedelta(days=day - 2)
        good, again = [json.dumps([measurement_fields(timestamp=time.isoformat(), value=value)]) for value in (1, 2)]
        for body in (good, again, "not JSON"):
            event = self._events.generate_sqs_event([body])
            sent = {"SentTimestamp": f"{time.timestamp() * 1_000:.0f}"}
            event["Records"][0] |= {"messageId": body, "attributes": sent}
            self.invoke("buffer_measurements", event)
        self._put(landing_key(time, [landed(timestamp=time)], b"whole", is_late=False), b"damaged")
        assert self._player.run(f"run-{day}", time).passed[-1] == "Reported"

    def run_without_input(self) -> None:
        """Let a run do what the one before has left to do, and another one find nothing."""
        for name, last in (("hand over", "Reported"), ("idle", "NothingToDo")):
            assert self._player.run(name.replace(" ", "-"), NOW).passed[-1] == last

    def run_over_a_file(self) -> None:
        """Run over a static input, which has any name."""
        self._put("my.jsonl", json.dumps(measurement_fields()).encode())
        assert self._player.run("static", NOW, {"source": "S3", "key": "my.jsonl"}).status == "SUCCEEDED"

    def read(self) -> None:
        """Ask for everything that readers can."""
        for path in ("/", "/health", "/assets/dashboard.js", "/locations", "/locations/a/report", "/runs/latest"):
            self._request(200, path)
        self._request(200, "/locations", location="a")
        self._request(200, "/locations/a/report?since=2026-03-01T12:00:00Z")
        self._request(304, "/locations/a/report", **{"If-None-Match": f'"{run_of(self._report_key)}"'})
        self._request(404, "/locations/nowhere/report")
        self._request(404, "/locations/a/sensors/unheard-of")

    def miss_objects(self) -> None:
        """Let objects be gone, as when another run overtakes a reader or a reporter."""
        self._client("s3").delete_object(Bucket=self.resources.bucket, Key=self._report_key)
        self._request(503, "/locations/a/report")
        request = {
            "run_id": "9-f",
            "folder": "runs/9-f",
            "started_at": NOW.isoformat(),
            "scope": {"window_minutes": 5, "history_hours": 24},
            "task": {
                "location_id": "a",
                "increments_key": "scratch/9-f/0/location_id=a.parquet",
                "previous_state_key": None,
                "counts": {},
            },
        }
        with pytest.raises(ObjectNotFoundError):
            self.invoke("reporter", request)

    def start_runs(self) -> None:
        """Let the schedule start a run, and none while that one is going."""
        event = self._events.generate_cw_event("aws.events", "Scheduled Event", {}, [])
        first, second = [self.invoke("start_analytics", event)["execution_arn"] for _ in range(2)]
        assert first
        assert second is None

    def fail_behind_readings(self) -> None:
        """Take queue and topic away: an attempt fails and is forgotten, and an alert's cooldown is given back."""
        self._client("sqs").delete_queue(QueueUrl=self.resources.queue_url)
        self._request(503, "/readings", posted(sensor_id="good", timestamp=datetime.now(UTC).isoformat()))
        self._client("sns").delete_topic(TopicArn=self.resources.topic_arn)
        self._request(200, "/readings", posted(sensor_id="worse", value=25_000))

    def fail_behind_the_queue(self) -> None:
        """Take the ledger away, so that the consumer cannot set a message aside."""
        self._client("dynamodb").delete_table(TableName=self.resources.ledger_table)
        self.invoke("buffer_measurements", self._events.generate_sqs_event(["not JSON"]))

    @property
    def _report_key(self) -> str:
        # By clients of its own, since no function asks here.
        store = ObjectStore(self.resources.bucket, self._client("s3"))
        return Ledger(self.resources.ledger_table, self._client("dynamodb"), store).committed().reports["a"]

    def _put(self, key: str, content: bytes) -> None:
        self._client("s3").put_object(Bucket=self.resources.bucket, Key=key, Body=content)
