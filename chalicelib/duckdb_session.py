"""DuckDB as receiver and reporter use it: bounded memory, spilling to a scratch folder, nothing from the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb


@contextmanager
def duckdb_session(
    memory_limit_mb: int, scratch: Path | None = None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """Open a database in a new folder below `scratch` (default: the system's), both gone at the end.

    Yields the connection and the folder, where the caller may put its own files.
    """
    with TemporaryDirectory(prefix="thermonet-", dir=scratch) as name:
        folder = Path(name)
        connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{memory_limit_mb}MB",
                "temp_directory": str(folder / "spill"),
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                # Row order carries no meaning here, and keeping it costs memory.
                "preserve_insertion_order": "false",
            },
        )
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        try:
            yield connection, folder
        finally:
            connection.close()
