"""DuckDB as receiver and reporter use it: bounded memory, spilling to a scratch folder, nothing from the network."""

import functools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from uuid import uuid4

import duckdb

# A list of files as a parameter, given by `as_files`: for each value in a list that is one, DuckDB would search the
# whole Python path for pandas.
FILES = "?::JSON::VARCHAR[]"


def as_files(files: Iterable[Path]) -> str:
    """Return the value of the parameter FILES."""
    return json.dumps([str(file) for file in files])


@contextmanager
def duckdb_session(
    memory_limit_mb: int, scratch: Path | None = None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """Open an empty database and a new folder below `scratch` (default: the system's), both gone at the end.

    Yields a connection to the database and the folder, where the caller may put its own files.
    """
    with TemporaryDirectory(prefix="thermonet-", dir=scratch) as name:
        session = f"session_{uuid4().hex}"
        connection = _engine(memory_limit_mb, scratch or Path(gettempdir())).cursor()
        try:
            connection.execute(f"ATTACH ':memory:' AS {session}; USE {session}; SET enable_progress_bar = false")
            yield connection, Path(name)
            connection.execute(f"USE memory; DETACH {session}")
        except BaseException:
            # An engine that has failed once may refuse everything that follows.
            _engine.cache_clear()
            raise
        finally:
            connection.close()


# To start the engine takes ten times as long as to attach a database to it, a third of a small report's time.
@functools.lru_cache(maxsize=1)
def _engine(memory_limit_mb: int, scratch: Path) -> duckdb.DuckDBPyConnection:
    engine = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{memory_limit_mb}MB",
            "temp_directory": str(scratch / f"spill-{uuid4().hex}"),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            # Row order carries no meaning here, and keeping it costs memory.
            "preserve_insertion_order": "false",
            # It would keep, for the life of the process, blocks of files that are read once.
            "enable_external_file_cache": "false",
        },
    )
    engine.execute("SET GLOBAL TimeZone = 'UTC'")
    return engine
