"""The archive: the format of its files and of the spool's parts, and how parts are handed over to it.

A run puts its rows into parts of the spool. Which parts become which archive file is decided in its manifest, as
entries, and done after its commit, by the claims that follow.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import duckdb

from chalicelib.analytics.duckdb_session import FILES, as_files, duckdb_session
from chalicelib.fields import format_second, format_time
from chalicelib.landing import SHARD
from chalicelib.ledger import Entry, Manifest, Part, run_number, run_of
from chalicelib.object_store import ObjectStore
from chalicelib.settings import ArchiveSettings

ARCHIVE_PREFIX = "archive/"

# V2 is what DuckDB, Trino and Arrow read. Bloom filters would answer nothing that sorted rows do not.
PARQUET = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION V2, ROW_GROUP_SIZE 8192, WRITE_BLOOM_FILTER false"
ORDER = "ORDER BY location_id, sensor_id, measured_at"

# A day's rows come in until then, early and late ones apart.
_PAST_AFTER = timedelta(hours=3)
_PAST_PARTS_MAX = 100

_SECOND = r"\d{8}T\d{6}Z"
_NAME = re.compile(
    rf"archive/date=\d{{4}}-\d\d-\d\d/(?P<run>\d{{12}}-[0-9a-f]{{16}})_(?P<first>{_SECOND})_(?P<last>{_SECOND})"
    r"_(?P<shard>\d{1,3}of\d{1,3})_\d+\.parquet"
)


class HandOver(NamedTuple):
    """What a manifest decides: its new entries, the parts that stay in the spool, and when entries were last added.

    The times are as in the manifest.
    """

    entries: list[Entry]
    spool: list[Part]
    handed_over_at: str
    late_handed_over_at: str


class ArchiveName(NamedTuple):
    """What the key of an archive file tells: which run decided it, and the first and last second of its rows."""

    run_id: str
    first: str
    last: str
    shard: str


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


def decide_entries(
    previous: Manifest, counted: list[Part], settings: ArchiveSettings, run_id: str, started_at: datetime
) -> HandOver:
    """Decide which parts of the spool a run hands over, those with what it has counted itself among them.

    Parts of past days, for which rows come in slowly, are handed over once a day, those of a day that has many at
    once, and all others in every interval.
    """
    parts = [*previous.spool, *counted]
    # By when they came: what came while its day was current does not wait for the next day, after an outage either.
    past = _of_past_days(previous.spool, datetime.fromisoformat(previous.created_at))
    past |= _of_past_days(counted, started_at)
    current = {part.key for part in parts} - past
    many = Counter(part.date for part in parts if part.key in past)
    due = {part.key for part in parts if many[part.date] >= _PAST_PARTS_MAX} & past
    handed_over_at, late_handed_over_at = previous.handed_over_at, previous.late_handed_over_at
    if current and _slot(started_at, settings) != _slot(datetime.fromisoformat(handed_over_at), settings):
        due |= current
        handed_over_at = format_time(started_at)
    if past and _day(started_at) != _day(datetime.fromisoformat(late_handed_over_at)):
        due |= past
        late_handed_over_at = format_time(started_at)
    taken = [part for part in parts if part.key in due]
    return HandOver(
        list(_entries(taken, settings.entry_rows, run_id, format_time(started_at))),
        [part for part in parts if part.key not in due],
        handed_over_at,
        late_handed_over_at,
    )


def _of_past_days(parts: Iterable[Part], time: datetime) -> set[str]:
    """Return the keys of parts whose day had ended a while before they came at some time."""
    past_before = _day(time - _PAST_AFTER).isoformat()
    return {part.key for part in parts if part.date < past_before}


def _day(time: datetime) -> date:
    return time.astimezone(UTC).date()


def _slot(time: datetime, settings: ArchiveSettings) -> int:
    return int(time.timestamp()) // (60 * settings.interval_minutes)


def _entries(parts: list[Part], rows_max: int, run_id: str, decided_at: str) -> Iterator[Entry]:
    """Yield an entry of each day and shard, or several where one would have too many rows."""
    number = 0
    by_day = sorted(parts, key=lambda part: (part.date, part.shard, part.first, part.key))
    for (day, shard), days_parts in groupby(by_day, key=lambda part: (part.date, part.shard)):
        for some in _packed(days_parts, rows_max):
            first, last = min(part.first for part in some), max(part.last for part in some)
            key = f"{ARCHIVE_PREFIX}date={day}/{run_id}_{first}_{last}_{shard}_{number}.parquet"
            yield Entry(key, some, sum(part.rows for part in some), decided_at)
            number += 1


def _packed(parts: Iterable[Part], rows_max: int) -> Iterator[list[Part]]:
    some: list[Part] = []
    for part in parts:
        if some and sum(one.rows for one in some) + part.rows > rows_max:
            yield some
            some = []
        some.append(part)
    yield some


def read_archive_key(key: str) -> ArchiveName | None:
    """Return what the key of an archive file tells, None of a file that no run has written."""
    found = _NAME.fullmatch(key)
    return ArchiveName(found["run"], found["first"], found["last"], found["shard"]) if found else None


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


def archived_through(spool: Iterable[Part], entries: Iterable[Entry], run_id: str) -> int:
    """Return the number of the last run, up to this one, of which every row is in the archive."""
    waiting = [*spool, *(part for entry in entries for part in entry.parts)]
    return min((run_number(run_of(part.key)) - 1 for part in waiting), default=run_number(run_id))
