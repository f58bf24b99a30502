"""The workflow's first function: fixes what a run contains, after it has done what the committed run left to do.

All that it does to objects follows from the committed manifest, so that claims may repeat it, overlap, or come late.
"""

import logging
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import duckdb
import msgspec

from chalicelib.analytics.archive import carry_out
from chalicelib.analytics.entries import decide_entries
from chalicelib.analytics.workflow import Claim, ClaimAnswer, ClaimRequest, ReportScope, S3Input
from chalicelib.errors import ObjectNotFoundError, ValidationError
from chalicelib.fields import format_time
from chalicelib.landing import LANDING_PREFIX, QUARANTINE_PREFIX, read_landing_key
from chalicelib.ledger import (
    NO_MANIFEST,
    NO_RUN,
    RUN_ID,
    RUNS_PREFIX,
    STATIC_PREFIX,
    Entry,
    Ledger,
    Manifest,
    manifest_key,
    next_run_id,
    run_folder,
    run_number,
    run_of,
    short_name,
    state_key,
)
from chalicelib.object_store import ObjectStore
from chalicelib.quarantine_count import QuarantineCount
from chalicelib.settings import Settings

# A backlog goes into several runs, the oldest first, so that a manifest stays below some MB.
_OBJECTS_PER_RUN = 50_000
# What older attempts may have left is found by the sweep.
_NUMBERS_LISTED = 10
_SWEEP_EVERY = timedelta(days=7)
# What S3 takes.
_KEY_BYTES_MAX = 1_024
_OF_AN_ATTEMPT = re.compile(rf"{RUNS_PREFIX}{RUN_ID}/")
# A line of the log may be 256 KB long, and a key takes about 130 bytes.
_KEYS_PER_LOG_LINE = 1_000

logger = logging.getLogger(__name__)


class Claimer:
    """Claims a run; safe to call again at any time: each claim is an attempt of its own, and one of them commits."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        ledger: Ledger,
        quarantine_count: QuarantineCount,
        new_uuid: Callable[[], UUID],
        scratch: Path | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._quarantine_count = quarantine_count
        self._new_uuid = new_uuid
        self._scratch = scratch

    def claim(self, request: ClaimRequest) -> ClaimAnswer:
        """Write the claim of a new attempt; `has_work` is false when there is nothing for a run to do.

        Raises ObjectNotFoundError when other runs have committed meanwhile.
        """
        if isinstance(request.input, S3Input):
            folder = f"{STATIC_PREFIX}{short_name(self._new_uuid())}"
            return self._write(request, folder, NO_MANIFEST, [request.input.key], [], NO_MANIFEST.swept_at)
        previous = self._ledger.committed()
        landed = self._store.list_keys(LANDING_PREFIX)
        archived = [entry.key for entry in previous.entries if self._carry_out(entry)]
        swept_at = self._clean_up(previous, landed, request.started_at)
        done = _done_with(previous)
        keys = sorted((key for key in landed if key not in done), key=_turn)[:_OBJECTS_PER_RUN]
        for start in range(0, len(keys), _KEYS_PER_LOG_LINE):
            logger.info("claimed", extra={"landing_keys": keys[start : start + _KEYS_PER_LOG_LINE]})
        folder = run_folder(next_run_id(previous.run_id, self._new_uuid()))
        return self._write(request, folder, previous, keys, archived, swept_at)

    def _carry_out(self, entry: Entry) -> bool:
        """Hand an entry's rows over to the archive; return whether it has them now."""
        try:
            carry_out(self._store, entry, self._settings.analytics.duckdb_memory_limit_mb, self._scratch)
        except (duckdb.Error, ObjectNotFoundError, MemoryError, OSError):
            # It stands unchanged in the next manifest, and the run goes on for all others. If a part is gone since
            # other runs have committed, this one will not.
            logger.exception("not archived yet: %s", entry.key)
            return False
        return True

    def _clean_up(self, previous: Manifest, landed: list[str], now: datetime) -> str:
        """Set aside and remove what the committed run is done with; return when all runs were last swept behind."""
        still_there = set(landed)
        for refused in previous.quarantine:
            if refused.key in still_there:
                aside = _quarantine_key(refused.key)
                self._store.put(aside, self._store.get(refused.key))
                self._quarantine_count.set_aside(aside)
        # Only a run that may commit can remember that it has swept.
        is_sweep = bool(landed) and now - datetime.fromisoformat(previous.swept_at) >= _SWEEP_EVERY
        done = _done_with(previous)
        gone = [*self._left_behind(previous, is_sweep=is_sweep), *(key for key in landed if key in done)]
        self._store.delete(gone)
        return format_time(now) if is_sweep else previous.swept_at

    def _left_behind(self, previous: Manifest, *, is_sweep: bool) -> Iterator[str]:
        """Yield what attempts have written that neither the committed manifest nor the one before it names."""
        if previous.run_id == NO_RUN:
            return
        number = run_number(previous.run_id)
        after = "" if is_sweep else run_folder(f"{max(number - _NUMBERS_LISTED, 0):012}")
        try:
            before = self._ledger.read_manifest(previous.previous_run_id)
        except ObjectNotFoundError:
            # Nobody can follow it any more, to whatever it named.
            before = NO_MANIFEST
        named = {*_named(previous), *_named(before)}
        for key in self._store.list_keys(RUNS_PREFIX, after):
            # What else somebody has put there is not ours, and later attempts may be under way.
            if key not in named and _OF_AN_ATTEMPT.match(key) and run_number(run_of(key)) <= number:
                yield key

    def _hands_over(self, previous: Manifest, claim: Claim) -> bool:
        """Tell whether the time has come to hand over what the spool has."""
        archive_settings = self._settings.archive
        return bool(decide_entries(previous, [], archive_settings, claim.run_id, claim.started_at).entries)

    def _write(
        self,
        request: ClaimRequest,
        folder: str,
        previous: Manifest,
        landing: list[str],
        archived: list[str],
        swept_at: str,
    ) -> ClaimAnswer:
        analytics = self._settings.analytics
        claim = Claim(
            folder=folder,
            execution=request.execution,
            started_at=request.started_at,
            previous_run_id=previous.run_id,
            input=request.input,
            landing=landing,
            archived=archived,
            swept_at=swept_at,
            scope=ReportScope(analytics.window_minutes, analytics.history_hours),
        )
        has_work = bool(landing or archived or self._hands_over(previous, claim))
        claim_key = f"{folder}/claim.json"
        if has_work:
            self._store.put(claim_key, msgspec.json.encode(claim))
        behind = _waiting(previous, claim)
        return ClaimAnswer(claim.run_id, folder, previous.run_id, claim_key, has_work, claim.scope, behind)


def _waiting(previous: Manifest, claim: Claim) -> float:
    """Return the minutes for which the oldest entry that is not in the archive has been decided."""
    decided_at = min((entry.decided_at for entry in previous.entries if entry.key not in claim.archived), default=None)
    return (claim.started_at - datetime.fromisoformat(decided_at)) / timedelta(minutes=1) if decided_at else 0.0


def _quarantine_key(landing_key: str) -> str:
    """Name a landing object in quarantine: as before, or by the end of its name where the longer prefix leaves less."""
    name = landing_key.removeprefix(LANDING_PREFIX).encode()
    return QUARANTINE_PREFIX + name[-(_KEY_BYTES_MAX - len(QUARANTINE_PREFIX)) :].decode(errors="ignore")


def _done_with(manifest: Manifest) -> set[str]:
    return {*manifest.landing, *(refused.key for refused in manifest.quarantine)}


def _named(manifest: Manifest) -> Iterator[str]:
    """Yield the keys of all that a reader may find from a manifest, and of the manifest itself."""
    yield from (manifest_key(run_folder(manifest.run_id)), manifest.locations_summary_key)
    for report in manifest.reports.values():
        yield from (report, state_key(report))
    for parts in (manifest.spool, manifest.duplicates, *(entry.parts for entry in manifest.entries)):
        yield from (part.key for part in parts)


def _turn(key: str) -> tuple[bool, str, str]:
    """Order landing objects: current ones by the first second measured, then late ones, day by day."""
    try:
        name = read_landing_key(key)
    except ValidationError:
        return False, "", key
    return name.is_late, name.first, key
