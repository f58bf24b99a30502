"""A stage in memory whose every AWS call can be made to fail, or to be the last one of its process, or to come late.

The real buffer and the real workflow run on it, with what Step Functions retries; SQS is played. `World.call_log`
numbers the calls of a scenario, and a `Fault` strikes at one of them.
"""

import copy
import itertools
import json
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from botocore.exceptions import ClientError

from chalicelib.ingest.buffering import Buffer
from chalicelib.ingest.queue_messages import DeadLetters, QueuedMessage
from chalicelib.landing import LANDING_PREFIX, QUARANTINE_PREFIX
from chalicelib.ledger import NO_RUN, Manifest, manifest_key, run_folder, run_number
from tests.contracts import LEDGER_TABLE
from tests.factories import NOW, stage_settings
from tests.fake_s3 import FakeObjectStore
from tests.fakes import FakeDynamoDb
from tests.invocations import GivenUpError, Invocation, ProcessDiedError
from tests.known_processes import Answerer, Call, KnownProcesses
from tests.states_language import Execution, TaskFailedError
from tests.wire import DeadLetterQueue, ExecutionAbortedError, Fault, NotedClient, Wire, WiredClient
from tests.workflow_player import Process, WorkflowPlayer, new_quarantine_count

# What Step Functions calls it when there is no answer in time, and when a process is gone.
SILENCE = {"arn:aws:states:::s3:getObject": "States.ItemReaderFailed"}
NO_ANSWER = {**SILENCE, "arn:aws:states:::lambda:invoke": "Lambda.Unknown"}


class Zombie(NamedTuple):
    """A process that was given up and sleeps until the ledger has come to a run's number."""

    invocation: Invocation
    until: int


class World(WorkflowPlayer):
    """Everything that outlives a process: the bucket, the ledger, the queue, an execution, and the time."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(stage_settings(), FakeObjectStore(), FakeDynamoDb({LEDGER_TABLE: "id"}))
        self.scratch = scratch
        self.queue: list[QueuedMessage] = []
        self.dead_letters: list[QueuedMessage] = []
        self.sent: list[QueuedMessage] = []
        # Measurements in landing objects that came by another way.
        self.accepted_elsewhere = 0
        self.call_log: list[str] = []
        self.fault: Fault | None = None
        self.execution: Execution | None = None
        self.zombies: list[Zombie] = []
        self.now = NOW
        self._running: Invocation | None = None
        self._death: ProcessDiedError | None = None
        # Keys that one process has written over what another had.
        self.overwritten: list[str] = []
        self._writers: dict[str, int] = {}
        self._functions = 0
        self._known = KnownProcesses()

    def snapshot(self) -> "World":
        """Return a copy that goes its own way."""
        assert not self.zombies, "a thread cannot be copied"
        return copy.deepcopy(self)

    def state(self) -> Hashable:
        """Return all that decides what comes from now on, if no fault does, and all notified and committed so far."""
        outcome = repr((self.notifications, self.dynamodb.tables, self.committed_chain()))
        execution = self.execution.position if self.execution else None
        objects = frozenset((key, one) for key, one in self.store.s3.objects.items() if not self._is_over(key))
        return outcome, execution, objects, repr((self.queue, self.dead_letters)), self.now, self._functions

    # What the outside does

    def send(self, message_id: str, measurements: list[dict[str, Any]] | str) -> QueuedMessage:
        """Queue a message: accepted measurements, or text that nobody can decode."""
        body = measurements if isinstance(measurements, str) else json.dumps(measurements)
        identity = len(self.sent) + 1
        message = QueuedMessage(message_id, body, identity, queued_at_ms=self._milliseconds() + identity)
        self.sent.append(message)
        self.queue.append(message)
        return message

    def consume(self) -> None:
        """Deliver what is queued as one batch; it stays queued unless consumer and queue part in peace."""
        batch = list(self.queue)
        wire = Wire(self)
        buffer = Buffer(
            FakeObjectStore(WiredClient(self.store.s3, wire)),
            new_quarantine_count(WiredClient(self.dynamodb, wire)),
            DeadLetters("dead-letters", WiredClient(DeadLetterQueue(self.dead_letters), wire)),
            self._clock,
        )

        def forget() -> None:
            self.queue = [message for message in self.queue if message not in batch]

        def handle() -> None:
            buffer.store(batch)
            wire.call("delete_message_batch", forget)

        try:
            self._watched(handle)
        except (ProcessDiedError, ClientError):
            pass  # the messages become visible again
        except GivenUpError:
            self.consume()

    def redrive(self) -> None:
        """Move the dead letters back into the queue."""
        self.queue += self.dead_letters
        self.dead_letters.clear()

    def pass_time(self, duration: timedelta) -> None:
        """Let time pass in which nothing happens."""
        self.now += duration

    # What is there in the end

    def committed_chain(self) -> list[Manifest]:
        """Return the manifests of all committed runs, the last one first."""
        run_id = self.ledger.head() or NO_RUN
        chain = []
        while run_id != NO_RUN:
            # The bucket forgets manifests in time; a test wants to look at all of them.
            content = self.store.s3.history[manifest_key(run_folder(run_id))]
            chain.append(msgspec.json.decode(content, type=Manifest))
            run_id = chain[-1].previous_run_id
        return chain

    def minutes(self) -> dict[str, bytes]:
        """Return the bytes of every location's minutes, as readers find them from the head."""
        reports = self.committed().reports
        return {location: self.store.get(key).partition(b'"minutes":')[2] for location, key in reports.items()}

    def latest(self) -> bytes:
        """Return what readers see of all locations."""
        key = self.committed().locations_summary_key
        return self.store.get(key) if key else b""

    def landed(self) -> list[str]:
        """Return the keys of the landing objects that are left."""
        return self.store.list_keys(LANDING_PREFIX)

    def quarantined(self) -> list[str]:
        """Return the keys in quarantine."""
        return self.store.list_keys(QUARANTINE_PREFIX)

    # What processes are made of

    def process(self) -> Process:
        """Start a process with a wire of its own, for what is no function."""
        wire = Wire(self)
        return self._process(self._functions, WiredClient(self.store.s3, wire), WiredClient(self.dynamodb, wire))

    def invoke(self, function: str, payload: Any) -> Any:
        """Call a function in a process with a wire of its own, or do what is known of such a process."""
        wire = Wire(self)
        clients = {"s3": WiredClient(self.store.s3, wire), "dynamodb": WiredClient(self.dynamodb, wire)}
        self._functions += 1

        number = self._functions

        def answer(call: Call) -> Any:
            # S3 itself keeps the others from what is there.
            if call.operation == "put_object" and "IfNoneMatch" not in call.arguments:
                self._note_write(call.arguments["Key"], number)
            return getattr(clients[call.client], call.operation)(**call.arguments)

        def begin(note: Answerer) -> Any:
            noted = {name: NotedClient(name, client.exceptions, note) for name, client in clients.items()}
            process = self._process(number, noted["s3"], noted["dynamodb"])
            return msgspec.to_builtins(process.invoke(function, payload))

        request = (function, json.dumps(payload), repr(self.settings), number)
        return self._known.play(request, answer, begin)

    def start(self, name: str, started_at: datetime | None = None, input_: Any = None) -> Execution:
        """Start an execution now."""
        return super().start(name, started_at or self.now, input_)

    def perform(self, resource: str, parameters: dict[str, Any]) -> Any:
        """Do a task, and tell its end as Step Functions does when the process is gone, or silent."""
        try:
            return self._watched(lambda: super(World, self).perform(resource, parameters))
        except ExecutionAbortedError:
            raise
        except ProcessDiedError as death:
            raise TaskFailedError(NO_ANSWER.get(resource, "States.Timeout"), "no answer") from death
        except GivenUpError as silence:
            raise TaskFailedError(SILENCE.get(resource, "States.Timeout"), "no answer") from silence

    # The processes that are gone, or that nobody waits for any more

    def die(self, death: type[ProcessDiedError], call: str) -> ProcessDiedError:
        """Note that the process that is at work is gone, and return what ends it."""
        self._death = death(call)
        return self._death

    def fall_asleep(self, fault: Fault) -> None:
        """Be given up, in a process, and go on only when woken."""
        assert self._running
        self.zombies.append(Zombie(self._running, self._head() + fault.commits))
        self._running.sleep()

    def wake(self, *, all_of_them: bool = False) -> None:
        """Let the zombies whose time has come go on; each ends before the next."""
        head = self._head()
        for zombie in [one for one in self.zombies if all_of_them or one.until <= head]:
            self.zombies.remove(zombie)
            zombie.invocation.wake()

    def bury(self) -> None:
        """End all zombies where they are."""
        for zombie in self.zombies:
            zombie.invocation.bury()
        self.zombies.clear()

    def _watched(self, function: Callable[[], Any]) -> Any:
        """Call the function so that it can die, or fall asleep if it may have to."""
        self._running = Invocation(function) if self._may_fall_asleep() else None
        try:
            return self._running.play() if self._running else function()
        finally:
            self._running = None
            # Whatever a dead process makes of its death, such as an error of DuckDB's: nobody hears of it.
            if death := self._death:
                self._death = None
                raise death

    def _may_fall_asleep(self) -> bool:
        return self.fault is not None and self.fault.kind == "zombie" and self.fault.call >= len(self.call_log)

    def _is_over(self, key: str) -> bool:
        """Whether it is a work file of a run that nobody goes on with."""
        folder, _, rest = key.partition("/")
        return folder == "scratch" and run_number(rest) <= self._head()

    def _head(self) -> int:
        return run_number(self.ledger.head() or NO_RUN)

    def _note_write(self, key: str, process: int) -> None:
        if key in self.store.s3.objects and self._writers.get(key, process) != process:
            self.overwritten.append(key)
        self._writers[key] = process

    def _process(self, number: int, s3: Any, dynamodb: Any) -> Process:
        # Names are shortened to their first half; those of one process follow from its number.
        numbers = itertools.count(number << 16)
        return Process(
            self.settings, FakeObjectStore(s3), dynamodb, lambda: UUID(int=next(numbers) << 64), self.scratch
        )

    def _milliseconds(self) -> int:
        return round(self.now.timestamp() * 1_000)

    def _clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now
