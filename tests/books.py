"""What archive, spool and ledger of a stage in memory must hold at every moment, and in the end, row by row."""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb

from chalicelib.ingest.queue_messages import QueuedMessage
from chalicelib.landing import QUARANTINE_PREFIX
from chalicelib.ledger import NO_RUN, Manifest, Part, manifest_key, run_folder, run_number, run_of, state_key
from tests.crash_harness import World

# A location's sensor, and when it measured.
Key = tuple[str, str, datetime]

_ARCHIVE_NAME = re.compile(
    r"archive/date=([\d-]+)/(\d{12}-[0-9a-f]{16})_(\d{8}T\d{6}Z)_(\d{8}T\d{6}Z)_0of1_\d+\.parquet"
)


class Row(NamedTuple):
    """A row of the archive or of the spool: times are UTC, `temperature` to nine decimals."""

    location_id: str
    sensor_id: str
    measured_at: datetime
    value: float | None
    temperature: float
    status: str
    queued_after_ms: int
    run: int

    @property
    def key(self) -> Key:
        return self.location_id, self.sensor_id, self.measured_at

    @property
    def content(self) -> tuple[float | None, float, str, int]:
        """What must be as it was accepted, whichever run counted it."""
        return self.value, self.temperature, self.status, self.queued_after_ms


class Balance(NamedTuple):
    """How many measurements were accepted, and what became of them."""

    accepted: int
    measurements: int
    duplicates: int
    quarantined: int


# At every moment


def check_moment(world: World) -> None:
    """Committed is what everybody finds, whichever way: by the last two manifests, or by a look at all of the archive.

    Whoever reads all files below `archive/` sees nothing twice, and nothing that is not committed. Whoever reads by a
    manifest, the last one or the one before it, finds all that it names, and all rows of the runs up to it. No key is
    written by two processes, but for those that quarantine has for its objects.
    """
    assert [key for key in world.overwritten if not key.startswith(QUARANTINE_PREFIX)] == []
    manifests = world.committed_chain()
    counted = [_counted_by(world, manifest) for manifest in manifests]
    committed = _without_repetition(chain(*counted))
    assert _without_repetition(chain(*(_archive_file(world, key) for key in _keys(world, "archive/")))) <= committed
    for number, manifest in enumerate(manifests[:2]):
        missing = named(manifest) - world.store.s3.objects.keys()
        assert not missing, f"{manifest.run_id} names {sorted(missing)}"
        assert set(remembered(world, manifest).values()) == set(chain(*counted[number:]))


def named(manifest: Manifest) -> set[str]:
    """Return the keys of all that a reader may follow from a manifest, and of the manifest itself."""
    reports = manifest.reports.values()
    parts = chain(manifest.spool, manifest.duplicates, *(entry.parts for entry in manifest.entries))
    about = (manifest_key(run_folder(manifest.run_id)), manifest.locations_summary_key)
    return {*about, *reports, *map(state_key, reports), *(part.key for part in parts)}


# In the end


def check_books(world: World) -> None:
    """What is remembered is what was accepted, and nothing else is left."""
    memory, accepted = remembered(world, world.committed()), accepted_rows(world.sent)
    assert {key: row.content for key, row in memory.items()} == {key: row.content for key, row in accepted.items()}
    balance = balance_of(world)
    assert balance.accepted == balance.measurements + balance.duplicates + balance.quarantined
    assert balance.measurements == len(memory)
    assert world.queue == []
    assert world.landed() == []
    consumed = [key for manifest in world.committed_chain() for key in manifest.landing]
    assert len(consumed) == len(set(consumed))
    assert len(world.quarantined()) == world.ledger.tallies().quarantine.objects
    check_remains(world)


def balance_of(world: World) -> Balance:
    """Return the books of all committed runs."""
    totals = world.committed().totals
    accepted = world.accepted_elsewhere + sum(len(_measurements(message)) for message in _distinct(world.sent))
    return Balance(accepted, totals.measurements, totals.duplicates, totals.quarantined)


def check_remains(world: World) -> None:
    """Of the last ten runs there is only what the last two committed manifests name; the sweep is for older ones."""
    head = run_number(world.ledger.head() or NO_RUN)
    known = set().union(*map(named, world.committed_chain()[:2]))
    left = {key for key in _keys(world, "runs/") if head - 10 <= run_number(run_of(key)) <= head}
    assert left <= known, f"left behind: {sorted(left - known)}"


def remembered(world: World, manifest: Manifest) -> dict[Key, Row]:
    """Return what archive and spool hold together, read by a manifest as deduplication reads them."""
    undecided = {entry.key for entry in manifest.entries}
    archive = [_archive_file(world, key) for key in _keys(world, "archive/") if key not in undecided]
    parts = chain(manifest.spool, *(entry.parts for entry in manifest.entries))
    spool = [_part(world, part) for part in parts]
    rows = [row for row in chain(*archive, *spool) if row.run <= run_number(manifest.run_id)]
    memory = {row.key: row for row in rows}
    assert set(memory.values()) == set(rows), "one key has two contents"
    return memory


def accepted_rows(sent: Iterable[QueuedMessage]) -> dict[Key, Row]:
    """Return of each key that was accepted the row that counts: the one queued first."""
    rows: dict[Key, Row] = {}
    for message in sorted(_distinct(sent), key=lambda message: message.queued_at_ms):
        for one in _measurements(message):
            measured_at = datetime.fromisoformat(one["timestamp"]).replace(tzinfo=None)
            after = message.queued_at_ms - round(datetime.fromisoformat(one["timestamp"]).timestamp() * 1_000)
            row = Row(
                one["location_id"],
                one["sensor_id"],
                measured_at,
                one["value"],
                round(one["temperature"], 9),
                one["status"],
                after,
                run=0,
            )
            rows.setdefault(row.key, row)
    return rows


def _distinct(sent: Iterable[QueuedMessage]) -> list[QueuedMessage]:
    return list({message.identity: message for message in reversed(list(sent))}.values())


def _measurements(message: QueuedMessage) -> list[dict]:
    try:
        return json.loads(message.body)
    except ValueError:
        return []


def _without_repetition(rows: Iterable[Row]) -> set[Row]:
    listed = list(rows)
    assert len(set(listed)) == len(listed)
    return set(listed)


def _counted_by(world: World, manifest: Manifest) -> list[Row]:
    """Return the rows that a run added, from the parts that it wrote, which may be gone since."""
    parts = chain(manifest.spool, *(entry.parts for entry in manifest.entries))
    return [row for part in parts if run_of(part.key) == manifest.run_id for row in _part(world, part)]


def _part(world: World, part: Part) -> tuple[Row, ...]:
    return _rows_of_part(part, world.store.s3.history[part.key])


def _archive_file(world: World, key: str) -> tuple[Row, ...]:
    return _rows_of_archive(key, world.store.s3.objects[key])


# Asked for again and again, of the same files.
@lru_cache(maxsize=4_096)
def _rows_of_part(part: Part, content: bytes) -> tuple[Row, ...]:
    rows = rows_of(content)
    assert len(rows) == part.rows
    _check_range(rows, part.first, part.last)
    return rows


@lru_cache(maxsize=4_096)
def _rows_of_archive(key: str, content: bytes) -> tuple[Row, ...]:
    name = _ARCHIVE_NAME.fullmatch(key)
    assert name, key
    day, run_id, first, last = name.groups()
    rows = rows_of(content)
    assert {f"{row.measured_at:%Y-%m-%d}" for row in rows} == {day}
    assert list(rows) == sorted(rows, key=lambda row: row.key)
    assert max(row.run for row in rows) <= run_number(run_id)
    _check_range(rows, first, last)
    return rows


def _check_range(rows: Iterable[Row], first: str, last: str) -> None:
    seconds = [f"{row.measured_at:%Y%m%dT%H%M%SZ}" for row in rows]
    assert (min(seconds), max(seconds)) == (first, last)


def _keys(world: World, prefix: str) -> list[str]:
    return [key for key in world.store.s3.objects if key.startswith(prefix)]


def rows_of(content: bytes) -> tuple[Row, ...]:
    """Read a Parquet file of the archive or the spool."""
    with TemporaryDirectory(prefix="books-") as folder:
        file = Path(folder) / "rows.parquet"
        file.write_bytes(content)
        rows = duckdb.sql(
            f"""
            SELECT location_id, sensor_id, measured_at, value, round(temperature::DOUBLE, 9), status, queued_after_ms,
                   run
            FROM read_parquet('{file}')
            """
        ).fetchall()
    return tuple(Row(*row) for row in rows)
