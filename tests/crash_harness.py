"""A stage in memory whose every AWS call can be made to fail, or to be the last one of its process.

The real buffer and the real workflow run on it, with what Step Functions retries; SQS is played. `World.call_log`
numbers the calls of a scenario, and a `Fault` strikes at one of them.
"""

import copy
import json
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from botocore.exceptions import ClientError

from chalicelib.ingest.buffering import Buffer, QueuedMessage
from chalicelib.landing import LANDING_PREFIX, QUARANTINE_PREFIX
from chalicelib.ledger import NO_MANIFEST, Manifest, manifest_key
from chalicelib.reports import locations_summary_key
from tests.contracts import LEDGER_TABLE
from tests.factories import NOW, analytics_settings
from tests.fake_s3 import FakeObjectStore, FakePaginator
from tests.fakes import FakeDynamoDb, service_error
from tests.workflow_player import Execution, Process, TaskFailedError, WorkflowPlayer

# What Step Functions calls it.
NO_ANSWER = {
    "arn:aws:states:::lambda:invoke": "Lambda.Unknown",
    "arn:aws:states:::s3:getObject": "States.ItemReaderFailed",
    "arn:aws:states:::dynamodb:updateItem": "States.Timeout",
}


class ProcessDiedError(BaseException):
    """The process is gone; no handler of it may run, hence no Exception."""


class ExecutionAbortedError(Exception):
    """The workflow is gone, in the middle of a state."""


class Fault(NamedTuple):
    """What goes wrong with one call.

    `effect` tells whether the call took effect. `kind` is "error" (the process sees one), "death" (the process is
    gone, which the workflow learns), or "abort" (the workflow is gone with it, and nothing happens before somebody
    redrives it or the next scheduled run starts).
    """

    call: int
    effect: bool
    kind: str


class Wire:
    """Between a process and its services: numbers the calls, and lets the fault strike."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._dead = False

    def call(self, name: str, function: Callable[[], Any]) -> Any:
        """Make a call, or fail as the fault wants it."""
        if self._dead:
            raise ProcessDiedError(name)
        number = len(self._world.call_log)
        self._world.call_log.append(name)
        fault = self._world.fault
        if fault is None or fault.call != number:
            return function()
        if fault.effect:
            function()
        if fault.kind == "error":
            raise service_error("ServiceUnavailable", name)
        self._dead = True
        raise ProcessDiedError(name)


class WiredClient:
    """A boto3 client whose calls go over the wire."""

    def __init__(self, client: Any, wire: Wire) -> None:
        self._client = client
        self._wire = wire
        self.exceptions = client.exceptions

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        method = getattr(self._client, operation)
        return lambda **arguments: self._wire.call(operation, lambda: method(**arguments))

    def get_paginator(self, operation: str) -> FakePaginator:
        return FakePaginator(getattr(self, operation))


class World(WorkflowPlayer):
    """Everything that outlives a process: the bucket, the ledger, the queue, an execution, and the time."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(analytics_settings(), FakeObjectStore(), FakeDynamoDb({LEDGER_TABLE: "id"}))
        self.scratch = scratch
        self.queue: list[QueuedMessage] = []
        self.sent: list[QueuedMessage] = []
        self.accepted = 0
        self.call_log: list[str] = []
        self.fault: Fault | None = None
        self.execution: Execution | None = None
        self._now = NOW
        self._uuids = 0

    def snapshot(self) -> "World":
        """Return a copy that goes its own way."""
        return copy.deepcopy(self)

    def state(self) -> Hashable:
        """Return all that decides what comes from now on, if no fault does, and all notified and committed so far."""
        outcome = repr((self.notifications, self.dynamodb.tables, self.committed_chain()))
        execution = self.execution.position if self.execution else None
        objects = frozenset(self.store.s3.objects.items())
        return outcome, execution, objects, tuple(self.queue), self._now, self._uuids

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
        buffer = Buffer(self._wired_store(wire), self._clock, self._new_uuid)

        def forget() -> None:
            self.queue = [message for message in self.queue if message not in batch]

        try:
            buffer.store(batch)
            wire.call("delete_message_batch", forget)
        except (ProcessDiedError, ClientError):
            pass  # the messages become visible again

    # What is there in the end

    def committed_chain(self) -> list[Manifest]:
        """Return the manifests of all committed runs, the last one first."""
        run_id = self.ledger.head() or NO_MANIFEST.run_id
        chain = []
        while run_id != NO_MANIFEST.run_id:
            # The bucket forgets manifests in time; a test wants to look at all of them.
            content = self.store.s3.history[manifest_key(run_id)]
            chain.append(msgspec.json.decode(content, type=Manifest))
            run_id = chain[-1].previous_run_id
        return chain

    def minutes(self) -> dict[str, bytes]:
        """Return the bytes of every location's minutes, as readers find them from the head."""
        reports = self.committed().reports
        return {location: self.store.get(key).partition(b'"minutes":')[2] for location, key in reports.items()}

    def latest(self) -> bytes:
        """Return what readers see of all locations."""
        head = self.ledger.head()
        return self.store.get(locations_summary_key(head)) if head else b""

    def landed(self) -> list[str]:
        """Return the keys of the landing objects that are left."""
        return self.store.list_keys(LANDING_PREFIX)

    def quarantined(self) -> list[str]:
        """Return the keys in quarantine."""
        return self.store.list_keys(QUARANTINE_PREFIX)

    # What processes are made of

    def process(self) -> Process:
        """Start a process with a wire of its own."""
        wire = Wire(self)
        dynamodb = WiredClient(self.dynamodb, wire)
        return Process(self.settings, self._wired_store(wire), dynamodb, self._new_uuid, self.scratch)

    def perform(self, resource: str, parameters: dict[str, Any]) -> Any:
        """Do a task, and tell its end as Step Functions does when the process is gone."""
        try:
            return super().perform(resource, parameters)
        except ProcessDiedError as death:
            if self.fault and self.fault.kind == "abort":
                raise ExecutionAbortedError(resource) from death
            raise TaskFailedError(NO_ANSWER[resource], "no answer") from death

    def _wired_store(self, wire: Wire) -> FakeObjectStore:
        return FakeObjectStore(WiredClient(self.store.s3, wire))

    def _clock(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    def _new_uuid(self) -> UUID:
        self._uuids += 1
        return UUID(int=self._uuids)
