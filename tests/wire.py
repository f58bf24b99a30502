"""The way from a process to its services, on which every call can fail, come late, come twice, or be the last one."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from chalicelib.ingest.queue_messages import QueuedMessage, read_record
from tests.fake_s3 import FakePaginator
from tests.fakes import service_error
from tests.invocations import ProcessDiedError
from tests.known_processes import Answerer, Call

# How the log calls a write that may find its key taken.
FIRST_WRITE = "put_object if new"


class ExecutionAbortedError(ProcessDiedError):
    """The workflow is gone, in the middle of a state."""


class Fault(NamedTuple):
    """What goes wrong with one call.

    `effect` tells whether the call took effect. `kind` is "error" (the process sees one), "death" (the process is
    gone, which the workflow learns), "abort" (the workflow is gone with it, and nothing happens before somebody
    redrives it or the next scheduled run starts), "conflict" (a first write meets another one of its key), "twice" (the
    client sends the call again, since it has got no answer), or "zombie": the call comes late, and all that follow it
    in its process, since the process is given up, but wakes up after its state, or after so many `commits`.
    """

    call: int
    effect: bool
    kind: str
    commits: int = 0


class Struck(Protocol):
    """What a wire is in: the calls so far, the fault that is to strike, and what becomes of the process."""

    call_log: list[str]
    fault: Fault | None

    def fall_asleep(self, fault: Fault) -> None:
        """Be given up, in a process, and go on only when woken."""

    def die(self, death: type[ProcessDiedError], call: str) -> ProcessDiedError:
        """Note that the process that is at work is gone, and return what ends it."""


class Wire:
    """Between a process and its services: numbers the calls, and lets the fault strike."""

    def __init__(self, world: Struck) -> None:
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
        return self._strike(fault, name, function)

    def _strike(self, fault: Fault, name: str, function: Callable[[], Any]) -> Any:
        if fault.kind == "zombie":
            self._world.fall_asleep(fault)
            return function()
        if fault.effect or fault.kind == "twice":
            function()
        if fault.kind == "twice" or (fault.kind == "conflict" and name != FIRST_WRITE):
            return function()
        if fault.kind == "conflict":
            raise service_error("ConditionalRequestConflict", name)
        if fault.kind == "error":
            raise service_error("ServiceUnavailable", name)
        self._dead = True
        raise self._world.die(ExecutionAbortedError if fault.kind == "abort" else ProcessDiedError, name)


class WiredClient:
    """A boto3 client whose calls go over the wire."""

    def __init__(self, client: Any, wire: Wire) -> None:
        self._client = client
        self._wire = wire

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._client, operation)
        if operation == "exceptions":
            return method

        def call(**arguments: Any) -> Any:
            arguments = as_sent(arguments)
            name = FIRST_WRITE if "IfNoneMatch" in arguments else operation
            return self._wire.call(name, lambda: method(**arguments))

        return call

    def get_paginator(self, operation: str) -> FakePaginator:
        return FakePaginator(getattr(self, operation))


class NotedClient:
    """A boto3 client whose calls are answered by whoever notes them."""

    def __init__(self, name: str, exceptions: Any, note: Answerer) -> None:
        self._name = name
        self._note = note
        self.exceptions = exceptions

    def __getattr__(self, operation: str) -> Any:
        return lambda **arguments: self._note(Call(self._name, operation, as_sent(arguments)))

    def get_paginator(self, operation: str) -> FakePaginator:
        return FakePaginator(getattr(self, operation))


def as_sent(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a call's arguments with the content of a file in its place; who sends it again begins it again."""
    body = arguments.get("Body")
    return {**arguments, "Body": body.read()} if hasattr(body, "read") else arguments


class DeadLetterQueue:
    """Takes messages out of sight, with the attributes by which they are known when they are redriven."""

    def __init__(self, messages: list[QueuedMessage]) -> None:
        self._messages = messages

    def send_message(self, *, MessageBody: str, MessageAttributes: dict[str, dict[str, str]], **_: Any) -> None:
        shown = {name: {"stringValue": value["StringValue"]} for name, value in MessageAttributes.items()}
        record = {"messageId": f"dead-{len(self._messages)}", "body": MessageBody, "messageAttributes": shown}
        self._messages.append(read_record(record))
