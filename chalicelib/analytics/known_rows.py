"""What committed runs know of incoming rows: by one manifest, from spool, archive and the memory of duplicates."""

from datetime import datetime
from pathlib import Path

import duckdb

from chalicelib.ledger import Manifest, Part
from chalicelib.object_store import ObjectStore


def load_known(connection: duckdb.DuckDBPyConnection, store: ObjectStore, manifest: Manifest) -> None:
    """Make the table `known` of the rows that committed runs have, as of a manifest, under keys of `incoming`.

    Columns: location_id, sensor_id, measured_at TIMESTAMP, value DOUBLE, temperature DECIMAL(18, 12), delivery
    INTEGER, counted BOOLEAN. A key is counted once at most; a row that is not `counted` is a duplicate of one, whose
    value and temperature are not kept. Raises ObjectNotFoundError when a file is gone, for which a newer manifest is
    the cure.
    """
    raise NotImplementedError


def write_duplicates(
    connection: duckdb.DuckDBPyConnection,
    store: ObjectStore,
    rows: str,
    prefix: str,
    previous: list[Part],
    claimed_at: datetime,
    folder: Path,
) -> list[Part]:
    """Write the duplicates of a table or query below `prefix` and return all parts that remember duplicates.

    `rows` has location_id, sensor_id, measured_at, delivery and queued_at_ms. `previous` are the parts of the
    previous manifest; when they become too many, all are merged into one without what was first queued more than 15
    days before `claimed_at`. Raises ObjectNotFoundError when one of them is gone.
    """
    raise NotImplementedError
