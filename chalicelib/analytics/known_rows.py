"""What committed runs know of incoming rows: by one manifest, from spool, archive and the memory of duplicates."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import duckdb
import msgspec

from chalicelib.analytics.entries import ARCHIVE_PREFIX, read_archive_key
from chalicelib.analytics.range_files import readable
from chalicelib.ledger import NO_RUN, Manifest, run_number
from chalicelib.object_store import ObjectStore

_KEY = "location_id, sensor_id, measured_at"


class _File(NamedTuple):
    """A file, the first and last second of its rows, and what of it becomes a row of `known`."""

    key: str
    first: str
    last: str
    columns: str
    condition: str = "true"


def load_known(connection: duckdb.DuckDBPyConnection, store: ObjectStore, manifest: Manifest) -> None:
    """Make the table `known` of the rows that committed runs have, as of a manifest, under keys of `incoming`.

    Columns: location_id, sensor_id, measured_at TIMESTAMP, value DOUBLE, temperature DECIMAL(18, 12), delivery
    INTEGER, counted BOOLEAN. A key is counted once at most; a row that is not `counted` is a duplicate of one, whose
    value and temperature are not kept. Raises ObjectNotFoundError when a file is gone, for which a newer manifest is
    the cure.
    """
    connection.execute(_CREATE)
    with readable(connection, store) as url:
        for file in _touched(connection, list(_files(connection, store, manifest))):
            _find(connection, url, file)
    # By a manifest that is not the newest, a row may be in both spool and archive.
    connection.execute("CREATE TABLE known AS SELECT DISTINCT * FROM found; DROP TABLE found")


_CREATE = """
CREATE TEMP TABLE found (
    location_id VARCHAR, sensor_id VARCHAR, measured_at TIMESTAMP, value DOUBLE, temperature DECIMAL(18, 12),
    delivery INTEGER, counted BOOLEAN
)
"""
_COUNTED = f"{_KEY}, value, temperature, delivery, true"
_DUPLICATES = f"{_KEY}, NULL, NULL, delivery, false"


def _files(connection: duckdb.DuckDBPyConnection, store: ObjectStore, manifest: Manifest) -> Iterator[_File]:
    """Yield every file that may have rows of the days that `incoming` touches."""
    if manifest.run_id == NO_RUN:
        return
    for part in [*manifest.spool, *(part for entry in manifest.entries for part in entry.parts)]:
        yield _File(part.key, part.first, part.last, _COUNTED)
    for part in manifest.duplicates:
        yield _File(part.key, part.first, part.last, _DUPLICATES)
    number = run_number(manifest.run_id)
    # They may be there or not; their parts are, and have been read.
    undecided = {entry.key for entry in manifest.entries}
    days = connection.execute("SELECT DISTINCT measured_at::DATE FROM incoming ORDER BY 1").fetchall()
    for (day,) in days:
        for key in store.list_keys(f"{ARCHIVE_PREFIX}date={day}/"):
            name = read_archive_key(key)
            if name and key not in undecided:
                # What later runs have counted is not there yet for who reads by this manifest.
                condition = f"run <= {number}" if run_number(name.run_id) > number else "true"
                yield _File(key, name.first, name.last, _COUNTED, condition)


def _touched(connection: duckdb.DuckDBPyConnection, files: list[_File]) -> list[_File]:
    """Return the files with an incoming row between their first and last second: a gap between two opens none."""
    # To look at all rows' seconds for nothing would take a tenth of what it takes to load them.
    if not files:
        return []
    spans = msgspec.json.encode([(number, file.first, file.last) for number, file in enumerate(files)]).decode()
    rows = connection.execute(_TOUCHED, [spans]).fetchall()
    return [files[number] for (number,) in rows]


_TOUCHED = """
WITH files AS (
    SELECT (span ->> 0)::INTEGER AS number, strptime(span ->> 1, '%Y%m%dT%H%M%SZ') AS first,
           strptime(span ->> 2, '%Y%m%dT%H%M%SZ') AS last
    FROM (SELECT unnest(?::JSON::JSON[]) AS span)
),
seconds AS (SELECT DISTINCT date_trunc('second', measured_at)::TIMESTAMP AS second FROM incoming)
SELECT number FROM files ASOF JOIN seconds ON files.first <= seconds.second WHERE second <= last ORDER BY number
"""


def _find(connection: duckdb.DuckDBPyConnection, url: Callable[[str], str], file: _File) -> None:
    """Add a file's rows under keys of `incoming` to `found`: first its keys are read, then what met, if anything."""
    rows = f"read_parquet('{url(file.key)}', file_row_number = true, hive_partitioning = false)"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE met AS
        SELECT file_row_number FROM {rows} SEMI JOIN (
            SELECT {_KEY} FROM incoming
            WHERE measured_at >= strptime($first, '%Y%m%dT%H%M%SZ')
              AND measured_at < strptime($last, '%Y%m%dT%H%M%SZ') + INTERVAL 1 SECOND
        ) USING ({_KEY})
        """,
        {"first": file.first, "last": file.last},
    )
    if connection.execute("SELECT count(*) FROM met").fetchall()[0][0]:
        connection.execute(
            f"INSERT INTO found SELECT {file.columns} FROM {rows} SEMI JOIN met USING (file_row_number)"
            f" WHERE {file.condition}"
        )
