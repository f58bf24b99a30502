"""Stub."""

from pathlib import Path

import duckdb

from chalicelib.analytics import run_input
from chalicelib.analytics.duckdb_session import FILES, as_files
from chalicelib.ledger import Quarantine
from chalicelib.object_store import ObjectStore


def load(connection: duckdb.DuckDBPyConnection, folder: Path, store: ObjectStore, keys: list[str]) -> list[Quarantine]:
    """Load."""
    run_input.create_incoming(connection)
    files = [(key, folder / f"{n:06}-{key[-20:]}") for n, key in enumerate(keys)]
    store.download(files)
    if files:
        connection.execute(
            f"INSERT INTO incoming SELECT location_id,sensor_id,timestamp,temperature::DECIMAL(18,12),value,status,queued_at_ms,delivery,place FROM read_json({FILES}, columns={{location_id:'VARCHAR',sensor_id:'VARCHAR',temperature:'DOUBLE',timestamp:'TIMESTAMP',value:'DOUBLE',status:'VARCHAR',queued_at_ms:'BIGINT',delivery:'INTEGER',place:'INTEGER'}},format='newline_delimited')",
            [as_files(p for _, p in files)],
        )
    return []
