"""The workflow's second function: drops duplicates of what is claimed, and leaves a file of sums per location.

What it counts goes into the spool, from where it is handed over to the archive. Nothing here is visible to readers
before the workflow commits the run.
"""

import logging
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from uuid import UUID

import duckdb
import msgspec

from chalicelib.analytics import archive, deduplication, duplicates_memory, landing_input, run_input
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.analytics.workflow import Claim, LocationTask, Plan, PlanAnswer, ReceiveRequest
from chalicelib.fields import CLOCK_SKEW_MAX, format_time
from chalicelib.ledger import Counts, Ledger, Manifest, Part, Quarantine, run_number, short_name, state_key
from chalicelib.object_store import ObjectStore
from chalicelib.settings import Settings
from chalicelib.validation import decode_json

logger = logging.getLogger(__name__)


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
        attempt = _Attempt(claim, short_name(self._new_uuid()))
        previous = self._ledger.read_manifest(claim.previous_run_id)
        plan, tasks = self._prepare(attempt, previous)
        self._store.put(attempt.locations_key, msgspec.json.encode(tasks))
        self._store.put(attempt.plan_key, msgspec.json.encode(plan))
        return PlanAnswer(claim.run_id, attempt.plan_key, attempt.locations_key, plan.locations, plan.counts)
