"""The workflow's step between reports and commit: sums the run up, so that one read answers for all locations."""

import logging

import msgspec

from chalicelib.analytics.workflow import SummaryRequest
from chalicelib.errors import ObjectNotFoundError
from chalicelib.landing import QUARANTINE_PREFIX
from chalicelib.ledger import NO_MANIFEST, Ledger, Manifest
from chalicelib.object_store import ObjectStore
from chalicelib.reports import (
    LocationLatest,
    LocationsSummary,
    RunSummary,
    latest_prefix,
    locations_summary_key,
    read_latest_key,
    run_summary_key,
)
from chalicelib.thermistor import StatusLimits
from chalicelib.validation import decode_json

logger = logging.getLogger(__name__)


class Summarizer:
    """Sums up a run whose reporters have finished; safe to call again, and invisible before the commit."""

    def __init__(self, limits: StatusLimits, store: ObjectStore, ledger: Ledger) -> None:
        self._limits = limits
        self._store = store
        self._ledger = ledger

    def summarize(self, request: SummaryRequest) -> RunSummary:
        """Write the run's two summaries and return the run's own; raises ObjectNotFoundError for a missing reporter."""
        manifest = self._ledger.read_manifest(request.run_id)
        latest = self._carried_forward(manifest) | self._reported(manifest)
        locations = LocationsSummary([latest[location_id] for location_id in sorted(latest)])
        self._store.put(locations_summary_key(manifest.run_id), msgspec.json.encode(locations))
        about = self._about(manifest)
        self._store.put(run_summary_key(manifest.run_id), msgspec.json.encode(about))
        return about

    def _carried_forward(self, manifest: Manifest) -> dict[str, LocationLatest]:
        if _is_first(manifest):
            return {}
        key = locations_summary_key(manifest.previous_run_id)
        try:
            content = self._store.get(key)
        except ObjectNotFoundError:
            # Two runs have committed meanwhile, so this one will not; or else nobody is served by never running again.
            logger.warning("no latest averages of %s to carry forward", manifest.previous_run_id)
            return {}
        return {latest.location_id: latest for latest in decode_json(content, LocationsSummary, key).locations}

    def _reported(self, manifest: Manifest) -> dict[str, LocationLatest]:
        found = map(read_latest_key, self._store.list_keys(latest_prefix(manifest.run_id)))
        latest = {one.location_id: one for one in found}
        if len(latest) != manifest.locations:
            raise ObjectNotFoundError(f"{len(latest)} of {manifest.locations} locations of {manifest.run_id} reported")
        return latest

    def _about(self, manifest: Manifest) -> RunSummary:
        return RunSummary(
            run_id=manifest.run_id,
            previous_run_id=None if _is_first(manifest) else manifest.previous_run_id,
            started_at=manifest.created_at,
            locations=manifest.locations,
            counts=manifest.counts,
            totals=manifest.totals,
            quarantined=len(self._store.list_keys(QUARANTINE_PREFIX)),
            newly_broken_sensors=manifest.newly_broken_sensors,
            broken_sensors=manifest.broken_sensors,
            latest_measurement=manifest.watermark,
            status_below_celsius=self._limits,
        )


def _is_first(manifest: Manifest) -> bool:
    return manifest.previous_run_id == NO_MANIFEST.run_id
