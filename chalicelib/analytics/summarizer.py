"""The workflow's fourth function: sums up what the reporters left, and writes the manifest that the commit makes valid.

Times are texts as `format_time` writes them, which sort as times.
"""

import logging
from collections.abc import Callable
from itertools import islice
from uuid import UUID

import msgspec

from chalicelib.analytics.entries import archived_through, decide_entries
from chalicelib.analytics.workflow import Plan, ReportAnswer, RunAnswer, SummaryRequest
from chalicelib.errors import ObjectNotFoundError
from chalicelib.fields import format_time
from chalicelib.ledger import NO_RUN, Counts, Ledger, Manifest, Tallies, manifest_key, report_key, short_name
from chalicelib.object_store import ObjectStore
from chalicelib.quarantine_count import QuarantineFigures
from chalicelib.reports import (
    LocationLatest,
    LocationsSummary,
    Outcome,
    locations_summary_key,
    outcomes_prefix,
    read_outcome_key,
)
from chalicelib.settings import Settings
from chalicelib.validation import decode_json

# The manifest names all reports of a run; an answer has to stay below Step Functions' 256 KiB.
_REPORTS_LISTED = 100
# Sensors do not break in a file, and what becomes of it is no part of the books.
_NO_TALLIES = Tallies(broken_sensors=0, quarantine=QuarantineFigures())

logger = logging.getLogger(__name__)


class Summarizer:
    """Sums up a run whose reporters have finished; safe to call again, and invisible before the commit."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        ledger: Ledger,
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._new_uuid = new_uuid

    def summarize(self, request: SummaryRequest) -> RunAnswer:
        """Write the run's latest of every location and its manifest, or take the one that another try has written.

        Raises ObjectNotFoundError for a missing reporter, and when other runs have committed meanwhile.
        """
        plan = decode_json(self._store.get(request.plan_key), Plan, request.plan_key)
        claim, attempt = plan.claim, short_name(self._new_uuid())
        previous = self._ledger.read_manifest(claim.previous_run_id)
        outcomes = self._outcomes(plan)
        manifest = self._manifest(plan, attempt, previous, outcomes)
        if not claim.is_static:
            self._write_locations(manifest, previous, outcomes)
        written = self._ledger.write_manifest(claim.folder, manifest)
        listed = islice(written.reports.items(), _REPORTS_LISTED) if claim.is_static else ()
        return RunAnswer(
            run_id=claim.run_id,
            previous_run_id=claim.previous_run_id,
            manifest_key=manifest_key(claim.folder),
            locations=plan.locations,
            counts=written.counts,
            reports=[ReportAnswer(location_id, key) for location_id, key in listed],
        )

    def _outcomes(self, plan: Plan) -> dict[str, Outcome]:
        """Return what one try of each location's reporter has left."""
        run_id = plan.claim.run_id
        found = map(read_outcome_key, self._store.list_keys(outcomes_prefix(run_id)))
        outcomes = {one.latest.location_id: one for one in found}
        if len(outcomes) != plan.locations:
            raise ObjectNotFoundError(f"{len(outcomes)} of {plan.locations} locations of {run_id} reported")
        return outcomes

    def _manifest(self, plan: Plan, attempt: str, previous: Manifest, outcomes: dict[str, Outcome]) -> Manifest:
        claim = plan.claim
        refused = {one.key for one in plan.quarantine}
        counts = plan.counts + Counts(late=sum(one.late for one in outcomes.values()))
        tallies = _NO_TALLIES if claim.is_static else self._ledger.tallies()
        aside, broken = tallies.quarantine, tallies.broken_sensors
        handed_over = decide_entries(previous, plan.spool, self._settings.archive, claim.run_id, claim.started_at)
        done = set(claim.archived)
        entries = [*(entry for entry in previous.entries if entry.key not in done), *handed_over.entries]
        return Manifest(
            run_id=claim.run_id,
            previous_run_id=previous.run_id,
            execution=claim.execution,
            created_at=format_time(claim.started_at),
            landing=[] if claim.is_static else [key for key in claim.landing if key not in refused],
            quarantine=plan.quarantine,
            reports=previous.reports
            | {location: report_key(claim.folder, location, one.attempt) for location, one in outcomes.items()},
            spool=handed_over.spool,
            entries=entries,
            duplicates=plan.duplicates,
            archived_through=0 if claim.is_static else archived_through(handed_over.spool, entries, claim.run_id),
            locations_summary_key="" if claim.is_static else locations_summary_key(claim.folder, attempt),
            latest_measurement=max(plan.latest_measurement or "", previous.latest_measurement),
            counts=counts,
            totals=previous.totals + counts,
            swept_at=claim.swept_at,
            handed_over_at=handed_over.handed_over_at,
            late_handed_over_at=handed_over.late_handed_over_at,
            locations=len(outcomes),
            # The next claim moves and counts what this run refuses.
            quarantined=aside.objects - aside.restored_objects + len(plan.quarantine),
            broken_sensors=broken,
            newly_broken_sensors=broken - previous.broken_sensors,
            status_below_celsius=self._settings.status_below_celsius,
        )

    def _write_locations(self, manifest: Manifest, previous: Manifest, outcomes: dict[str, Outcome]) -> None:
        latest = self._carried_forward(previous) | {location: one.latest for location, one in outcomes.items()}
        locations = LocationsSummary([latest[location_id] for location_id in sorted(latest)])
        self._store.put(manifest.locations_summary_key, msgspec.json.encode(locations))

    def _carried_forward(self, previous: Manifest) -> dict[str, LocationLatest]:
        if previous.run_id == NO_RUN:
            return {}
        key = previous.locations_summary_key
        try:
            content = self._store.get(key)
        except ObjectNotFoundError:
            # Two runs have committed meanwhile, so this one will not; or else nobody is served by never running again.
            logger.warning("no latest averages of %s to carry forward", previous.run_id)
            return {}
        return {latest.location_id: latest for latest in decode_json(content, LocationsSummary, key).locations}
