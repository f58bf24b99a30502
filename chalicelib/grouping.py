"""The receiver's SQL: measurements in, one file per location out, every (sensor, timestamp) kept once.

All times are UTC. A run works on these tables:
incoming  every measurement of the run: sensor_id, location_id, temperature (°C), measured_at, queued_at_ms
seen      what earlier runs counted in the hours that incoming touches: sensor_id, measured_at, temperature
fresh     what this run counts: sensor_id, location_id, temperature, measured_at
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import duckdb
from msgspec import Struct

from chalicelib.errors import ValidationError
from chalicelib.ledger import Counts
from chalicelib.thermistor import TEMPERATURE_MAX_CELSIUS
from chalicelib.validation import shorten

# Rows whose keys are held in memory at a time while duplicates are dropped.
_ROWS_PER_BUCKET = 8_000_000
# More partitions in one COPY need more write buffers than a small memory limit has.
_LOCATIONS_PER_COPY = 64

_LANDING_COLUMNS = """{
    sensor_id: 'VARCHAR', location_id: 'VARCHAR', temperature: 'DOUBLE', timestamp: 'TIMESTAMP', queued_at_ms: 'BIGINT'
}"""
HOUR_FORMAT = "%Y-%m-%dT%H"
_INPUT_COLUMNS = ("sensor_id", "location_id", "temperature", "timestamp")
_JSON_COLUMNS = dict.fromkeys(_INPUT_COLUMNS, "VARCHAR")
_JSON_READER = f"read_json(?, format = 'newline_delimited', ignore_errors = true, columns = {_JSON_COLUMNS})"
_CSV_READER = "read_csv(?, header = true, all_varchar = true, null_padding = true, store_rejects = true)"
_READERS = {
    ".csv": _CSV_READER,
    ".csv.gz": _CSV_READER,
    ".jsonl": _JSON_READER,
    ".jsonl.gz": _JSON_READER,
    ".parquet": "read_parquet(?)",
}


class LocationGroup(Struct, frozen=True):
    """What a run has for one location; the file is None when nothing of it is new."""

    location_id: str
    counts: Counts
    file: Path | None


def load_landing(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> None:
    """Read landing objects into `incoming`."""
    connection.execute(
        f"""
        CREATE TABLE incoming AS
        SELECT sensor_id, location_id, temperature, timestamp AS measured_at, queued_at_ms
        FROM read_json(?, columns = {_LANDING_COLUMNS}, format = 'newline_delimited')
        """,
        [[str(file) for file in files]],
    )


def is_readable_landing(connection: duckdb.DuckDBPyConnection, file: Path) -> bool:
    """Tell whether a landing object is what the consumer writes, to its last line."""
    try:
        connection.execute(
            f"SELECT max(columns(*)) FROM read_json(?, columns = {_LANDING_COLUMNS}, format = 'newline_delimited')",
            [str(file)],
        ).fetchall()
    except duckdb.Error:
        return False
    return True


def load_static(connection: duckdb.DuckDBPyConnection, file: Path, latest: datetime) -> int:
    """Read a CSV, JSON Lines or Parquet file into `incoming`; return how many of its rows break the contract.

    A row is measured between 1970 and `latest` (UTC).

    Raises ValidationError for an unknown format or a missing column.
    """
    suffix = next((suffix for suffix in _READERS if file.name.endswith(suffix)), None)
    if suffix is None:
        raise ValidationError(f"key: must end with one of {', '.join(_READERS)}")
    try:
        connection.execute(f"CREATE TABLE source AS FROM {_READERS[suffix]}", [str(file)])
    except duckdb.Error as error:
        raise ValidationError(f"key: not a readable {suffix} file: {shorten(str(error))}") from None
    columns = [column for (column, *_) in connection.execute("DESCRIBE source").fetchall()]
    for column in _INPUT_COLUMNS:
        if column not in columns or not _number(connection, f"SELECT count(*) = 0 OR count({column}) > 0 FROM source"):
            raise ValidationError(f"{column}: the input has no such column")
    connection.execute(_CHECK_SOURCE, [latest])
    rejected = _number(connection, "SELECT count(*) FROM reject_errors") if "csv" in suffix else 0
    return rejected + _number(connection, "SELECT (SELECT count(*) FROM source) - (SELECT count(*) FROM incoming)")


_CHECK_SOURCE = f"""
CREATE TABLE incoming AS
SELECT * FROM (
    SELECT sensor_id::VARCHAR AS sensor_id, location_id::VARCHAR AS location_id,
           try_cast(temperature AS DOUBLE) AS temperature,
           try_cast(timestamp::VARCHAR AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS measured_at, NULL::BIGINT AS queued_at_ms
    FROM source
)
WHERE regexp_full_match(sensor_id, '[A-Za-z0-9_.:-]{{1,64}}')
  AND regexp_full_match(location_id, '[A-Za-z0-9_.:-]{{1,64}}')
  AND abs(temperature) < {TEMPERATURE_MAX_CELSIUS} AND measured_at BETWEEN TIMESTAMP '1970-01-01' AND ?::TIMESTAMPTZ AT TIME ZONE 'UTC'
"""


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
    connection.execute("CREATE TABLE seen (sensor_id VARCHAR, measured_at TIMESTAMP, temperature DOUBLE)")
    if files:
        connection.execute("INSERT INTO seen FROM read_parquet(?)", [[str(file) for file in files]])


def drop_duplicates(connection: duckdb.DuckDBPyConnection, earliest: datetime) -> None:
    """Fill `fresh` from `incoming`: of each (sensor, time) the measurement queued first, unless it was seen.

    Fills `conflicts` with the location of every measurement dropped for one that has another temperature.
    """
    connection.execute(
        """
        CREATE TABLE fresh (sensor_id VARCHAR, location_id VARCHAR, temperature DOUBLE, measured_at TIMESTAMP);
        CREATE TABLE conflicts (location_id VARCHAR);
        """
    )
    buckets = 1 + _number(connection, "SELECT count(*) FROM incoming") // _ROWS_PER_BUCKET
    for bucket in range(buckets):
        part = f"hash(sensor_id) % {buckets} = {bucket}" if buckets > 1 else "true"
        connection.execute(_DROP_DUPLICATES.format(part=part, earliest=f"TIMESTAMP '{earliest}'"))


# Most keys occur once, and for those any_value is exact and cheap. Only the others pay for an order.
_DROP_DUPLICATES = """
CREATE OR REPLACE TEMP TABLE grouped AS
SELECT sensor_id, measured_at, count(*) AS copies, any_value(location_id) AS location_id,
       any_value(temperature) AS temperature
FROM incoming WHERE measured_at >= {earliest} AND {part}
GROUP BY sensor_id, measured_at;

CREATE OR REPLACE TEMP TABLE copied AS
SELECT incoming.* FROM incoming SEMI JOIN (FROM grouped WHERE copies > 1) USING (sensor_id, measured_at);

CREATE OR REPLACE TEMP VIEW chosen AS
SELECT sensor_id, measured_at, location_id, temperature FROM grouped WHERE copies = 1
UNION ALL
SELECT sensor_id, measured_at, first.location_id, first.temperature FROM (
    SELECT sensor_id, measured_at, min({{
        'queued_at_ms': coalesce(queued_at_ms, 0), 'location_id': location_id, 'temperature': temperature
    }}) AS first
    FROM copied GROUP BY sensor_id, measured_at
);

CREATE OR REPLACE TEMP VIEW seen_part AS FROM seen WHERE {part};

INSERT INTO fresh
SELECT sensor_id, location_id, temperature, measured_at
FROM chosen ANTI JOIN seen_part USING (sensor_id, measured_at);

INSERT INTO conflicts
SELECT copied.location_id FROM copied JOIN fresh USING (sensor_id, measured_at)
WHERE copied.temperature <> fresh.temperature
UNION ALL
SELECT incoming.location_id FROM incoming JOIN seen_part USING (sensor_id, measured_at)
WHERE incoming.temperature <> seen_part.temperature;
"""


def write_groups(connection: duckdb.DuckDBPyConnection, earliest: datetime, folder: Path) -> list[LocationGroup]:
    """Write `fresh` as one Parquet file per location below `folder` and count what became of `incoming`."""
    rows = connection.execute(
        """
        WITH arrived AS (
            SELECT location_id, count(*) AS arrived, count(*) FILTER (measured_at < ?) AS late FROM incoming GROUP BY 1
        ), kept AS (
            SELECT location_id, count(*) AS kept FROM fresh GROUP BY 1
        ), conflicting AS (
            SELECT location_id, count(*) AS conflicting FROM conflicts GROUP BY 1
        )
        SELECT location_id, arrived, late, coalesce(kept, 0), coalesce(conflicting, 0)
        FROM arrived LEFT JOIN kept USING (location_id) LEFT JOIN conflicting USING (location_id)
        ORDER BY location_id
        """,
        [earliest],
    ).fetchall()
    files = _write_locations(connection, [location_id for location_id, _, _, kept, _ in rows if kept], folder)
    return [
        LocationGroup(
            location_id,
            Counts(kept, duplicates=arrived - late - kept, conflicts=conflicting, late=late),
            files.get(location_id),
        )
        for location_id, arrived, late, kept, conflicting in rows
    ]


def _write_locations(connection: duckdb.DuckDBPyConnection, location_ids: list[str], folder: Path) -> dict[str, Path]:
    for start in range(0, len(location_ids), _LOCATIONS_PER_COPY):
        some = location_ids[start : start + _LOCATIONS_PER_COPY]
        connection.execute(
            f"""
            COPY (FROM fresh WHERE location_id BETWEEN $first AND $last)
            TO '{folder}' (FORMAT parquet, PARTITION_BY (location_id), OVERWRITE_OR_IGNORE)
            """,
            {"first": some[0], "last": some[-1]},
        )
    # Every partition is a folder named `location_id=<percent-encoded id>` with one file.
    return {unquote(file.parent.name.partition("=")[2]): file for file in folder.glob("*/*.parquet")}


def write_seen(connection: duckdb.DuckDBPyConnection, hours: list[str], folder: Path) -> dict[str, Path]:
    """Write what `fresh` adds to each of the hours as a Parquet file; return the files of hours that got anything."""
    written = {}
    for hour in hours:
        file = folder / f"{hour}.parquet"
        start = datetime.fromisoformat(f"{hour}:00")
        copied = connection.execute(
            f"""
            COPY (SELECT sensor_id, measured_at, temperature FROM fresh
                  WHERE measured_at >= TIMESTAMP '{start}' AND measured_at < TIMESTAMP '{start + timedelta(hours=1)}')
            TO '{file}' (FORMAT parquet, COMPRESSION zstd)
            """
        ).fetchall()
        if copied[0][0]:
            written[hour] = file
    return written


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(connection.execute(query).fetchall()[0][0])
