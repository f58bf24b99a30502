"""Does the tasks of the workflow in process, each by a new process: the application's functions on a store and a table.

What a test changes in `settings` is what the next process finds.
"""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
from botocore.exceptions import ClientError

from chalicelib.analytics.claimer import Claimer
from chalicelib.analytics.receiver import Receiver
from chalicelib.analytics.reporter import Reporter
from chalicelib.analytics.summarizer import Summarizer
from chalicelib.analytics.workflow import ClaimRequest, ReceiveRequest, ReportRequest, SummaryRequest
from chalicelib.errors import ObjectNotFoundError
from chalicelib.ledger import Ledger, Manifest
from chalicelib.object_store import ObjectStore
from chalicelib.quarantine_count import QuarantineCount
from chalicelib.reports import Report
from chalicelib.settings import Settings
from chalicelib.validation import convert
from tests.contracts import LEDGER_TABLE
from tests.factories import NOW
from tests.states_language import Execution, TaskFailedError

SQS_INPUT = {"source": "SQS"}


class Process:
    """What a process that has just started makes of a stage: the workflow's functions, and clients."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        dynamodb: Any,
        new_uuid: Callable[[], UUID] = uuid4,
        scratch: Path | None = None,
    ) -> None:
        self.store = store
        self.dynamodb = dynamodb
        self.ledger = Ledger(LEDGER_TABLE, dynamodb, store)
        self.quarantine_count = new_quarantine_count(dynamodb)
        self.claimer = Claimer(settings, store, self.ledger, self.quarantine_count, new_uuid, scratch)
        self.receiver = Receiver(settings, store, self.ledger, new_uuid, scratch)
        self.reporter = Reporter(settings.analytics.duckdb_memory_limit_mb, store, new_uuid, scratch)
        self.summarizer = Summarizer(settings, store, self.ledger, new_uuid)

    def invoke(self, function: str, payload: Any) -> Any:
        """Call a function as app.py does."""
        if function == "${claimer_arn}":
            return self.claimer.claim(convert(payload, ClaimRequest))
        if function == "${receiver_arn}":
            return self.receiver.receive(convert(payload, ReceiveRequest))
        if function == "${reporter_arn}":
            return self.reporter.report(convert(payload, ReportRequest))
        assert function == "${summarizer_arn}"
        return self.summarizer.summarize(convert(payload, SummaryRequest))


class WorkflowPlayer:
    """The workflow's tasks on a store and a ledger table, real or fake; each of them is done by a new process."""

    def __init__(self, settings: Settings, store: ObjectStore, dynamodb: Any) -> None:
        self.settings = settings
        self.store = store
        self.dynamodb = dynamodb
        self.notifications: list[Any] = []
        # The order in which the locations of a run are reported.
        self.order: Callable[[list[Any]], list[Any]] = lambda items: items

    def process(self) -> Process:
        """Start a process."""
        return Process(self.settings, self.store, self.dynamodb)

    def invoke(self, function: str, payload: Any) -> Any:
        """Call a function in a process of its own; its answer is JSON."""
        return msgspec.to_builtins(self.process().invoke(function, payload))

    def start(self, name: str, started_at: datetime = NOW, input_: Any = None) -> Execution:
        """Start an execution that waits before its first state."""
        return Execution(self, name, SQS_INPUT if input_ is None else input_, started_at)

    def run(self, name: str, started_at: datetime = NOW, input_: Any = None) -> Execution:
        """Play an execution from start to end."""
        return self.start(name, started_at, input_).finish()

    @property
    def ledger(self) -> Ledger:
        return Ledger(LEDGER_TABLE, self.dynamodb, self.store)

    def committed(self) -> Manifest:
        return self.ledger.committed()

    def reports(self) -> dict[str, Report]:
        """What a reader sees: head, its manifest, the reports that it names."""
        return {
            location: msgspec.json.decode(self.store.get(key), type=Report)
            for location, key in self.committed().reports.items()
        }

    def perform(self, resource: str, parameters: dict[str, Any]) -> Any:
        """Do a task; everything passes through JSON as it does in the real workflow."""
        tasks = {
            "lambda:invoke": self._invoke,
            "s3:getObject": self._read_items,
            "dynamodb:getItem": self._get_item,
            "dynamodb:updateItem": self._update_item,
            "sns:publish": self._publish,
        }
        return tasks[resource.removeprefix("arn:aws:states:::")](json.loads(json.dumps(parameters)))

    def _invoke(self, parameters: dict[str, Any]) -> Any:
        try:
            return self.invoke(parameters["FunctionName"], parameters["Payload"])
        except ClientError as error:
            # What `fails_by_name` of app.py makes of it.
            raise TaskFailedError("ServiceUnavailableError", str(error)) from error
        except Exception as error:
            # Lambda reports the class of whatever was raised, and only its name.
            raise TaskFailedError(type(error).__name__, str(error)) from error

    def _read_items(self, parameters: dict[str, Any]) -> Any:
        try:
            return json.loads(self.process().store.get(parameters["Key"]))
        except (ClientError, ObjectNotFoundError) as error:
            raise TaskFailedError("States.ItemReaderFailed", str(error)) from error

    def _get_item(self, parameters: dict[str, Any]) -> Any:
        return self._ask_ledger(self.process().dynamodb.get_item, parameters)

    def _update_item(self, parameters: dict[str, Any]) -> Any:
        return self._ask_ledger(self.process().dynamodb.update_item, parameters)

    def _ask_ledger(self, operation: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        try:
            return operation(**{**parameters, "TableName": LEDGER_TABLE})
        except ClientError as error:
            raise TaskFailedError(f"DynamoDB.{error.response['Error']['Code']}", str(error)) from error

    def _publish(self, parameters: dict[str, Any]) -> None:
        self.notifications.append(parameters)


def new_quarantine_count(dynamodb: Any) -> QuarantineCount:
    """Return the count of a process whose clock stands still, so that the same history writes the same items."""
    return QuarantineCount(LEDGER_TABLE, dynamodb, clock=NOW.timestamp, sleep=lambda _seconds: None)
