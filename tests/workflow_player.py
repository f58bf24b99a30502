"""Plays stepfunctions/analytics.asl.json in process, so that tests can stop, repeat and interleave runs.

Knows the part of the Amazon States Language that the definition uses, and fails on anything else.
"""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from botocore.exceptions import ClientError

from chalicelib.broken_count import BrokenCount
from chalicelib.ledger import Ledger, Manifest
from chalicelib.receiver import Receiver
from chalicelib.report import Report
from chalicelib.reporter import Reporter
from chalicelib.settings import AnalyticsSettings
from chalicelib.summarizer import Summarizer
from chalicelib.thermistor import StatusLimits
from chalicelib.validation import convert
from chalicelib.workflow import ReportRequest, RunRequest, SummaryRequest

DEFINITION = json.loads((Path(__file__).parents[1] / "stepfunctions" / "analytics.asl.json").read_text())
LEDGER_TABLE = "thermonet-dev-analytics-runs"
SQS_INPUT = {"source": "SQS"}


class TaskFailedError(Exception):
    """A task failed with an error of the workflow's kind: a name, and nothing that code could catch by type."""

    def __init__(self, name: str, cause: str = "") -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.cause = cause


class Execution:
    """One execution; `states` yields before each state is entered, and running it to its end plays the run."""

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
        self.states = self._play()

    def finish(self) -> "Execution":
        """Play what is left."""
        for _ in self.states:
            pass
        return self

    def advance_to(self, state: str) -> "Execution":
        """Play until the state is about to be entered."""
        for upcoming in self.states:
            if upcoming == state:
                return self
        raise AssertionError(f"{self.name} never came to {state}, but passed {self.passed}")

    @property
    def answer(self) -> dict[str, Any]:
        return self._data["run"]["answer"]

    @property
    def error(self) -> str:
        return self._data["error"]["Error"]

    def _play(self) -> Iterator[str]:
        upcoming = DEFINITION["StartAt"]
        while self.status == "RUNNING":
            yield upcoming
            self.passed.append(upcoming)
            state = DEFINITION["States"][upcoming]
            if state["Type"] in {"Succeed", "Fail"}:
                self.status = {"Succeed": "SUCCEEDED", "Fail": "FAILED"}[state["Type"]]
            elif state["Type"] == "Choice":
                upcoming = self._choose(state)
            else:
                upcoming = self._attempt(state)

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
        bucket_and_key = self._fill(state["ItemReader"]["Parameters"])
        items = json.loads(self._player.store.get(bucket_and_key["Key"]))
        report = state["ItemProcessor"]["States"][state["ItemProcessor"]["StartAt"]]
        for item in self._player.order(items):
            self._context["Map"] = {"Item": {"Value": item}}
            selected = self._fill(state["ItemSelector"])
            with_retries(report, lambda selected=selected: self._task(report, selected))

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
    return bool({failure.name, "States.ALL", "States.TaskFailed"} & set(rule["ErrorEquals"]))


def with_retries(state: dict[str, Any], action: Callable[[], Any]) -> Any:
    """Repeat the action as the state's first matching retrier says, without the waiting."""
    left: dict[int, int] = {}
    while True:
        try:
            return action()
        except TaskFailedError as failure:
            number, retrier = next(
                ((n, rule) for n, rule in enumerate(state.get("Retry", [])) if matches(rule, failure)), (-1, {})
            )
            left[number] = left.get(number, retrier.get("MaxAttempts", 3) if retrier else 0) - 1
            if left[number] < 0:
                raise


class WorkflowPlayer:
    """The workflow's tasks on a store and a ledger table, real or fake."""

    def __init__(self, settings: AnalyticsSettings, store: Any, dynamodb: Any, scratch: Path | None = None) -> None:
        self.store = store
        self.dynamodb = dynamodb
        self.ledger = Ledger(LEDGER_TABLE, dynamodb, store)
        self.receiver = Receiver(settings, store, self.ledger, BrokenCount(LEDGER_TABLE, dynamodb), uuid4, scratch)
        self.reporter = Reporter(settings, store, scratch)
        limits = StatusLimits(TEMPERATURE_TOO_LOW=20.0, OK=100.0, TEMPERATURE_TOO_HIGH=250.0)
        self.summarizer = Summarizer(limits, store, self.ledger)
        self.notifications: list[Any] = []
        # Called before every task with its resource; may raise TaskFailedError.
        self.before: Callable[[str], None] = lambda resource: None
        # The order in which the locations of a run are reported.
        self.order: Callable[[list[Any]], list[Any]] = lambda items: items

    def start(self, name: str, started_at: datetime, input_: Any = None) -> Execution:
        """Start an execution that waits before its first state."""
        return Execution(self, name, SQS_INPUT if input_ is None else input_, started_at)

    def run(self, name: str, started_at: datetime, input_: Any = None) -> Execution:
        """Play an execution from start to end."""
        return self.start(name, started_at, input_).finish()

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
        self.before(resource)
        if resource == "arn:aws:states:::lambda:invoke":
            function = {"${receiver_arn}": self._receive, "${reporter_arn}": self._report}[parameters["FunctionName"]]
            return self._invoke(function, json.loads(json.dumps(parameters["Payload"])))
        if resource == "arn:aws:states:::dynamodb:updateItem":
            return self._update_item(parameters)
        assert resource == "arn:aws:states:::sns:publish"
        self.notifications.append(parameters)
        return {}

    def _invoke(self, function: Callable[[Any], Any], payload: Any) -> Any:
        try:
            return msgspec.to_builtins(function(payload))
        except Exception as error:
            # Lambda reports the class of whatever was raised, and only its name.
            raise TaskFailedError(type(error).__name__, str(error)) from error

    def _receive(self, payload: Any) -> Any:
        if "task" in payload:
            return self.summarizer.summarize(convert(payload, SummaryRequest))
        return self.receiver.receive(convert(payload, RunRequest))

    def _report(self, payload: Any) -> Any:
        return self.reporter.report(convert(payload, ReportRequest))

    def _update_item(self, parameters: dict[str, Any]) -> Any:
        try:
            return self.dynamodb.update_item(**{**parameters, "TableName": LEDGER_TABLE})
        except ClientError as error:
            raise TaskFailedError(f"DynamoDB.{error.response['Error']['Code']}", str(error)) from error
