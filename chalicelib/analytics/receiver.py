"""The workflow's first function: claims the landed measurements, drops duplicates, leaves one file per location.

Nothing here is visible to readers of reports, and nothing is consumed, before the workflow commits the run.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import duckdb
import msgspec

from chalicelib.analytics import deduplication, run_input
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.analytics.workflow import LocationTask, ReportAnswer, RunAnswer, RunRequest, S3Input, SqsInput
from chalicelib.broken_count import BrokenCount
from chalicelib.errors import ObjectNotFoundError
from chalicelib.fields import CLOCK_SKEW_MAX, format_time
from chalicelib.landing import LANDING_PREFIX, QUARANTINE_PREFIX, encode_landing, salvage_landing
from chalicelib.ledger import NO_MANIFEST, Counts, Ledger, Manifest, manifest_key, report_key, state_key
from chalicelib.object_store import ObjectStore
from chalicelib.reports import locations_summary_key, run_summary_key
from chalicelib.settings import AnalyticsSettings

# How long after it stopped to count a measurement can still be delivered again: five times the longest
# visibility timeout in use is a fraction of this.
_REDELIVERY_MAX = timedelta(hours=24)
# A backlog goes into several runs, the oldest first, so that a manifest stays below some MB.
_OBJECTS_PER_RUN = 50_000
# Downloaded, loaded and deleted together, so that /tmp never holds all of a run's input.
_OBJECTS_AT_A_TIME = 256
# The manifest names all reports of a run; an answer has to stay below Step Functions' 256 KiB.
_REPORTS_LISTED = 100

# A line of the log may be 256 KB long, and a key takes about 80 bytes.
_KEYS_PER_LOG_LINE = 1_000

logger = logging.getLogger(__name__)


class _Prepared(NamedTuple):
    """The input of an attempt, deduplicated; `remembered` is the time from which on later runs must know it."""

    invalid: int
    watermark: datetime
    remembered: datetime
    partitions: list[deduplication.LocationPartition]
    seen_hours: list[str]


class Receiver:
    """Prepares a run; safe to call again for the same run at any time."""

    def __init__(
        self,
        settings: AnalyticsSettings,
        store: ObjectStore,
        ledger: Ledger,
        broken_count: BrokenCount,
        new_uuid: Callable[[], UUID],
        scratch: Path | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._broken_count = broken_count
        self._new_uuid = new_uuid
        self._scratch = scratch

    def receive(self, request: RunRequest) -> RunAnswer:
        """Write the run's manifest and the files it names; `locations` is 0 when there is nothing to do.

        Raises ValidationError for a static input that breaks the rules, ObjectNotFoundError when a static
        input does not exist or another run took a landing object away.
        """
        try:
            # An earlier attempt finished and its answer was lost.
            return _answer(request, self._ledger.read_manifest(request.run_id))
        except ObjectNotFoundError:
            pass
        if isinstance(request.input, S3Input):
            return self._prepare(request, NO_MANIFEST, [request.input.key])
        previous = self._ledger.committed()
        keys = self._claim(previous)
        if keys:
            for start in range(0, len(keys), _KEYS_PER_LOG_LINE):
                logger.info("claimed", extra={"landing_keys": keys[start : start + _KEYS_PER_LOG_LINE]})
            return self._prepare(request, previous, keys)
        return RunAnswer(request.run_id, False, previous.run_id, "", "", 0, Counts())

    def _claim(self, previous: Manifest) -> list[str]:
        """Clean up behind the committed run and return the oldest landing objects that no run has counted."""
        landed = self._store.list_keys(LANDING_PREFIX)
        counted = set(previous.landing)
        leftovers = [key for key in landed if key in counted]
        if leftovers:
            self._store.delete(self._superseded(previous))
            # Last, since a leftover landing object is what makes the next run repeat all of this.
            self._store.delete(leftovers)
        return [key for key in landed if key not in counted][:_OBJECTS_PER_RUN]

    def _superseded(self, committed: Manifest) -> list[str]:
        """Return the keys that only the run before the committed one still named."""
        try:
            before = self._ledger.read_manifest(committed.previous_run_id)
        except ObjectNotFoundError:
            return []
        reports = [key for location, key in before.reports.items() if committed.reports[location] != key]
        seen = [key for hour, keys in before.seen.items() if hour not in committed.seen for key in keys]
        # The manifest and summaries of `before` stay for readers who have just read the head.
        gone = before.previous_run_id
        about = [manifest_key(gone), run_summary_key(gone), locations_summary_key(gone)]
        return [*reports, *map(state_key, reports), *seen, *about]

    def _prepare(self, request: RunRequest, previous: Manifest, keys: list[str]) -> RunAnswer:
        # Two attempts at one run may overlap: each writes below a name of its own, and the first manifest decides.
        attempt = f"{request.run_id}/{self._new_uuid()}"
        prepared = self._drop_duplicates(request, previous, keys, attempt)
        tasks = [_task(partition, attempt, request.run_id, previous) for partition in prepared.partitions]
        locations_key = f"scratch/{attempt}/locations.json"
        self._store.put(locations_key, msgspec.json.encode(tasks))
        # Sensors do not break in a file, and what becomes of it is no part of the books.
        broken = self._broken_count.read() if isinstance(request.input, SqsInput) else 0
        counts = sum((partition.counts for partition in prepared.partitions), Counts(invalid=prepared.invalid))
        manifest = Manifest(
            run_id=request.run_id,
            created_at=format_time(request.started_at),
            previous_run_id=previous.run_id,
            landing=keys if isinstance(request.input, SqsInput) else [],
            locations_key=locations_key,
            locations=len(tasks),
            reports=previous.reports | {task.location_id: task.report_key for task in tasks},
            seen=_seen_keys(previous, prepared.remembered, attempt, prepared.seen_hours),
            watermark=format_time(prepared.watermark),
            counts=counts,
            totals=previous.totals + counts,
            broken_sensors=broken,
            newly_broken_sensors=broken - previous.broken_sensors,
        )
        if not self._ledger.write_manifest(manifest):
            manifest = self._ledger.read_manifest(request.run_id)
        return _answer(request, manifest)

    def _drop_duplicates(self, request: RunRequest, previous: Manifest, keys: list[str], attempt: str) -> "_Prepared":
        """Upload what is new, a file for each location, and what of it later runs must remember."""
        with duckdb_session(self._settings.duckdb_memory_limit_mb, self._scratch) as (connection, folder):
            invalid = self._load(connection, folder, request, keys)
            watermark = deduplication.watermark(connection, datetime.fromisoformat(previous.watermark))
            # A sensor whose clock is fast must not make other locations' oldest measurements late.
            newest = min(watermark, request.started_at)
            earliest = deduplication.earliest_kept(newest, self._settings.history_hours, self._settings.window_minutes)
            remembered = earliest - _REDELIVERY_MAX
            hours = deduplication.hours_of_incoming(connection, remembered)
            seen_keys = [key for hour in hours for key in previous.seen.get(hour, [])]
            deduplication.load_seen(connection, [path for _, path in self._download(folder, seen_keys)])
            deduplication.drop_duplicates(connection, earliest)
            partitions = deduplication.write_partitions(connection, folder / "locations")
            seen = deduplication.write_seen(connection, hours, folder)
            self._store.upload(
                [
                    *((_measurements_key(attempt, one.location_id), one.file) for one in partitions if one.file),
                    *((_seen_key(attempt, hour), file) for hour, file in seen.items()),
                ]
            )
        return _Prepared(invalid, watermark, remembered, partitions, list(seen))

    def _load(self, connection: duckdb.DuckDBPyConnection, folder: Path, request: RunRequest, keys: list[str]) -> int:
        """Bring the run's input into the database; return how many of its rows are invalid."""
        if isinstance(request.input, S3Input):
            (file,) = self._download(folder, keys)
            return run_input.load_static(connection, file[1], request.started_at + CLOCK_SKEW_MAX)
        run_input.create_incoming(connection)
        invalid = 0
        for start in range(0, len(keys), _OBJECTS_AT_A_TIME):
            files = self._download(folder, keys[start : start + _OBJECTS_AT_A_TIME])
            invalid += self._load_landing(connection, files)
            for _, path in files:
                path.unlink()
        return invalid

    def _download(self, folder: Path, keys: list[str]) -> list[tuple[str, Path]]:
        # Only the end of a key's name matters, and a file's name must be shorter than a key may be.
        files = [(key, folder / f"{number:06}-{Path(key).name[-32:]}") for number, key in enumerate(keys)]
        self._store.download(files)
        return files

    def _load_landing(self, connection: duckdb.DuckDBPyConnection, files: list[tuple[str, Path]]) -> int:
        paths = [path for _, path in files]
        try:
            run_input.load_landing(connection, paths)
        except duckdb.Error as error:
            logger.warning("a landing object is damaged: %s", error)
            invalid = sum(self._salvage(key, path) for key, path in files)
            run_input.load_landing(connection, paths)
            return invalid
        return 0

    def _salvage(self, key: str, path: Path) -> int:
        """Quarantine a landing object that has bad lines, and keep its good ones; return the number of the bad."""
        content = path.read_bytes()
        measurements, invalid = salvage_landing(content)
        if invalid:
            self._store.put(f"{QUARANTINE_PREFIX}{key.removeprefix(LANDING_PREFIX)}", content)
            path.write_bytes(encode_landing(measurements))
        return invalid


def _seen_keys(previous: Manifest, remembered: datetime, attempt: str, hours: list[str]) -> dict[str, list[str]]:
    """Add the run's seen files to the previous ones, and let go of the hours before `remembered`."""
    kept = {hour: keys for hour, keys in previous.seen.items() if hour >= f"{remembered:{deduplication.HOUR_FORMAT}}"}
    return kept | {hour: [*kept.get(hour, []), _seen_key(attempt, hour)] for hour in hours}


def _seen_key(attempt: str, hour: str) -> str:
    return f"state/seen/{hour}/{attempt}.parquet"


def _measurements_key(attempt: str, location_id: str) -> str:
    return f"scratch/{attempt}/location_id={location_id}.parquet"


def _task(partition: deduplication.LocationPartition, attempt: str, run_id: str, previous: Manifest) -> LocationTask:
    previous_report = previous.reports.get(partition.location_id)
    return LocationTask(
        location_id=partition.location_id,
        report_key=report_key(partition.location_id, run_id),
        measurements_key=_measurements_key(attempt, partition.location_id) if partition.file else None,
        previous_state_key=state_key(previous_report) if previous_report else None,
        counts=partition.counts,
    )


def _answer(request: RunRequest, manifest: Manifest) -> RunAnswer:
    listed = islice(manifest.reports.items(), _REPORTS_LISTED) if isinstance(request.input, S3Input) else ()
    return RunAnswer(
        run_id=manifest.run_id,
        has_input=True,
        previous_run_id=manifest.previous_run_id,
        manifest_key=manifest_key(manifest.run_id),
        locations_key=manifest.locations_key,
        locations=manifest.locations,
        counts=manifest.counts,
        reports=[ReportAnswer(location_id, key) for location_id, key in listed],
    )
