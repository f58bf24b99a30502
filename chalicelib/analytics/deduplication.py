"""Deduplication in SQL: of `incoming`, see run_input.py, stays what the run counts, one row of each measurement.

All times are UTC, to the millisecond. Beside it are these tables:
known     what earlier runs have counted, or dropped as duplicates, of what is incoming, see archive.py
dropped   the run's duplicates; a conflict is one with another value, or another temperature where a value is missing
A copy of a message that the queue delivered twice is in neither: it was accepted once.
"""

from pathlib import Path

import duckdb
from msgspec import Struct

from chalicelib.ledger import Counts

# What is one measurement, however often it comes. Two locations may name their sensors alike.
_KEY = "location_id, sensor_id, measured_at"

# Rows whose hashes are held in memory at a time while repeated ones are looked for.
_ROWS_PER_BUCKET = 16_000_000
# More partitions in one COPY need more write buffers than a small memory limit has.
_LOCATIONS_PER_COPY = 64


class LocationShare(Struct, frozen=True):
    """What a run has for one location; the file with its sums is None when none of its measurements is new."""

    location_id: str
    counts: Counts
    file: Path | None


def drop_duplicates(connection: duckdb.DuckDBPyConnection) -> None:
    """Share `incoming` out to itself and `dropped`.

    Of each (location, sensor, time) the measurement that an earlier run counted stays, else the one queued first.
    """
    rows = connection.execute("SELECT count(*) FROM incoming").fetchall()[0][0]
    buckets = 1 + rows // _ROWS_PER_BUCKET
    connection.execute(_PREPARE)
    for bucket in range(buckets):
        part = f"WHERE hash({_KEY}) % {buckets} = {bucket}" if buckets > 1 else ""
        connection.execute(_FIND_REPEATED.format(part=part))
    if connection.execute("SELECT count(*) FROM suspects").fetchall()[0][0]:
        connection.execute(_SETTLE)


_PREPARE = f"""
CREATE TABLE suspects AS SELECT DISTINCT hash({_KEY}) AS suspect FROM known;
CREATE TABLE dropped AS SELECT {_KEY}, delivery, queued_at_ms, false AS is_conflict FROM incoming WHERE false;
"""

# Most keys occur once. A hash of eight bytes tells so for a fraction of what the keys cost, and wrongly suspects one
# in many millions, which the settlement then lets go.
_FIND_REPEATED = f"""
INSERT INTO suspects
SELECT suspect FROM (SELECT hash({_KEY}) AS suspect FROM incoming {{part}}) GROUP BY suspect HAVING count(*) > 1
"""

_SETTLE = f"""
CREATE TEMP TABLE contested AS FROM incoming WHERE hash({_KEY}) IN (FROM suspects);

DELETE FROM incoming WHERE hash({_KEY}) IN (FROM suspects);

CREATE TEMP TABLE accepted AS
SELECT *, row_number() OVER (
    PARTITION BY {_KEY} ORDER BY queued_at_ms, value, temperature, delivery, place
) AS rank
FROM (
    FROM contested ANTI JOIN known USING ({_KEY}, delivery)
    QUALIFY delivery IS NULL OR row_number() OVER (PARTITION BY {_KEY}, delivery, place) = 1
);

CREATE TEMP TABLE winners AS
FROM accepted ANTI JOIN (FROM known WHERE counted) AS kept USING ({_KEY}) WHERE rank = 1;

INSERT INTO incoming SELECT * EXCLUDE (rank) FROM winners;

INSERT INTO dropped
SELECT {_KEY}, accepted.delivery, accepted.queued_at_ms,
       CASE WHEN accepted.value IS NULL OR kept.value IS NULL THEN accepted.temperature <> kept.temperature
            ELSE accepted.value <> kept.value END
FROM accepted JOIN (
    SELECT {_KEY}, value, temperature, false AS is_new FROM known WHERE counted
    UNION ALL
    SELECT {_KEY}, value, temperature, true AS is_new FROM winners
) AS kept USING ({_KEY})
WHERE NOT (kept.is_new AND rank = 1);
"""


def write_shares(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[LocationShare]:
    """Write the sums of what is counted as one Parquet file per location below `folder`, and count each one's rows."""
    connection.execute(_SUM_UP)
    rows = connection.execute(
        """
        SELECT location_id, sum(measurements)::BIGINT, sum(duplicates)::BIGINT, sum(conflicts)::BIGINT FROM (
            SELECT location_id, count AS measurements, 0 AS duplicates, 0 AS conflicts
            FROM increments WHERE sensor_id IS NULL
            UNION ALL
            SELECT location_id, 0, 1, is_conflict::INTEGER FROM dropped
        )
        GROUP BY location_id ORDER BY location_id
        """
    ).fetchall()
    counts = {location_id: Counts(*numbers) for location_id, *numbers in rows}
    files = _write_locations(
        connection, [location_id for location_id in counts if counts[location_id].measurements], folder
    )
    return [LocationShare(location_id, count, files.get(location_id)) for location_id, count in counts.items()]


# A location's minutes, with the exact sums of their temperatures, and its sensors, with the last minute of each.
_SUM_UP = """
CREATE TABLE increments AS
SELECT location_id, NULL::VARCHAR AS sensor_id, date_trunc('minute', measured_at) AS minute, count(*) AS count,
       sum(temperature) AS total, min(temperature) AS lowest, max(temperature) AS highest
FROM incoming GROUP BY location_id, minute
UNION ALL BY NAME
SELECT location_id, sensor_id, date_trunc('minute', max(measured_at)) AS minute
FROM incoming GROUP BY location_id, sensor_id
"""


def _write_locations(connection: duckdb.DuckDBPyConnection, location_ids: list[str], folder: Path) -> dict[str, Path]:
    for start in range(0, len(location_ids), _LOCATIONS_PER_COPY):
        some = location_ids[start : start + _LOCATIONS_PER_COPY]
        connection.execute(
            f"""
            COPY (
                SELECT * EXCLUDE (location_id), hex(location_id) AS location
                FROM increments WHERE location_id BETWEEN $first AND $last
            ) TO '{folder}' (FORMAT parquet, PARTITION_BY (location), OVERWRITE_OR_IGNORE)
            """,
            {"first": some[0], "last": some[-1]},
        )
    # Every partition is a folder with one file. Named by the ids, those of `A` and `a` would be one on some disks.
    return {bytes.fromhex(file.parent.name.partition("=")[2]).decode(): file for file in folder.glob("*/*.parquet")}
