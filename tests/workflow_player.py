"""Plays stepfunctions/analytics.asl.json in process, so that tests can stop, repeat and interleave runs.

Knows the part of the Amazon States Language that the definition uses, and fails on anything else.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
from botocore.exceptions import ClientError

from chalicelib.analytics.receiver import Receiver
from chalicelib.analytics.reporter import Reporter
from chalicelib.analytics.summarizer import Summarizer
from chalicelib.analytics.workflow import ReportRequest, RunRequest, SummaryRequest
from chalicelib.broken_count import BrokenCount
from chalicelib.errors import ObjectNotFoundError
from chalicelib.ledger import Ledger, Manifest
from chalicelib.object_store import ObjectStore
from chalicelib.reports import Report
from chalicelib.settings import AnalyticsSettings
from chalicelib.validation import convert
from tests.contracts import LEDGER_TABLE
from tests.factories import NOW, SETTINGS

DEFINITION = json.loads((Path(__file__).parents[1] / "stepfunctions" / "analytics.asl.json").read_text())
SQS_INPUT = {"source": "SQS"}


class TaskFailedError(Exception):
    """A task failed with an error of the workflow's kind: a name, and nothing that code could catch by type."""

    def __init__(self, name: str, cause: str = "") -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.cause = cause


class Execution:
    """One execution, played state by state; a state that was cut short is still the upcoming one, for a redrive."""

    def __init__(self, player: "WorkflowPlayer", name: str, input_: Any, started_at: datetime) -> None:
        self._player = player
        self._context = {
            "Execution": {
                "Id": f"arn:execution:{name}",
                "Name": name,
                "StartTime": started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "Input": input_,
            }
        }
        self._data: Any = input_
        self.name = name
        self.status = "RUNNING"
        self.passed: list[str] = []
        self.upcoming = DEFINITION["StartAt"]

    def step(self) -> bool:
        """Play the upcoming state; return whether another one follows."""
        if self.status != "RUNNING":
            return False
        state = DEFINITION["States"][self.upcoming]
        self.passed.append(self.upcoming)
        if state["Type"] in {"Succeed", "Fail"}:
            self.status = {"Succeed": "SUCCEEDED", "Fail": "FAILED"}[state["Type"]]
        elif state["Type"] == "Choice":
            self.upcoming = self._choose(state)
        else:
            self.upcoming = self._attempt(state)
        return self.status == "RUNNING"

    def finish(self) -> "Execution":
        """Play what is left."""
        while self.step():
            pass
        return self

    def advance_to(self, state: str) -> "Execution":
        """Play until the state is about to be entered."""
        while self.upcoming != state:
            assert self.step(), f"{self.name} never came to {state}, but passed {self.passed}"
        return self

    @property
    def position(self) -> tuple[str, ...]:
        """How far it is, and what it knows."""
        return self.name, self.status, self.upcoming, json.dumps(self._data)

    @property
    def answer(self) -> dict[str, Any]:
        return self._data["run"]["answer"]

    @property
    def error(self) -> dict[str, str]:
        return self._data["error"]

    def _choose(self, state: dict[str, Any]) -> str:
        for choice in state["Choices"]:
            value = self._resolve(choice["Variable"])
            if value in (choice.get("BooleanEquals"), choice.get("StringEquals")):
                return choice["Next"]
        return state["Default"]

    def _attempt(self, state: dict[str, Any]) -> str:
        action = self._map if state["Type"] == "Map" else self._task
        try:
            result = with_retries(state, lambda: action(state))
        except TaskFailedError as failure:
            for catcher in state.get("Catch", []):
                if matches(catcher, failure):
                    self._store(catcher, {"Error": failure.name, "Cause": failure.cause})
                    return catcher["Next"]
            raise
        self._store(state, result)
        return state["Next"]

    def _task(self, state: dict[str, Any], data: Any = None) -> Any:
        parameters = self._fill(state["Parameters"], data)
        result = self._player.perform(state["Resource"], parameters)
        return self._fill(state["ResultSelector"], {"Payload": result}) if "ResultSelector" in state else result

    def _map(self, state: dict[str, Any]) -> None:
        items = self._task(state["ItemReader"])
        report = state["ItemProcessor"]["States"][state["ItemProcessor"]["StartAt"]]
        for item in self._player.order(items):
            self._context["Map"] = {"Item": {"Value": item}}
            selected = self._fill(state["ItemSelector"])
            try:
                with_retries(report, lambda selected=selected: self._task(report, selected))
            except TaskFailedError as failure:
                # What a map makes of a failed item, whatever its error.
                raise TaskFailedError("States.ExceedToleratedFailureThreshold", str(failure)) from failure

    def _store(self, state: dict[str, Any], result: Any) -> None:
        path = state.get("ResultPath", "$")
        if path is not None:
            self._data = {**self._data, path.removeprefix("$."): result}

    def _fill(self, template: Any, data: Any = None) -> Any:
        if not isinstance(template, dict):
            return template
        return {
            key.removesuffix(".$"): self._resolve(value, data) if key.endswith(".$") else self._fill(value, data)
            for key, value in template.items()
        }

    def _resolve(self, path: str, data: Any = None) -> Any:
        value = self._context if path.startswith("$$.") else (self._data if data is None else data)
        for name in path.lstrip("$").split(".")[1:]:
            value = value[name]
        return value


def matches(rule: dict[str, Any], failure: TaskFailedError) -> bool:
    """Tell whether a retrier or catcher is for the error."""
    names = {failure.name, "States.ALL"}
    if failure.name != "States.Timeout":
        names.add("States.TaskFailed")
    return bool(names & set(rule["ErrorEquals"]))


def with_retries(state: dict[str, Any], action: Callable[[], Any]) -> Any:
    """Repeat the action as the state's first matching retrier says, without the waiting."""
    failures: Counter[int] = Counter()
    while True:
        try:
            return action()
        except TaskFailedError as failure:
            matching = ((n, rule) for n, rule in enumerate(state.get("Retry", [])) if matches(rule, failure))
            number, retrier = next(matching, (-1, {"MaxAttempts": 0}))
            failures[number] += 1
            if failures[number] > retrier.get("MaxAttempts", 3):
                raise


class Process:
    """What a process that has just started makes of a stage: the workflow's functions, and clients."""

    def __init__(
        self,
        settings: AnalyticsSettings,
        store: ObjectStore,
        dynamodb: Any,
        new_uuid: Callable[[], UUID] = uuid4,
        scratch: Path | None = None,
    ) -> None:
        self.store = store
        self.dynamodb = dynamodb
        self.ledger = Ledger(LEDGER_TABLE, dynamodb, store)
        self.receiver = Receiver(settings, store, self.ledger, BrokenCount(LEDGER_TABLE, dynamodb), new_uuid, scratch)
        self.reporter = Reporter(settings, store, scratch)
        self.summarizer = Summarizer(SETTINGS.status_below_celsius, store, self.ledger)

    def invoke(self, function: str, payload: Any) -> Any:
        """Call a function as app.py does."""
        if function == "${reporter_arn}":
            return self.reporter.report(convert(payload, ReportRequest))
        if function == "${summarizer_arn}":
            return self.summarizer.summarize(convert(payload, SummaryRequest))
        assert function == "${receiver_arn}"
        return self.receiver.receive(convert(payload, RunRequest))


class WorkflowPlayer:
    """The workflow's tasks on a store and a ledger table, real or fake; each of them is done by a new process."""

    def __init__(self, settings: AnalyticsSettings, store: ObjectStore, dynamodb: Any) -> None:
        self.settings = settings
        self.store = store
        self.dynamodb = dynamodb
        self.notifications: list[Any] = []
        # The order in which the locations of a run are reported.
        self.order: Callable[[list[Any]], list[Any]] = lambda items: items

    def process(self) -> Process:
        """Start a process."""
        return Process(self.settings, self.store, self.dynamodb)

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
            "dynamodb:updateItem": self._update_item,
            "sns:publish": self._publish,
        }
        return tasks[resource.removeprefix("arn:aws:states:::")](json.loads(json.dumps(parameters)))

    def _invoke(self, parameters: dict[str, Any]) -> Any:
        try:
            return msgspec.to_builtins(self.process().invoke(parameters["FunctionName"], parameters["Payload"]))
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

    def _update_item(self, parameters: dict[str, Any]) -> Any:
        try:
            return self.process().dynamodb.update_item(**{**parameters, "TableName": LEDGER_TABLE})
        except ClientError as error:
            raise TaskFailedError(f"DynamoDB.{error.response['Error']['Code']}", str(error)) from error

    def _publish(self, parameters: dict[str, Any]) -> None:
        self.notifications.append(parameters)
