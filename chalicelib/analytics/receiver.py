"""The workflow's second function: drops duplicates of what is claimed, and leaves a file of sums per location.

What it counts goes into the spool, from where it is handed over to the archive. Nothing here is visible to readers
before the workflow commits the run.
"""

from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from uuid import UUID

import duckdb
import msgspec

from chalicelib.analytics import archive, deduplication, duplicates_memory, known_rows, landing_input, run_input
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.analytics.workflow import Claim, LocationTask, Plan, PlanAnswer, ReceiveRequest
from chalicelib.fields import CLOCK_SKEW_MAX, format_time
from chalicelib.ledger import Counts, Ledger, Manifest, Part, Quarantine, run_number, short_name, state_key
from chalicelib.object_store import ObjectStore
from chalicelib.settings import Settings
from chalicelib.validation import decode_json


class Receiver:
    """Prepares what a claim has fixed; each try writes under names of its own, so it is safe to call again."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        ledger: Ledger,
        new_uuid: Callable[[], UUID],
        scratch: Path | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._new_uuid = new_uuid
        self._scratch = scratch

    def receive(self, request: ReceiveRequest) -> PlanAnswer:
        """Write a plan of the run and the files that it names; its `locations` may be none.

        Raises ValidationError for a static input that breaks the rules, ObjectNotFoundError when a static
        input does not exist or another run took a landing object away.
        """
        claim = decode_json(self._store.get(request.claim_key), Claim, request.claim_key)
        previous = self._ledger.read_manifest(claim.previous_run_id)
        attempt = short_name(self._new_uuid())
        work = f"scratch/{claim.run_id}/{attempt}"
        plan, shares = self._prepare(claim, previous, attempt, work)
        locations_key, plan_key = f"{work}/locations.json", f"{claim.folder}/plans/{attempt}.json"
        self._store.put(locations_key, msgspec.json.encode([_task(one, work, previous) for one in shares]))
        self._store.put(plan_key, msgspec.json.encode(plan))
        return PlanAnswer(claim.run_id, plan_key, locations_key, plan.locations, plan.counts)

    def _prepare(
        self, claim: Claim, previous: Manifest, attempt: str, work: str
    ) -> tuple[Plan, list[deduplication.LocationShare]]:
        """Upload what is new, as rows and as sums of each location; return what the run's manifest is made from."""
        with duckdb_session(self._settings.analytics.duckdb_memory_limit_mb, self._scratch) as (connection, folder):
            quarantine, invalid = self._load(connection, folder, claim)
            known_rows.load_known(connection, self._store, previous)
            deduplication.drop_duplicates(connection)
            shares = deduplication.write_shares(connection, folder / "locations")
            self._store.upload([(_increments_key(work, one.location_id), one.file) for one in shares if one.file])
            spool, duplicates = (
                ([], []) if claim.is_static else self._remember(connection, folder, claim, previous, attempt)
            )
            latest = connection.execute("SELECT max(measured_at) FROM incoming").fetchall()[0][0]
        counts = sum(
            (one.counts for one in shares), Counts(invalid=invalid, quarantined=sum(q.rows for q in quarantine))
        )
        return Plan(
            claim=claim,
            locations=len(shares),
            counts=counts,
            quarantine=quarantine,
            spool=spool,
            duplicates=duplicates,
            latest_measurement=latest and format_time(latest.replace(tzinfo=UTC)),
        ), shares

    def _remember(
        self, connection: duckdb.DuckDBPyConnection, folder: Path, claim: Claim, previous: Manifest, attempt: str
    ) -> tuple[list[Part], list[Part]]:
        """Write what later runs have to know: the parts with what is counted, and those with duplicates."""
        spool = archive.write_parts(
            connection,
            self._store,
            "incoming",
            f"{claim.folder}/spool/{attempt}",
            run_number(claim.run_id),
            self._settings.archive.entry_rows,
            folder,
        )
        duplicates = duplicates_memory.write_duplicates(
            connection,
            self._store,
            "dropped",
            f"{claim.folder}/duplicates/{attempt}",
            previous.duplicates,
            claim.started_at,
            folder,
        )
        return spool, duplicates

    def _load(self, connection: duckdb.DuckDBPyConnection, folder: Path, claim: Claim) -> tuple[list[Quarantine], int]:
        """Bring the run's input into `incoming`; return the refused objects, and how many rows are invalid."""
        if not claim.is_static:
            return landing_input.load(connection, folder, self._store, claim.landing), 0
        (key,) = claim.landing
        # Only the end of a key's name matters, and a file's name must be shorter than a key may be.
        file = folder / Path(key).name[-32:]
        self._store.download([(key, file)])
        return [], run_input.load_static(connection, file, claim.started_at + CLOCK_SKEW_MAX)


def _increments_key(work: str, location_id: str) -> str:
    return f"{work}/location_id={location_id}.parquet"


def _task(share: deduplication.LocationShare, work: str, previous: Manifest) -> LocationTask:
    previous_report = previous.reports.get(share.location_id)
    return LocationTask(
        location_id=share.location_id,
        increments_key=_increments_key(work, share.location_id) if share.file else None,
        previous_state_key=state_key(previous_report) if previous_report else None,
        counts=share.counts,
    )
