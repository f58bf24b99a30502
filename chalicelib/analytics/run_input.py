"""The receiver's input, which landing objects or a static file become: the table `incoming`.

Its columns: location_id, sensor_id, measured_at (UTC, to the millisecond), temperature (°C, in the decimals that runs
sum), value (ohm), status, queued_at_ms (when first queued, in ms since the epoch), delivery, which two copies of the
same queue message have in common, and place, a row's index in its message. A static file has but the first four, and a
value if it likes.
"""

from datetime import datetime
from pathlib import Path

import duckdb

from chalicelib.errors import ValidationError
from chalicelib.thermistor import TEMPERATURE_MAX_CELSIUS
from chalicelib.validation import shorten

_INPUT_COLUMNS = ("sensor_id", "location_id", "temperature", "timestamp")
_JSON_COLUMNS = dict.fromkeys((*_INPUT_COLUMNS, "value"), "VARCHAR")
_JSON_READER = f"read_json(?, format = 'newline_delimited', ignore_errors = true, columns = {_JSON_COLUMNS})"
_CSV_READER = "read_csv(?, header = true, all_varchar = true, null_padding = true, store_rejects = true)"
_READERS = {
    ".csv": _CSV_READER,
    ".csv.gz": _CSV_READER,
    ".jsonl": _JSON_READER,
    ".jsonl.gz": _JSON_READER,
    ".parquet": "read_parquet(?)",
}


def create_incoming(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `incoming`, empty; it refuses a row that lacks something, since no query would count it."""
    connection.execute(
        """
        CREATE TABLE incoming (
            location_id VARCHAR NOT NULL, sensor_id VARCHAR NOT NULL, measured_at TIMESTAMP NOT NULL,
            temperature DECIMAL(18, 12) NOT NULL, value DOUBLE, status VARCHAR, queued_at_ms BIGINT,
            delivery INTEGER, place INTEGER
        )
        """
    )


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
    create_incoming(connection)
    connection.execute(_CHECK_SOURCE.format(value="value" if "value" in columns else "NULL"), [latest])
    rejected = _number(connection, "SELECT count(*) FROM reject_errors") if "csv" in suffix else 0
    return rejected + _number(connection, "SELECT (SELECT count(*) FROM source) - (SELECT count(*) FROM incoming)")


_CHECK_SOURCE = f"""
INSERT INTO incoming BY NAME
SELECT * FROM (
    SELECT location_id::VARCHAR AS location_id, sensor_id::VARCHAR AS sensor_id,
           date_trunc('millisecond', try_cast(timestamp::VARCHAR AS TIMESTAMPTZ) AT TIME ZONE 'UTC') AS measured_at,
           try_cast(try_cast(temperature AS DOUBLE) AS DECIMAL(18, 12)) AS temperature,
           try_cast({{value}} AS DOUBLE) AS value
    FROM source
)
WHERE regexp_full_match(sensor_id, '[A-Za-z0-9_.:-]{{{{1,64}}}}')
  AND regexp_full_match(location_id, '[A-Za-z0-9_.:-]{{{{1,64}}}}')
  AND abs(temperature) < {TEMPERATURE_MAX_CELSIUS}
  AND measured_at BETWEEN TIMESTAMP '1970-01-01' AND ?::TIMESTAMPTZ AT TIME ZONE 'UTC'
"""


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(connection.execute(query).fetchall()[0][0])
