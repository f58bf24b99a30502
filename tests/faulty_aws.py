"""AWS whose every call can be made to fail, or to be the last one of its process."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

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

    def get_paginator(self, operation: str) -> Any:
        def paginate(**arguments: Any) -> Iterator[Any]:
            token: dict[str, str] = {}
            while True:
                page = getattr(self, operation)(**arguments, **token)
                yield page
                if not page["IsTruncated"]:
                    return
                token = {"ContinuationToken": page["NextContinuationToken"]}

        return SimpleNamespace(paginate=paginate)


class NoSuchKeyError(ClientError):
    """What S3 raises for a missing object."""


class FakeS3:
    """A bucket in memory, listed two keys at a time."""

    exceptions = SimpleNamespace(NoSuchKey=NoSuchKeyError)
    _PAGE = 2

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise NoSuchKeyError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        content = self.objects[Key]
        return {"Body": SimpleNamespace(read=lambda: content, iter_chunks=lambda _size: [content])}

    def put_object(self, *, Bucket: str, Key: str, Body: Any, IfNoneMatch: str | None = None) -> None:
        if IfNoneMatch and Key in self.objects:
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
        self.objects[Key] = Body if isinstance(Body, bytes) else Body.read()

    def list_objects_v2(self, *, Bucket: str, Prefix: str, ContinuationToken: str = "") -> dict[str, Any]:
        keys = sorted(key for key in self.objects if key.startswith(Prefix) and key > ContinuationToken)
        page = keys[: self._PAGE]
        return {
            "Contents": [{"Key": key} for key in page],
            "IsTruncated": len(keys) > len(page),
            "NextContinuationToken": page[-1] if page else "",
        }

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        for entry in Delete["Objects"]:
            self.objects.pop(entry["Key"], None)
        return {}
