"""Parquet objects of the bucket as DuckDB reads them: by ranges, over Python's connection to S3."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import uuid4

import duckdb
from fsspec.spec import AbstractFileSystem

from chalicelib.object_store import ObjectStore

# A file's footer, of up to half a million rows; a file of some thousand rows is in it whole.
_TAIL_BYTES = 64 * 1024
# The key columns of a row group, which DuckDB reads one by one and not in order, come in one request.
_BEFORE_BYTES = 4 * 1024
_AHEAD_BYTES = 16 * 1024
# Enough for the file that is being read; the tails of all would be a lot of memory.
_TAILS_KEPT = 16

# Most of a thread's time is waiting for S3, which serves as many at once as there are connections.
_THREADS = 16

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@contextmanager
def readable(connection: duckdb.DuckDBPyConnection, store: ObjectStore) -> Iterator[Callable[[str], str]]:
    """Let a connection read the objects of a store; yields what makes a key the URL for `read_parquet`.

    What the store raises is raised as it is: ObjectNotFoundError of a missing object, ClientError of AWS.
    """
    files = _RangeFiles(store)
    connection.register_filesystem(files)
    connection.execute(f"SET GLOBAL threads = {_THREADS}")
    try:
        yield lambda key: f"{files.protocol}://{key}"
    except duckdb.Error:
        if files.failures:
            raise files.failures[0] from None
        raise
    finally:
        connection.execute("RESET GLOBAL threads")
        connection.unregister_filesystem(files.protocol)


class _RangeFiles(AbstractFileSystem):  # type: ignore[misc]
    """The part of a file system that DuckDB's Parquet reader asks for."""

    cachable = False

    def __init__(self, store: ObjectStore) -> None:
        super().__init__()
        # The engine is the process's, in which several connections may read at once.
        self.protocol = f"objects{uuid4().hex}"
        # DuckDB makes errors of its own of them.
        self.failures: list[Exception] = []
        self._store = store
        self._tail = lru_cache(_TAILS_KEPT)(lambda key: store.get_tail(key, _TAIL_BYTES))

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def modified(self, _path: str) -> datetime:
        return _LONG_AGO

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": self._file(path).size}

    def _open(self, path: str, *_: Any, **__: Any) -> "_RangeFile":
        return self._file(path)

    def _file(self, path: str) -> "_RangeFile":
        key = path.removeprefix(f"{self.protocol}://")
        size, tail = self._guarded(lambda: self._tail(key))
        return _RangeFile(size, tail, lambda start, end: self._guarded(lambda: self._store.get_range(key, start, end)))

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as error:
            self.failures.append(error)
            raise


class _RangeFile:
    """An object that is read here and there; what was read last is kept, and the tail."""

    def __init__(self, size: int, tail: bytes, get_range: Callable[[int, int], bytes]) -> None:
        self.size = size
        self._get_range = get_range
        self._tail_start, self._tail = size - len(tail), tail
        self._window_start, self._window = self._tail_start, tail
        self._position = 0

    def seek(self, position: int, *_: int) -> int:
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def read(self, length: int) -> bytes:
        start, end = self._position, min(self._position + length, self.size)
        self._position = end
        if start >= self._tail_start:
            return self._tail[start - self._tail_start : end - self._tail_start]
        if not self._window_start <= start <= end <= self._window_start + len(self._window):
            self._window_start = max(start - _BEFORE_BYTES, 0)
            # Up to the tail at most, which is here already.
            window_end = min(max(end, start + _AHEAD_BYTES), self._tail_start)
            self._window = self._get_range(self._window_start, window_end) + self._tail[: max(end - window_end, 0)]
        return self._window[start - self._window_start : end - self._window_start]

    def close(self) -> None:
        """Nothing is open between two requests."""
