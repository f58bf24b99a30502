"""A stage in memory whose every AWS call can be made to fail, or to be the last one of its process.

The real buffer, receiver and reporter run on it; SQS and Step Functions are played: what they retry is retried
here, by a new process. `World.call_log` numbers the calls of a scenario, and a `Fault` strikes at one of them.
"""

import copy
import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from botocore.exceptions import ClientError

from chalicelib.broken_count import BrokenCount
from chalicelib.buffering import Buffer, QueuedMessage
from chalicelib.errors import ObjectNotFoundError
from chalicelib.landing import LANDING_PREFIX, QUARANTINE_PREFIX
from chalicelib.ledger import NO_MANIFEST, Ledger, Manifest
from chalicelib.object_store import ObjectStore
from chalicelib.receiver import Receiver
from chalicelib.reporter import Reporter
from chalicelib.run_summary import locations_summary_key
from chalicelib.settings import AnalyticsSettings
from chalicelib.summarizer import Summarizer
from chalicelib.thermistor import StatusLimits
from chalicelib.workflow import LocationTask, ReportRequest, RunAnswer, RunRequest, SqsInput, SummaryRequest
from tests.fake_s3 import FakeS3
from tests.fakes import FakeDynamoDb
from tests.faulty_aws import Fault, ProcessDiedError, Wire, WiredClient

ASL = json.loads((Path(__file__).parent.parent / "stepfunctions" / "analytics.asl.json").read_text())
LEDGER_TABLE = "analytics-runs"
SETTINGS = AnalyticsSettings(window_minutes=5, history_hours=24, max_concurrency=2, duckdb_memory_limit_mb=200)
STATUS_LIMITS = StatusLimits(TEMPERATURE_TOO_LOW=20.0, OK=100.0, TEMPERATURE_TOO_HIGH=250.0)
START = datetime(2026, 1, 31, 9, tzinfo=UTC)
# How often Step Functions tries a state again before the workflow fails.
STATE_ATTEMPTS = 3


class World:
    """Everything that outlives a process: the bucket, the ledger, the queue and the time."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.s3 = FakeS3()
        self.dynamodb = FakeDynamoDb({LEDGER_TABLE: "id"})
        self.queue: list[QueuedMessage] = []
        self.sent: list[QueuedMessage] = []
        self.accepted = 0
        self.committed: dict[str, Manifest] = {}
        self.call_log: list[str] = []
        self.fault: Fault | None = None
        self._now = START
        self._uuids = itertools.count(1)

    def snapshot(self) -> "World":
        """Return a copy that goes its own way."""
        scratch, self.scratch = self.scratch, Path()
        twin = copy.deepcopy(self)
        self.scratch = twin.scratch = scratch
        return twin

    # What the outside does

    def send(self, message_id: str, measurements: list[dict[str, Any]] | str) -> None:
        """Queue a message: accepted measurements, or text that nobody can decode."""
        body = measurements if isinstance(measurements, str) else json.dumps(measurements)
        if not isinstance(measurements, str):
            self.accepted += len(measurements)
        message = QueuedMessage(message_id, body, queued_at_ms=len(self.sent))
        self.sent.append(message)
        self.queue.append(message)

    def consume(self) -> None:
        """Deliver what is queued as one batch; it stays queued unless consumer and queue part in peace."""
        batch = list(self.queue)
        wire = Wire(self)
        buffer = Buffer(self._store(wire), self._clock, self._new_uuid)

        def forget() -> None:
            self.queue = [message for message in self.queue if message not in batch]

        try:
            buffer.store(batch)
            wire.call("delete_message_batch", forget)
        except (ProcessDiedError, ClientError):
            pass  # the messages become visible again

    def run(self, run_id: str) -> str:
        """Play a scheduled run of the workflow; return the state it ends in."""
        return Workflow(self, run_id).play()

    def prepare(self, run_id: str) -> RunAnswer:
        """Run nothing but the receiver."""
        return self.process()[1].receive(RunRequest(run_id, START, SqsInput()))

    # What is there in the end

    def committed_chain(self) -> list[Manifest]:
        """Return the manifests of all committed runs, the last one first."""
        head = self.dynamodb.tables[LEDGER_TABLE].get("head")
        chain = []
        run_id = head["run_id"]["S"] if head else NO_MANIFEST.run_id
        while run_id != NO_MANIFEST.run_id:
            chain.append(self.committed[run_id])
            run_id = chain[-1].previous_run_id
        return chain

    def minutes(self) -> dict[str, bytes]:
        """Return the bytes of every location's minutes, as readers find them from the head."""
        chain = self.committed_chain()
        reports = chain[0].reports if chain else {}
        return {location: self.s3.objects[key].partition(b'"minutes":')[2] for location, key in reports.items()}

    def latest(self) -> bytes:
        """Return what readers see of all locations."""
        chain = self.committed_chain()
        return self.s3.objects[locations_summary_key(chain[0].run_id)] if chain else b""

    def landed(self) -> list[str]:
        """Return the keys of the landing objects that are left."""
        return [key for key in self.s3.objects if key.startswith(LANDING_PREFIX)]

    def quarantined(self) -> list[str]:
        """Return the keys in quarantine."""
        return [key for key in self.s3.objects if key.startswith(QUARANTINE_PREFIX)]

    # What processes are made of

    def process(self) -> tuple[Wire, Receiver, Reporter]:
        """Start a process that has the receiver and the reporter."""
        wire = Wire(self)
        store = self._store(wire)
        dynamodb: Any = WiredClient(self.dynamodb, wire)
        ledger, broken_count = Ledger(LEDGER_TABLE, dynamodb, store), BrokenCount(LEDGER_TABLE, dynamodb)
        receiver = Receiver(SETTINGS, store, ledger, broken_count, self._new_uuid, self.scratch)
        return wire, receiver, Reporter(SETTINGS, store, self.scratch)

    def summarizer(self) -> Summarizer:
        """Start a process that sums a run up."""
        store = self._store(wire := Wire(self))
        ledger = Ledger(LEDGER_TABLE, WiredClient(self.dynamodb, wire), store)  # type: ignore[arg-type]
        return Summarizer(STATUS_LIMITS, store, ledger)

    def _store(self, wire: Wire) -> ObjectStore:
        # One connection, so that calls come in one order.
        return ObjectStore("bucket", WiredClient(self.s3, wire), connections=1)  # type: ignore[arg-type]

    def _clock(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    def _new_uuid(self) -> UUID:
        return UUID(int=next(self._uuids))


class StateFailedError(Exception):
    """A state of the workflow failed for good."""


class Workflow:
    """One execution, state by state, so that a test can stop in between."""

    def __init__(self, world: World, run_id: str) -> None:
        self._world = world
        self._run_id = run_id
        self.answer: Any = None

    def play(self) -> str:
        """Run all states; return the last one's name as in the ASL."""
        try:
            if not self.receive():
                return "NothingToReport"
            self.report()
            return self.commit()
        except StateFailedError:
            return "Failed"

    def receive(self) -> bool:
        """Run the receiver; return whether there is anything to report."""
        request = RunRequest(self._run_id, START, SqsInput())
        self.answer = self._attempt(lambda: self._world.process()[1].receive(request))
        return bool(self.answer.has_input)

    def report(self) -> None:
        """Run a reporter for every location, and sum the run up."""
        items = self._world.s3.objects[self.answer.locations_key]
        for task in msgspec.json.decode(items, type=list[LocationTask]):
            request = ReportRequest(self._run_id, START, task)
            self._attempt(lambda request=request: self._world.process()[2].report(request))
        self._attempt(lambda: self._world.summarizer().summarize(SummaryRequest(self._run_id)))

    def commit(self) -> str:
        """Make the ledger's conditional update, with the expressions of the ASL."""
        parameters = ASL["States"]["Commit"]["Parameters"]
        values = {
            ":run_id": self.answer.run_id,
            ":previous_run_id": self.answer.previous_run_id,
            ":manifest_key": self.answer.manifest_key,
            ":started_at": START.isoformat(),
        }
        assert values.keys() == parameters["ExpressionAttributeValues"].keys()

        def update() -> None:
            content = self._world.s3.objects[self.answer.manifest_key]
            self._world.dynamodb.update_item(
                TableName=LEDGER_TABLE,
                Key=parameters["Key"],
                UpdateExpression=parameters["UpdateExpression"],
                ConditionExpression=parameters["ConditionExpression"],
                ExpressionAttributeValues={name: {"S": value} for name, value in values.items()},
            )
            # The bucket forgets manifests in time; a test wants to look at all of them.
            self._world.committed[self._run_id] = msgspec.json.decode(content, type=Manifest)

        try:
            self._attempt(lambda: Wire(self._world).call("update_item", update))
        except FakeDynamoDb.exceptions.ConditionalCheckFailedException:
            return "Overtaken"
        return "Reported"

    def _attempt(self, invoke: Callable[[], Any]) -> Any:
        """Invoke as Step Functions does: again after an error or a lost answer, until it gives up."""
        for _ in range(STATE_ATTEMPTS):
            try:
                return invoke()
            except FakeDynamoDb.exceptions.ConditionalCheckFailedException:
                raise
            except (ProcessDiedError, ClientError, ObjectNotFoundError):
                if self._world.fault and self._world.fault.kind == "death":
                    break
        raise StateFailedError
