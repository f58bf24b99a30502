"""Deduplication in SQL: measurements in, one file per location out, every (location, sensor, timestamp) counted once.

All times are UTC, to the millisecond. A run works on these tables:
incoming  what the run has got, see run_input.py
seen      what earlier runs have got in the hours that incoming touches; `counted` if it is in a report
fresh     what this run counts
dropped   what it does not, and its outcome: duplicate, conflict (a duplicate with another temperature), or late
A copy of a message that the queue delivered twice is in neither: it was accepted once.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from msgspec import Struct

from chalicelib.analytics.duckdb_session import FILES, as_files
from chalicelib.ledger import Counts

HOUR_FORMAT = "%Y-%m-%dT%H"

# What is one measurement, however often it comes. Two locations may name their sensors alike.
_KEY = "location_id, sensor_id, measured_at"

# Rows whose keys are held in memory at a time while duplicates are dropped.
_ROWS_PER_BUCKET = 8_000_000
# More partitions in one COPY need more write buffers than a small memory limit has.
_LOCATIONS_PER_COPY = 64


class LocationPartition(Struct, frozen=True):
    """The measurements that a run has for one location; the file is None when none of them is new."""

    location_id: str
    counts: Counts
    file: Path | None


def watermark(connection: duckdb.DuckDBPyConnection, previous: datetime) -> datetime:
    """Return the time of the latest measurement of this run and the previous ones."""
    latest = connection.execute("SELECT max(measured_at) FROM incoming").fetchall()[0][0]
    return previous if latest is None else max(latest.replace(tzinfo=UTC), previous)


def earliest_kept(watermark_time: datetime, history_hours: int, window_minutes: int) -> datetime:
    """Return the first minute that still counts: one of the history, or of the window of the history's first."""
    newest_minute = watermark_time.replace(second=0, microsecond=0)
    return newest_minute - timedelta(hours=history_hours, minutes=window_minutes - 2)


def hours_of_incoming(connection: duckdb.DuckDBPyConnection, earliest: datetime) -> list[str]:
    """Return the UTC hours, as `2026-01-31T09`, that the run's measurements from `earliest` on touch."""
    rows = connection.execute(
        "SELECT DISTINCT date_trunc('hour', measured_at) FROM incoming WHERE measured_at >= ?", [earliest]
    ).fetchall()
    return sorted(f"{hour:{HOUR_FORMAT}}" for (hour,) in rows)


def load_seen(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> None:
    """Make the files of earlier runs the table `seen`."""
    connection.execute(
        """
        CREATE TABLE seen (
            location_id VARCHAR, sensor_id VARCHAR, measured_at TIMESTAMP,
            temperature DOUBLE, delivery BIGINT, counted BOOLEAN
        )
        """
    )
    if files:
        connection.execute(f"INSERT INTO seen BY NAME FROM read_parquet({FILES})", [as_files(files)])


def drop_duplicates(connection: duckdb.DuckDBPyConnection, earliest: datetime) -> None:
    """Share `incoming` out to `fresh` and `dropped`.

    Of each (location, sensor, time) from `earliest` on, the measurement that an earlier run counted stays, else the one
    that was queued first.
    """
    connection.execute(
        f"""
        CREATE TABLE fresh AS SELECT {_KEY}, temperature, delivery FROM incoming WHERE false;
        CREATE TABLE dropped AS SELECT *, '' AS outcome FROM fresh;
        """
    )
    rows = connection.execute("SELECT count(*) FROM incoming").fetchall()[0][0]
    buckets = 1 + rows // _ROWS_PER_BUCKET
    for bucket in range(buckets):
        part = f"hash(location_id, sensor_id) % {buckets} = {bucket}" if buckets > 1 else "true"
        since = f"TIMESTAMP '{earliest:%Y-%m-%d %H:%M:%S}'"
        connection.execute(_DROP_DUPLICATES.format(key=_KEY, part=part, earliest=since))


# Most keys occur once: for those any_value is exact and cheap. Only the contested ones pay for an order.
_DROP_DUPLICATES = """
CREATE OR REPLACE TEMP VIEW seen_part AS FROM seen WHERE {part};

CREATE OR REPLACE TEMP TABLE grouped AS
SELECT {key}, count(*) AS copies, any_value(temperature) AS temperature, any_value(delivery) AS delivery
FROM incoming WHERE measured_at >= {earliest} AND {part}
GROUP BY {key};

INSERT INTO fresh
SELECT {key}, temperature, delivery
FROM grouped ANTI JOIN seen_part USING ({key})
WHERE copies = 1;

CREATE OR REPLACE TEMP TABLE contested AS
SELECT *, row_number() OVER (
    PARTITION BY {key} ORDER BY queued_at_ms, temperature, delivery
) AS rank
FROM (
    SELECT incoming.* FROM incoming
    SEMI JOIN (
        SELECT {key} FROM grouped WHERE copies > 1
        UNION ALL
        SELECT {key} FROM grouped SEMI JOIN seen_part USING ({key})
    ) USING ({key})
    ANTI JOIN seen_part USING ({key}, delivery)
    QUALIFY delivery IS NULL OR row_number() OVER (PARTITION BY {key}, delivery) = 1
);

CREATE OR REPLACE TEMP TABLE winners AS
FROM contested ANTI JOIN (FROM seen_part WHERE counted) AS kept USING ({key}) WHERE rank = 1;

INSERT INTO fresh SELECT {key}, temperature, delivery FROM winners;

INSERT INTO dropped
SELECT {key}, contested.temperature, contested.delivery,
       if(contested.temperature <> kept.temperature, 'conflict', 'duplicate')
FROM contested JOIN (
    SELECT {key}, temperature, false AS is_new FROM seen_part WHERE counted
    UNION ALL
    SELECT {key}, temperature, true AS is_new FROM winners
) AS kept USING ({key})
WHERE NOT (kept.is_new AND rank = 1);

INSERT INTO dropped
SELECT {key}, temperature, delivery, 'late'
FROM incoming ANTI JOIN seen_part USING ({key}, delivery)
WHERE measured_at < {earliest} AND {part}
QUALIFY delivery IS NULL OR row_number() OVER (PARTITION BY {key}, delivery) = 1;
"""


def write_partitions(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[LocationPartition]:
    """Write `fresh` as one Parquet file per location below `folder`, and count what each location got."""
    rows = connection.execute(
        """
        SELECT location_id, count(*) FILTER (outcome = 'fresh'), count(*) FILTER (outcome IN ('duplicate', 'conflict')),
               count(*) FILTER (outcome = 'conflict'), count(*) FILTER (outcome = 'late')
        FROM (SELECT location_id, 'fresh' AS outcome FROM fresh UNION ALL SELECT location_id, outcome FROM dropped)
        GROUP BY location_id ORDER BY location_id
        """
    ).fetchall()
    counts = {location_id: Counts(*numbers) for location_id, *numbers in rows}
    files = _write_locations(
        connection, [location_id for location_id in counts if counts[location_id].measurements], folder
    )
    return [LocationPartition(location_id, count, files.get(location_id)) for location_id, count in counts.items()]


def _write_locations(connection: duckdb.DuckDBPyConnection, location_ids: list[str], folder: Path) -> dict[str, Path]:
    for start in range(0, len(location_ids), _LOCATIONS_PER_COPY):
        some = location_ids[start : start + _LOCATIONS_PER_COPY]
        connection.execute(
            f"""
            COPY (
                SELECT * EXCLUDE (delivery, location_id), hex(location_id) AS location
                FROM fresh WHERE location_id BETWEEN $first AND $last
            ) TO '{folder}' (FORMAT parquet, PARTITION_BY (location), OVERWRITE_OR_IGNORE)
            """,
            {"first": some[0], "last": some[-1]},
        )
    # Every partition is a folder with one file. Named by the ids, those of `A` and `a` would be one on some disks.
    return {bytes.fromhex(file.parent.name.partition("=")[2]).decode(): file for file in folder.glob("*/*.parquet")}


def write_seen(connection: duckdb.DuckDBPyConnection, hours: list[str], folder: Path) -> dict[str, Path]:
    """Write what the run adds to `seen` as one Parquet file an hour; return the files of hours that got anything."""
    written = {}
    for hour in hours:
        file = folder / f"{hour}.parquet"
        start = datetime.strptime(hour, HOUR_FORMAT)  # noqa: DTZ007 - DuckDB's timestamps have no zone
        copied = connection.execute(
            f"""
            COPY (
                SELECT {_KEY}, temperature, delivery, true AS counted
                FROM fresh WHERE measured_at >= $start AND measured_at < $end
                UNION ALL
                SELECT {_KEY}, temperature, delivery, false AS counted
                FROM dropped WHERE measured_at >= $start AND measured_at < $end AND delivery IS NOT NULL
            ) TO '{file}' (FORMAT parquet, COMPRESSION zstd)
            """,
            {"start": start, "end": start + timedelta(hours=1)},
        ).fetchall()
        if copied[0][0]:
            written[hour] = file
    return written
