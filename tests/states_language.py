"""Plays stepfunctions/analytics.asl.json state by state, so that tests can stop, repeat and interleave runs.

Knows the part of the Amazon States Language that the definition uses, and fails on anything else.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

DEFINITION = json.loads((Path(__file__).parents[1] / "stepfunctions" / "analytics.asl.json").read_text())

# What a state may say, and what of it decides nothing here.
_ENDS = {"OutputPath", "ErrorPath", "CausePath"}
_MOVES = {"Retry", "Catch", "Next", "ResultPath", "ResultSelector", "OutputPath", "TimeoutSeconds"}
_KNOWN = {
    "Succeed": _ENDS,
    "Fail": _ENDS,
    "Choice": {"Choices", "Default"},
    "Task": {"Resource", "Parameters", "End", *_MOVES},
    "Map": {"Label", "MaxConcurrency", "ItemReader", "ItemSelector", "ItemProcessor", *_MOVES},
}
# A choice about something that is not there fails the execution, but for this question.
_MISSING = object()


class TaskFailedError(Exception):
    """A task failed with an error of the workflow's kind: a name, and nothing that code could catch by type."""

    def __init__(self, name: str, cause: str = "") -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.cause = cause


class Tasks(Protocol):
    """What does the tasks of an execution, and decides the order in which a map takes its items."""

    order: Callable[[list[Any]], list[Any]]

    def perform(self, resource: str, parameters: dict[str, Any]) -> Any:
        """Do a task; raises TaskFailedError."""


class Execution:
    """One execution, played state by state; a state that was cut short is still the upcoming one, for a redrive."""

    def __init__(self, tasks: Tasks, name: str, input_: Any, started_at: datetime) -> None:
        self._tasks = tasks
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
        assert state.keys() <= {"Type", "Comment", *_KNOWN[state["Type"]]}, f"not understood: {state}"
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
    def claim(self) -> dict[str, Any]:
        return self._data["claim"]["answer"]

    @property
    def plan(self) -> dict[str, Any]:
        return self._data["plan"]["answer"]

    @property
    def answer(self) -> dict[str, Any]:
        return self._data["run"]["answer"]

    @property
    def error(self) -> dict[str, str]:
        return self._data["error"]

    def _choose(self, state: dict[str, Any]) -> str:
        for choice in state["Choices"]:
            if self._holds(choice):
                return choice["Next"]
        return state["Default"]

    def _holds(self, choice: dict[str, Any]) -> bool:
        ((comparison, value),) = (item for item in choice.items() if item[0] not in {"Variable", "Next"})
        if comparison == "IsPresent":
            return (self._look_up(choice["Variable"]) is not _MISSING) == value
        compared = self._resolve(value) if comparison.endswith("Path") else value
        kind = {"String": str, "Boolean": bool, "Numeric": int | float}[
            comparison.removesuffix("Path").removesuffix("Equals")
        ]
        found = self._resolve(choice["Variable"])
        # What is of another type is not equal, and no error.
        return isinstance(found, kind) and found == compared

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
        result = self._tasks.perform(state["Resource"], parameters)
        if state["Resource"].endswith(":lambda:invoke"):
            result = {"Payload": result}
        return self._fill(state["ResultSelector"], result) if "ResultSelector" in state else result

    def _map(self, state: dict[str, Any]) -> None:
        items = self._task(state["ItemReader"])
        report = state["ItemProcessor"]["States"][state["ItemProcessor"]["StartAt"]]
        for item in self._tasks.order(items):
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
        value = self._look_up(path, data)
        assert value is not _MISSING, f"{self.name} has no {path}, which fails an execution whatever it catches"
        return value

    def _look_up(self, path: str, data: Any = None) -> Any:
        value = self._context if path.startswith("$$.") else (self._data if data is None else data)
        for name in path.lstrip("$").split(".")[1:]:
            if not isinstance(value, dict) or name not in value:
                return _MISSING
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
