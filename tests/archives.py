"""Rows of spool and archive, as tests make and read them: tables as a run has them, and whole files."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
from msgspec import structs

from chalicelib.analytics.archive import write_parts
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.analytics.entries import HandOver, decide_entries
from chalicelib.fields import format_time
from chalicelib.ledger import NO_MANIFEST, Part
from chalicelib.object_store import ObjectStore
from chalicelib.settings import ArchiveSettings
from tests.factories import NOW

MEMORY_LIMIT_MB = 200
HOURLY = ArchiveSettings(interval_minutes=60, entry_rows=5_000_000)
COLUMNS = {
    "location_id": "VARCHAR",
    "sensor_id": "VARCHAR",
    "measured_at": "TIMESTAMP",
    "value": "DOUBLE",
    "temperature": "DECIMAL(18, 12)",
    "status": "VARCHAR",
    "queued_at_ms": "BIGINT",
    "delivery": "INTEGER",
    "place": "INTEGER",
}


class Row(NamedTuple):
    """A row of a run's table `incoming`; times are UTC without saying so, as DuckDB has them."""

    location_id: str = "a"
    sensor_id: str = "1"
    measured_at: datetime = NOW.replace(tzinfo=None)
    value: float | None = 2000.0
    temperature: Decimal = Decimal("35.123456789012")
    status: str = "OK"
    queued_at_ms: int | None = int(NOW.timestamp() * 1_000)
    delivery: int | None = 7
    place: int | None = 0


def run_id(number: int) -> str:
    return f"{number:012}-{number:016x}"


def decide(
    free: list[Part],
    started_at: datetime = NOW,
    handed_over_at: str = NO_MANIFEST.handed_over_at,
    late_handed_over_at: str = NO_MANIFEST.late_handed_over_at,
    settings: ArchiveSettings = HOURLY,
    number: int = 12,
    previous_at: datetime | None = None,
) -> HandOver:
    """Decide what run `number` hands over, when the run before, a moment ago unless told, left all parts."""
    previous = structs.replace(
        NO_MANIFEST,
        created_at=format_time(previous_at or started_at),
        spool=free,
        handed_over_at=handed_over_at,
        late_handed_over_at=late_handed_over_at,
    )
    return decide_entries(previous, [], settings, run_id(number), started_at)


def make_table(connection: duckdb.DuckDBPyConnection, rows: list[Row], name: str = "incoming") -> None:
    values = [
        row._asdict() | {"measured_at": str(row.measured_at), "temperature": str(row.temperature)} for row in rows
    ]
    # One call for all of them: each takes DuckDB a while.
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE {name} AS SELECT unnest(rows, recursive := true)
        FROM (SELECT unnest(from_json(?, '{json.dumps([COLUMNS])}')) AS rows)
        """,
        [json.dumps(values)],
    )


def put_parts(store: ObjectStore, number: int, rows: list[Row], entry_rows: int = 5_000_000) -> list[Part]:
    """Write rows into the spool as run `number` does."""
    with duckdb_session(MEMORY_LIMIT_MB) as (connection, folder):
        make_table(connection, rows)
        return write_parts(
            connection, store, "incoming", f"runs/{run_id(number)}/spool/try", number, entry_rows, folder
        )


def read_parquet(store: ObjectStore, key: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """Return a file's rows in their order, read whole."""
    with duckdb_session(MEMORY_LIMIT_MB) as (connection, folder):
        (folder / "file.parquet").write_bytes(store.get(key))
        rows = f"read_parquet('{folder}/file.parquet', file_row_number = true)"
        return connection.execute(
            f"SELECT {columns} FROM (SELECT * EXCLUDE (file_row_number) FROM {rows} ORDER BY file_row_number)"
        ).fetchall()


def as_archived(row: Row, number: int) -> tuple[Any, ...]:
    """Return what a row is in a file of run `number`."""
    queued = row.queued_at_ms
    measured_at_ms = (row.measured_at.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        milliseconds=1
    )
    after = None if queued is None else queued - measured_at_ms
    return (*row[:6], after, number, row.delivery)
