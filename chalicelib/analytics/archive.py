"""The format of archive files and of the spool's parts; how parts are written, and handed over to the archive."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from chalicelib.analytics.duckdb_session import FILES, as_files, duckdb_session
from chalicelib.fields import format_second
from chalicelib.landing import SHARD
from chalicelib.ledger import Entry, Part
from chalicelib.object_store import ObjectStore

# V2 is what DuckDB, Trino and Arrow read. Bloom filters would answer nothing that sorted rows do not.
PARQUET = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION V2, ROW_GROUP_SIZE 8192, WRITE_BLOOM_FILTER false"
ORDER = "ORDER BY location_id, sensor_id, measured_at"


def write_parts(
    connection: duckdb.DuckDBPyConnection,
    store: ObjectStore,
    table: str,
    prefix: str,
    run: int,
    entry_rows: int,
    folder: Path,
) -> list[Part]:
    """Write the rows of a table as parts `<prefix>/<number>.parquet`, each of one UTC day and sorted.

    The table has location_id, sensor_id, measured_at, value, temperature, status, queued_at_ms and delivery, and no
    key twice; `run` is the attempt's number. No part has more than `entry_rows` rows. Files pass through `folder`.
    """
    parts = []
    files = []
    for number, piece in enumerate(_pieces(connection, table, entry_rows)):
        files.append(folder / f"part-{number:04}.parquet")
        connection.execute(
            f"""
            COPY (
                SELECT location_id, sensor_id, measured_at::TIMESTAMP_MS AS measured_at, value::DOUBLE AS value,
                       temperature::DECIMAL(18, 12) AS temperature, status::VARCHAR AS status,
                       queued_at_ms::BIGINT - epoch_ms(measured_at) AS queued_after_ms,
                       {run}::BIGINT AS run, delivery::INTEGER AS delivery
                FROM {table}
                WHERE measured_at >= $first AND measured_at < $last::TIMESTAMP + INTERVAL 1 SECOND
                {ORDER} {piece.limit}
            ) TO '{files[-1]}' ({PARQUET})
            """,
            {"first": piece.first, "last": piece.last},
        )
        first, last = (format_second(second.replace(tzinfo=UTC)) for second in (piece.first, piece.last))
        parts.append(Part(f"{prefix}/{number:04}.parquet", piece.rows, first, last, SHARD))
    store.upload(zip((part.key for part in parts), files, strict=True))
    return parts


class _Piece(NamedTuple):
    """Rows of one part: those of a span of seconds, or `limit` of those of a single one."""

    first: datetime
    last: datetime
    rows: int
    limit: str = ""


def _pieces(connection: duckdb.DuckDBPyConnection, table: str, rows_max: int) -> Iterator[_Piece]:
    """Share the rows of each day out to as few parts as may be, one behind the other in time."""
    for day in connection.execute(_SPANS.format(table=table, span="day", condition="true")).fetchall():
        if _Piece(*day).rows <= rows_max:
            yield _Piece(*day)
        else:
            within = f"date_trunc('day', measured_at) = TIMESTAMP '{day[0]:%Y-%m-%d}'"
            seconds = connection.execute(_SPANS.format(table=table, span="second", condition=within)).fetchall()
            yield from _joined((_Piece(*second) for second in seconds), rows_max)


_SPANS = """
SELECT date_trunc('second', min(measured_at)), date_trunc('second', max(measured_at)), count(*)
FROM {table} WHERE {condition} GROUP BY date_trunc('{span}', measured_at) ORDER BY 1
"""


def _joined(seconds: Iterable[_Piece], rows_max: int) -> Iterator[_Piece]:
    """Join seconds that follow one another while they stay within `rows_max`; a larger one is cut into pieces."""
    joined: _Piece | None = None
    for second in seconds:
        if joined and joined.rows + second.rows <= rows_max:
            joined = joined._replace(last=second.last, rows=joined.rows + second.rows)
            continue
        if joined:
            yield joined
        joined = None if second.rows > rows_max else second
        for start in range(0, second.rows if joined is None else 0, rows_max):
            rows = min(rows_max, second.rows - start)
            yield second._replace(rows=rows, limit=f"LIMIT {rows} OFFSET {start}")
    if joined:
        yield joined


def carry_out(store: ObjectStore, entry: Entry, memory_limit_mb: int, scratch: Path | None = None) -> None:
    """Write an entry's file unless it is there; raises ObjectNotFoundError when a part is gone."""
    if len(entry.parts) == 1:
        store.put_first(entry.key, store.get(entry.parts[0].key))
        return
    with duckdb_session(memory_limit_mb, scratch) as (connection, folder):
        files = [folder / f"{number:04}.parquet" for number in range(len(entry.parts))]
        store.download(zip((part.key for part in entry.parts), files, strict=True))
        merged = folder / "merged.parquet"
        connection.execute(f"COPY (FROM read_parquet({FILES}) {ORDER}) TO '{merged}' ({PARQUET})", [as_files(files)])
        store.put_first(entry.key, merged.read_bytes())
