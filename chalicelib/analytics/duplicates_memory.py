"""The memory of duplicates: what earlier runs have counted as such, for as long as it can be delivered again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from chalicelib.analytics.archive import ORDER, PARQUET
from chalicelib.analytics.duckdb_session import FILES, as_files
from chalicelib.fields import format_second
from chalicelib.landing import SHARD
from chalicelib.ledger import Part
from chalicelib.object_store import ObjectStore

# How long a message can still be delivered again as the same one: SQS keeps it, or a dead letter, for 14 days.
_REDELIVERED_FOR = timedelta(days=15)
_DUPLICATE_PARTS_MAX = 10
# What is joined is sorted in memory, and lies on Lambda's small disk both before and after.
_JOINED_ROWS_MAX = 2_000_000
# No measurement is older than this when it is queued, see IngestSettings.
_ACCEPTED_AGE_MAX = timedelta(days=30)


def write_duplicates(
    connection: duckdb.DuckDBPyConnection,
    store: ObjectStore,
    table: str,
    prefix: str,
    previous: list[Part],
    claimed_at: datetime,
    folder: Path,
) -> list[Part]:
    """Write the duplicates of a table below `prefix` and return all parts that remember duplicates.

    The table has location_id, sensor_id, measured_at, delivery and queued_at_ms. `previous` are the parts of the
    previous manifest; when there are too many, those not much larger than what follows become one, without what was
    first queued more than 15 days before `claimed_at`. Those too large to be joined go as a whole, when nothing in
    them can have been queued later. Raises ObjectNotFoundError when a part that is joined is gone.
    """
    (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0]
    if not rows:
        return previous
    large, kept = _large_and_small(previous, claimed_at)
    merged: list[Part] = []
    if len(kept) >= _DUPLICATE_PARTS_MAX:
        # So each row is written a few times at most, and not by every tenth run.
        while kept and _is_joined(kept, rows + sum(part.rows for part in merged)):
            merged.append(kept.pop())
    files = [folder / f"duplicates-{number:02}.parquet" for number in range(len(merged))]
    store.download(zip((part.key for part in merged), files, strict=True))
    earlier = f"UNION ALL BY NAME FROM read_parquet({FILES})" if files else ""
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE remembered AS FROM (
            SELECT location_id, sensor_id, measured_at::TIMESTAMP_MS AS measured_at, delivery::INTEGER AS delivery,
                   queued_at_ms::BIGINT AS queued_at_ms
            FROM {table} {earlier}
        )
        WHERE queued_at_ms >= {int((claimed_at - _REDELIVERED_FOR).timestamp() * 1_000)}
        """,
        [as_files(files)] if files else [],
    )
    return [*large, *kept, *_write_remembered(connection, store, f"{prefix}.parquet", folder / "duplicates.parquet")]


def _large_and_small(parts: list[Part], claimed_at: datetime) -> tuple[list[Part], list[Part]]:
    """Share parts out to those that are too large to be joined, without forgettable ones, and all others."""
    forgotten = format_second(claimed_at - _REDELIVERED_FOR - _ACCEPTED_AGE_MAX)
    large = [part for part in parts if part.rows > _JOINED_ROWS_MAX // 2]
    return [part for part in large if part.last >= forgotten], [part for part in parts if part not in large]


def _is_joined(kept: list[Part], following: int) -> bool:
    """Tell whether the last of the kept parts is joined with so many rows behind it."""
    is_small = len(kept) >= _DUPLICATE_PARTS_MAX or kept[-1].rows <= 2 * following
    return is_small and kept[-1].rows + following <= _JOINED_ROWS_MAX


def _write_remembered(connection: duckdb.DuckDBPyConnection, store: ObjectStore, key: str, file: Path) -> list[Part]:
    (rows, first, last) = connection.execute(
        "SELECT count(*), min(measured_at), max(measured_at) FROM remembered"
    ).fetchall()[0]
    if not rows:
        return []
    connection.execute(f"COPY (FROM remembered {ORDER}) TO '{file}' ({PARQUET})")
    store.upload([(key, file)])
    first, last = (format_second(time.replace(tzinfo=UTC)) for time in (first, last))
    return [Part(key, rows, first, last, SHARD)]
