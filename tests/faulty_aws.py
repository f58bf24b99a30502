"""AWS whose every call can be made to fail, or to be the last one of its process."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.fake_s3 import FakePaginator
from tests.fakes import service_error

if TYPE_CHECKING:
    from tests.crash_harness import World


class ProcessDiedError(BaseException):
    """The process is gone; no handler of it may run, hence no Exception."""


class Fault(NamedTuple):
    """What goes wrong with one call.

    `effect` tells whether the call took effect. `kind` is "error" (the process sees one, and Step Functions tries
    the state again in a new process) or "death" (the process is gone and its workflow with it, nothing is tried
    again before the next scheduled run).
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
