"""A stage in memory that owners of several locations use at once: the real app.py on fakes, at times that a test sets.

Far faster than moto, so that ten thousand requests are no matter.
"""

import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from chalice.local import RouteMatcher
from msgspec import structs

from chalicelib.api.tokens import signing_keys_parameter
from chalicelib.aws import Resources
from chalicelib.settings import LimitSettings
from ops.tokens import mint_token
from tests.contracts import LEDGER_TABLE, REGISTRY_TABLE
from tests.factories import NOW
from tests.fake_s3 import FakeObjectStore
from tests.fakes import FakeDynamoDb, FakeLambdaContext, FakeSns
from tests.workflow_player import Process, WorkflowPlayer

_CLAIMS_TABLE = "thermonet-dev-idempotency"
_SIGNING_KEYS = {"now": "the key that new tokens are signed with"}
_RECORDS_PER_EVENT = 50
_POWERTOOLS = "aws_lambda_powertools.utilities.idempotency"


class Request(NamedTuple):
    """A request by the owner of a location, so many seconds after NOW."""

    at: float
    location_id: str
    method: str
    path: str
    body: bytes = b""


class Answer(NamedTuple):
    """All that the caller gets to see."""

    status: int
    headers: dict[str, Any]
    body: str


class Clock:
    """The time of everything on the stage."""

    def __init__(self) -> None:
        self.now = NOW

    def set(self, seconds: float) -> None:
        self.now = NOW + dt.timedelta(seconds=seconds)

    def seconds(self) -> float:
        return self.now.timestamp()

    def pervade(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be the clock of the application, of Powertools, and of whoever mints tokens."""
        import app

        class Datetime(dt.datetime):
            now = staticmethod(lambda *_: self.now)

        for module in ("base", "persistence.base", "persistence.datarecord", "persistence.dynamodb"):
            stand_in = SimpleNamespace(datetime=Datetime, timedelta=dt.timedelta)
            monkeypatch.setattr(f"{_POWERTOOLS}.{module}.dt", stand_in)
        times = SimpleNamespace(time=self.seconds, monotonic=self.seconds)
        monkeypatch.setattr("chalicelib.services.time", times)
        monkeypatch.setattr("chalicelib.services._utc_now", lambda: self.now)
        monkeypatch.setattr("ops.tokens.time", times)
        monkeypatch.setattr(app.routes, "_clock", self.seconds)


class TimedSqs:
    """A queue that notes when a message was sent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent = 0
        self._waiting: list[dict[str, Any]] = []

    def send_message(self, *, MessageBody: str, **_: Any) -> dict[str, Any]:
        self._sent += 1
        sent_at_ms = str(round(self._clock.seconds() * 1_000))
        attributes = {"SentTimestamp": sent_at_ms}
        self._waiting.append({"messageId": f"m{self._sent}", "body": MessageBody, "attributes": attributes})
        return {}

    def take(self) -> list[dict[str, Any]]:
        """Return what waits, as a function gets it."""
        taken, self._waiting = self._waiting, []
        return taken


class _Player(WorkflowPlayer):
    """The workflow, which nothing interrupts: its tries may all have one name, whatever neighbours do."""

    def process(self) -> Process:
        return Process(self.settings, self.store, self.dynamodb, lambda: UUID(int=0))


class SharedStage:
    """The stage, what was answered to each owner, and what became of each location."""

    def __init__(self, clock: Clock, limits: LimitSettings) -> None:
        import app
        from chalicelib.services import Services

        self._app = app
        self._clock = clock
        self.store = FakeObjectStore()
        self.dynamodb = FakeDynamoDb({REGISTRY_TABLE: "sensor_id", _CLAIMS_TABLE: "id", LEDGER_TABLE: "id"})
        self.sqs, self.sns = TimedSqs(clock), FakeSns()
        parameters = {signing_keys_parameter("dev"): json.dumps(_SIGNING_KEYS)}
        aws: Any = SimpleNamespace(
            stage="dev",
            resources=Resources(
                REGISTRY_TABLE, _CLAIMS_TABLE, LEDGER_TABLE, "bucket", "queue", "dead-letters", "topic", "machine"
            ),
            ssm=SimpleNamespace(get_parameter=lambda Name, **_: {"Parameter": {"Value": parameters[Name]}}),
            dynamodb=self.dynamodb,
            sqs=self.sqs,
            sns=self.sns,
            s3=self.store.s3,
            s3_online=self.store.s3,
        )
        settings = structs.replace(app.SETTINGS, limits=limits)
        app.services = Services(settings, aws, on_refused=app.count_refused)
        self._player = _Player(settings, self.store, self.dynamodb)
        self._routes = RouteMatcher(list(app.app.routes))
        self._contexts: dict[str, Any] = {}
        self.queued: defaultdict[str, list[Any]] = defaultdict(list)
        self.reports: defaultdict[str, list[Any]] = defaultdict(list)

    def answer(self, request: Request) -> Answer:
        """Answer a request as the gateway does, with a token that is for its owner's location."""
        self._clock.set(request.at)
        route, captured, query = self._routes.match_route(request.path)
        event = {
            "requestContext": {
                "httpMethod": request.method,
                "resourcePath": route,
                "path": request.path,
                "authorizer": self._context_of(request.location_id),
            },
            "headers": {"content-type": "application/json"},
            "multiValueHeaders": {"content-type": ["application/json"]},
            "multiValueQueryStringParameters": query or None,
            "pathParameters": captured or None,
            "stageVariables": None,
            "body": request.body.decode("utf-8", "replace"),
            "isBase64Encoded": False,
        }
        answer = self._app.app(event, FakeLambdaContext())
        return Answer(answer["statusCode"], answer["multiValueHeaders"] | answer["headers"], answer["body"])

    def run(self, at: float, number: int) -> None:
        """Let the consumer take what is queued, and the workflow what has landed."""
        self._clock.set(at)
        records = self.sqs.take()
        for measurement in (one for record in records for one in json.loads(record["body"])):
            self.queued[measurement["location_id"]].append(measurement)
        for start in range(0, len(records), _RECORDS_PER_EVENT):
            self._app.buffer_measurements({"Records": records[start : start + _RECORDS_PER_EVENT]}, FakeLambdaContext())
        execution = self._player.run(f"run-{number}", self._clock.now)
        assert execution.status == "SUCCEEDED", execution.error
        for location_id, report in self._player.reports().items():
            self.reports[location_id].append(msgspec.to_builtins(report))

    def seen_of(self, location_id: str) -> dict[str, Any]:
        """Return what there is about a location, apart from answers."""
        registry, ledger = self.dynamodb.tables[REGISTRY_TABLE], self.dynamodb.tables[LEDGER_TABLE]
        claims = self.dynamodb.tables[_CLAIMS_TABLE]
        alerts = [(one, json.loads(one["Message"])) for one in self.sns.published]
        return {
            "sensors": {key: row for key, row in registry.items() if key.startswith(f"{location_id}/")},
            "counted": ledger.get(f"location/{location_id}"),
            "alerts": [one for one, message in alerts if message["location_id"] == location_id],
            "quiet": {key: item for key, item in claims.items() if key.startswith(f"alert#{location_id}/")},
            "queued": self.queued[location_id],
            "reports": self.reports[location_id],
        }

    def remembered(self) -> dict[str, Any]:
        """Return what is remembered of requests, whoever sent them."""
        claims = self.dynamodb.tables[_CLAIMS_TABLE]
        return {key: item for key, item in claims.items() if not key.startswith("alert#")}

    def totals(self) -> Counter[str]:
        """Return the figures that all locations share: how many there are, and how many sensors have broken."""
        ledger = self.dynamodb.tables[LEDGER_TABLE]
        totals = Counter({"locations": int(ledger["locations"]["locations"]["N"])})
        totals["broken"] = sum(int(row["sensors"]["N"]) for key, row in ledger.items() if key.startswith("broken-"))
        return totals

    def _context_of(self, location_id: str) -> Any:
        """Return what the gateway keeps of the authorizer's answer."""
        if location_id not in self._contexts:
            token = mint_token(_SIGNING_KEYS, f"owner of {location_id}", locations=[location_id])
            event = {
                "type": "TOKEN",
                "authorizationToken": f"Bearer {token}",
                "methodArn": "arn:aws:execute-api:us-east-1:123456789012:api/dev/GET/locations",
            }
            answer = self._app.authorize(event, FakeLambdaContext())
            self._contexts[location_id] = {**answer["context"], "principalId": answer["principalId"]}
        return self._contexts[location_id]


@contextmanager
def shared_stage(limits: LimitSettings) -> Iterator[SharedStage]:
    """Make a stage, with the app's process just started."""
    import app

    with pytest.MonkeyPatch.context() as monkeypatch:
        # Put back when the stage goes.
        monkeypatch.setattr(app, "services", None)
        clock = Clock()
        clock.pervade(monkeypatch)
        yield SharedStage(clock, limits)


def play(stage: SharedStage, requests: Sequence[Request], runs_at: Sequence[float]) -> dict[str, list[Answer]]:
    """Send requests in the order of their times, and run the workflow in between; return each owner's answers."""
    answers: defaultdict[str, list[Answer]] = defaultdict(list)
    runs = list(enumerate(runs_at))
    for request in requests:
        while runs and runs[0][1] <= request.at:
            number, at = runs.pop(0)
            stage.run(at, number)
        answers[request.location_id].append(stage.answer(request))
    assert not runs, "the last request reads what the last run left"
    return answers
