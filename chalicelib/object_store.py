"""The stage's bucket: the few S3 calls that buffering, analytics and reports need."""

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import ObjectNotFoundError, ServiceUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

T = TypeVar("T")

# What one delete_objects call takes.
_KEYS_PER_DELETE = 1_000
# What a key may have in it and the list of a delete_objects call may not [XML 1.0].
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# How often a write may meet another one of the same key.
_CONFLICTS_MAX = 5


class ObjectStore:
    """Reads and writes whole objects; transfers of many run over several connections."""

    def __init__(self, bucket: str, s3: "S3Client", connections: int = 16) -> None:
        self._bucket = bucket
        self._s3 = s3
        self._connections = connections

    def get(self, key: str) -> bytes:
        """Return an object's content; raises ObjectNotFoundError."""
        return self._open(key)["Body"].read()

    def put(self, key: str, content: bytes) -> None:
        """Write an object, replacing what is there."""
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=content)

    def put_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Write objects, given as (key, content), replacing what is there."""
        self._transfer(self.put, objects)

    def put_what_can_be(self, objects: Iterable[tuple[str, bytes]]) -> dict[str, Exception]:
        """Write objects, given as (key, content), replacing what is there; return the errors of those that failed."""
        failed: dict[str, Exception] = {}

        def put(key: str, content: bytes) -> None:
            try:
                self.put(key, content)
            except (BotoCoreError, ClientError) as error:
                failed[key] = error

        self._transfer(put, objects)
        return failed

    def put_first(self, key: str, content: bytes) -> bool:
        """Write an object unless the key is taken; return whether this call wrote it."""
        for _ in range(_CONFLICTS_MAX):
            try:
                self._s3.put_object(Bucket=self._bucket, Key=key, Body=content, IfNoneMatch="*")
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "PreconditionFailed":
                    return False
                # Another write was under way, and nobody knows yet whether it succeeds.
                if code != "ConditionalRequestConflict":
                    raise
            else:
                return True
        raise ServiceUnavailableError(f"others kept writing {key}, try again")

    def list_keys(self, prefix: str, after: str = "") -> list[str]:
        """Return all keys with the prefix, or those of them behind `after`, in order."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix, StartAfter=after)
        return [content["Key"] for page in pages for content in page.get("Contents", [])]

    def get_tail(self, key: str, length: int) -> tuple[int, bytes]:
        """Return an object's size in bytes and its last `length` bytes; raises ObjectNotFoundError."""
        found = self._open(key, Range=f"bytes=-{length}")
        return int(found["ContentRange"].rpartition("/")[2]), found["Body"].read()

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Return an object's bytes from `start` to before `end`; raises ObjectNotFoundError."""
        return self._open(key, Range=f"bytes={start}-{end - 1}")["Body"].read()

    def delete(self, keys: list[str]) -> None:
        """Delete objects; those already gone do not matter."""
        for key in filter(_NOT_IN_XML.search, keys):
            self._s3.delete_object(Bucket=self._bucket, Key=key)
        listed = [key for key in keys if not _NOT_IN_XML.search(key)]
        for start in range(0, len(listed), _KEYS_PER_DELETE):
            batch = listed[start : start + _KEYS_PER_DELETE]
            deleted = self._s3.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
            )
            if failed := deleted.get("Errors"):
                raise ServiceUnavailableError(f"S3 left {len(failed)} objects undeleted: {failed[0].get('Code')}")

    def download(self, files: Iterable[tuple[str, Path]]) -> None:
        """Copy objects to local files, given as (key, path); raises ObjectNotFoundError."""
        self._transfer(self._download_one, files)

    def upload(self, files: Iterable[tuple[str, Path]]) -> None:
        """Copy local files to objects, given as (key, path)."""
        self._transfer(self._upload_one, files)

    def _transfer(self, transfer_one: Callable[[str, T], None], objects: Iterable[tuple[str, T]]) -> None:
        with ThreadPoolExecutor(self._connections) as pool:
            for _ in pool.map(lambda one: transfer_one(*one), objects):
                pass

    def _download_one(self, key: str, path: Path) -> None:
        with path.open("wb") as file:
            file.writelines(self._open(key)["Body"].iter_chunks(1024 * 1024))

    def _open(self, key: str, **part: Any) -> "GetObjectOutputTypeDef":
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=key, **part)
        except self._s3.exceptions.NoSuchKey:
            raise ObjectNotFoundError(f"no object {key}") from None

    def _upload_one(self, key: str, path: Path) -> None:
        with path.open("rb") as file:
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=file)
