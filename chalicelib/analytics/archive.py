"""The archive: the format of its files and of the spool's parts, and how parts are handed over to it.

A run puts its rows into parts of the spool. Which parts become which archive file is decided in its manifest, as
entries, and done after its commit, by the claims that follow.
"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from chalicelib.ledger import Entry, Part
from chalicelib.object_store import ObjectStore
from chalicelib.settings import ArchiveSettings

ARCHIVE_PREFIX = "archive/"


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
    rows: str,
    prefix: str,
    run: int,
    entry_rows: int,
    folder: Path,
) -> list[Part]:
    """Write the rows of a table or query as parts `<prefix>/<number>.parquet`, each of one UTC day and sorted.

    `rows` has location_id, sensor_id, measured_at, value, temperature, status, queued_at_ms and delivery, and no key
    twice; `run` is the attempt's number. No part has more than `entry_rows` rows. Files pass through `folder`.
    """
    raise NotImplementedError


def decide_entries(
    free: Iterable[Part],
    settings: ArchiveSettings,
    run_id: str,
    started_at: datetime,
    handed_over_at: str,
    late_handed_over_at: str,
) -> HandOver:
    """Decide which of the free parts, the run's own among them, a run hands over.

    The times are those of the previous manifest.
    """
    raise NotImplementedError


def read_archive_key(key: str) -> ArchiveName:
    """Return what the key of an archive file tells; raises ValidationError for any other name."""
    raise NotImplementedError


def carry_out(store: ObjectStore, entry: Entry, memory_limit_mb: int, scratch: Path | None = None) -> None:
    """Write an entry's file unless it is there; raises ObjectNotFoundError when a part is gone."""
    raise NotImplementedError


def archived_through(spool: Iterable[Part], entries: Iterable[Entry], run_id: str) -> int:
    """Return the number of the last run, up to this one, of which every row is in the archive."""
    raise NotImplementedError
