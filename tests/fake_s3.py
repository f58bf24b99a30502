"""A bucket in memory, behind the application's own ObjectStore; tests/contracts.py holds it to what S3 does."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.object_store import ObjectStore


class NoSuchKey(ClientError):  # noqa: N818 - its name at AWS
    """What S3 raises for a missing object."""


class FakeS3:
    """A bucket in memory, listed two keys at a time."""

    exceptions = SimpleNamespace(NoSuchKey=NoSuchKey)
    _PAGE = 2

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        # What was ever put, for a look at what has been deleted since.
        self.history: dict[str, bytes] = {}
        # The key and the bytes of every read.
        self.reads: list[tuple[str, int]] = []
        # Called with (operation of ObjectStore, key) before every access; may raise, or look at what is there.
        self.before: Callable[[str, str], None] = lambda operation, key: None

    def get_object(self, *, Bucket: str, Key: str, Range: str = "bytes=0-") -> dict[str, Any]:
        self.before("get", Key)
        if Key not in self.objects:
            raise NoSuchKey({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        size = len(self.objects[Key])
        first, last = Range.removeprefix("bytes=").split("-")
        start, end = (int(first), int(last or size) + 1) if first else (max(size - int(last), 0), size)
        content = self.objects[Key][start:end]
        self.reads.append((Key, len(content)))
        return {
            "Body": SimpleNamespace(read=lambda: content, iter_chunks=lambda _size: [content]),
            "ContentRange": f"bytes {start}-{start + len(content) - 1}/{size}",
        }

    def put_object(self, *, Bucket: str, Key: str, Body: Any, IfNoneMatch: str | None = None) -> None:
        self.before("put_first" if IfNoneMatch else "put", Key)
        if IfNoneMatch and Key in self.objects:
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
        self.objects[Key] = self.history[Key] = Body if isinstance(Body, bytes) else Body.read()

    def list_objects_v2(
        self, *, Bucket: str, Prefix: str, StartAfter: str = "", ContinuationToken: str = ""
    ) -> dict[str, Any]:
        self.before("list_keys", Prefix)
        after = ContinuationToken or StartAfter
        keys = sorted(key for key in self.objects if key.startswith(Prefix) and key > after)
        page = keys[: self._PAGE]
        truncated = {"NextContinuationToken": page[-1]} if len(keys) > len(page) else {}
        return {"Contents": [{"Key": key} for key in page], "IsTruncated": bool(truncated), **truncated}

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        assert 1 <= len(Delete["Objects"]) <= 1_000
        if any("\x01" in entry["Key"] for entry in Delete["Objects"]):
            raise ClientError({"Error": {"Code": "MalformedXML"}}, "DeleteObjects")
        for entry in Delete["Objects"]:
            self.delete_object(Bucket=Bucket, Key=entry["Key"])
        return {}

    def delete_object(self, *, Bucket: str, Key: str) -> None:
        self.before("delete", Key)
        self.objects.pop(Key, None)

    def get_paginator(self, operation: str) -> Any:
        return FakePaginator(getattr(self, operation))


class FakePaginator:
    """Follows the continuation tokens of a listing."""

    def __init__(self, list_page: Callable[..., dict[str, Any]]) -> None:
        self._list_page = list_page

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._list_page(**arguments, **token)
            yield page
            if not page["IsTruncated"]:
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}


class FakeObjectStore(ObjectStore):
    """The real store on a bucket in memory."""

    def __init__(self, s3: Any = None) -> None:
        self.s3 = s3 or FakeS3()
        # One connection, so that calls come in one order.
        super().__init__("bucket", self.s3, connections=1)
