"""The receiver's usual input: landing objects become the table `incoming`, see run_input.py, or are refused whole.

DuckDB unpacks them, and takes a gzip stream that was cut short for a smaller one; so an object is first compared with
the fingerprint in its name, and its rows with the rest of the name.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb

from chalicelib.analytics import run_input
from chalicelib.analytics.duckdb_session import FILES, as_files
from chalicelib.errors import ValidationError
from chalicelib.landing import LandingName, is_whole, read_landing_key, salvage_landing
from chalicelib.ledger import Quarantine
from chalicelib.object_store import ObjectStore
from chalicelib.validation import shorten

# Downloaded, loaded and deleted together: some 40 MB, however much a run has.
_ROWS_AT_A_TIME = 1_000_000
_OBJECTS_AT_A_TIME = 2_000
_REASON_CHARACTERS_MAX = 200
# What DuckDB says of data; what is no gzip it calls an error of input and output, as it does a full disk.
_DATA_ERRORS = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException)
_FILE = re.compile(r' in file "[^"]*",?')

logger = logging.getLogger(__name__)


class _Landed(NamedTuple):
    """A landing object whose name holds, and the local file that it is copied to."""

    key: str
    name: LandingName
    file: Path

    def refused(self, reason: str) -> Quarantine:
        return Quarantine(self.key, reason, self.name.rows)


def load(connection: duckdb.DuckDBPyConnection, folder: Path, store: ObjectStore, keys: list[str]) -> list[Quarantine]:
    """Create `incoming` with the rows of all objects that are as they were written; return the others.

    Raises ObjectNotFoundError when an object is gone, duckdb.Error when it is not the objects' fault.
    """
    run_input.create_incoming(connection)
    landed, refused = _read_names(folder, store, keys)
    for portion in _portions(landed):
        store.download((one.key, one.file) for one in portion)
        refused += _load_portion(connection, portion)
        for one in portion:
            one.file.unlink()
    for aside in refused:
        logger.warning("landing object %s goes to quarantine with %d rows: %s", aside.key, aside.rows, aside.reason)
    return refused


def _read_names(folder: Path, store: ObjectStore, keys: list[str]) -> tuple[list[_Landed], list[Quarantine]]:
    landed: list[_Landed] = []
    refused: list[Quarantine] = []
    for number, key in enumerate(keys):
        try:
            landed.append(_Landed(key, read_landing_key(key), folder / f"{number:06}.jsonl.gz"))
        except ValidationError:
            refused.append(Quarantine(key, "is not named as a landing object", len(salvage_landing(store.get(key)))))
    return landed, refused


def _portions(landed: Iterable[_Landed]) -> Iterator[list[_Landed]]:
    portion: list[_Landed] = []
    rows = 0
    for one in landed:
        if portion and (rows + one.name.rows > _ROWS_AT_A_TIME or len(portion) == _OBJECTS_AT_A_TIME):
            yield portion
            portion, rows = [], 0
        portion.append(one)
        rows += one.name.rows
    if portion:
        yield portion


def _load_portion(connection: duckdb.DuckDBPyConnection, portion: list[_Landed]) -> list[Quarantine]:
    whole, refused = [], []
    for one in portion:
        if is_whole(one.file.read_bytes(), one.name):
            whole.append(one)
        else:
            refused.append(one.refused("was cut short or changed: its content is not what was written under its name"))
    if whole and _add(connection, whole):
        refused += [one.refused(reason) for one in whole if (reason := _add(connection, [one]))]
    return refused


def _add(connection: duckdb.DuckDBPyConnection, landed: list[_Landed]) -> str | None:
    """Add objects to `incoming`, or none of their rows and say why not; raises duckdb.Error for other reasons."""
    names = [(place, one.name.first, one.name.last) for place, one in enumerate(landed)]
    connection.begin()
    try:
        parameters = [as_files(one.file for one in landed), json.dumps(names)]
        added = connection.execute(_INSERT, parameters).fetchall()[0][0]
    except duckdb.Error as error:
        connection.rollback()
        if not isinstance(error, _DATA_ERRORS) and "gzip" not in str(error).lower():
            raise
        # Its first line, without the kind of error and the name of a local file.
        text = _FILE.sub("", str(error).partition("\n")[0].partition("Error: ")[2])
        return f"cannot be read: {shorten(text, _REASON_CHARACTERS_MAX)}"
    expected = sum(one.name.rows for one in landed)
    if added != expected:
        connection.rollback()
        return f"has {added} rows that keep to the contract and to its name, which tells of {expected}"
    connection.commit()
    return None


_ID_PATTERN = "'[A-Za-z0-9_.:-]{1,64}'"

# DECIMAL(18, 12) is what refuses a temperature beyond the contract, and makes -0.0 the 0.0 that it equals. DuckDB
# numbers the files of a list from 0 on.
_INSERT = f"""
INSERT INTO incoming
SELECT location_id, sensor_id, timestamp, temperature, value, status, queued_at_ms, delivery, place
FROM read_json({FILES}, format = 'newline_delimited', columns = {{
    location_id: 'VARCHAR', sensor_id: 'VARCHAR', timestamp: 'TIMESTAMP', temperature: 'DECIMAL(18, 12)',
    value: 'DOUBLE', status: 'VARCHAR', queued_at_ms: 'BIGINT', delivery: 'INTEGER', place: 'INTEGER'
}}) JOIN (
    SELECT (name->>0)::UBIGINT AS file_index, strptime(name->>1, '%Y%m%dT%H%M%SZ') AS first,
           strptime(name->>2, '%Y%m%dT%H%M%SZ') + INTERVAL 1 SECOND AS behind_last
    FROM (SELECT unnest(?::JSON::JSON[]) AS name)
) USING (file_index)
WHERE timestamp >= first AND timestamp < behind_last AND status IS NOT NULL
  AND regexp_full_match(location_id, {_ID_PATTERN}) AND regexp_full_match(sensor_id, {_ID_PATTERN})
"""
