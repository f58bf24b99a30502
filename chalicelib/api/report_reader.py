"""The use case behind the read routes: from the head of the ledger to what the committed run has written.

Content is passed on as it was stored, bytes for bytes; decoding it would cost more than all the rest.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Container
from datetime import datetime

import msgspec
from msgspec import Struct, structs

from chalicelib.errors import NotFoundError, ObjectNotFoundError, ServiceUnavailableError
from chalicelib.fields import Timestamp
from chalicelib.ledger import NO_RUN, Ledger, Manifest, run_of
from chalicelib.object_store import ObjectStore
from chalicelib.reports import LocationLatest, LocationsSummary, Report, summarize
from chalicelib.thermistor import StatusLimits
from chalicelib.validation import decode_json

_NO_LOCATIONS = msgspec.json.encode(LocationsSummary([]))


class ReportQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a report: the minute from which on the caller wants it."""

    since: Timestamp | None = None


class Document(Struct, frozen=True):
    """JSON of a run; the content is None when the caller has it already."""

    run_id: str
    content: bytes | None


class RunOutline(Struct, frozen=True):
    """Of a run's summary what tells nothing of any location: its name, its time, and what statuses are named after."""

    run_id: str
    previous_run_id: str | None
    started_at: str
    status_below_celsius: StatusLimits | None


class ReportReader:
    """Answers readers with at most 3 AWS calls; `known` are the runs whose answer a caller already has.

    A manifest and the latest of a run never change, so those of the last run asked for are remembered.
    """

    def __init__(self, ledger: Ledger, store: ObjectStore) -> None:
        self._ledger = ledger
        self._store = store
        self._manifest: Manifest | None = None
        self._latest: tuple[str, dict[str, LocationLatest]] = (NO_RUN, {})

    def latest_run(self, known: Container[str], allowed: Collection[str] | None) -> Document:
        """Return the committed run's summary, its outline for whom only some locations are `allowed`.

        Raises NotFoundError before the first run.
        """

        def read(head: str) -> Document:
            if head in known:
                return Document(head, None)
            summary = summarize(self._manifest_of(head))
            shown = summary if allowed is None else msgspec.convert(summary, RunOutline, from_attributes=True)
            return Document(head, msgspec.json.encode(shown))

        return self._follow_head(read, None)

    def locations(self, known: Container[str], allowed: Collection[str] | None) -> Document:
        """Return the latest of every location, or of those `allowed`; of none before the first run."""

        def read(head: str) -> Document:
            if allowed is None or head in known:
                return self._fetch(head, known, lambda: self._manifest_of(head).locations_summary_key)
            latest = self._latest_of(head)
            visible = LocationsSummary([latest[one] for one in sorted(allowed) if one in latest])
            return Document(head, msgspec.json.encode(visible))

        return self._follow_head(read, Document(NO_RUN, _NO_LOCATIONS))

    def report(self, location_id: str, known: Container[str], since: datetime | None) -> Document:
        """Return a location's report, with only the minutes that begin at `since` or later if it is given.

        Raises NotFoundError when no run has reported on the location.
        """
        document = self._follow_head(lambda head: self._report(head, location_id, known), None)
        if since is None or document.content is None:
            return document
        report = decode_json(document.content, Report, f"the report of {location_id}")
        first = bisect_left(report.minutes, since, key=lambda minute: datetime.fromisoformat(minute.timestamp))
        return Document(document.run_id, msgspec.json.encode(structs.replace(report, minutes=report.minutes[first:])))

    def _report(self, head: str, location_id: str, known: Container[str]) -> Document:
        key = self._manifest_of(head).reports.get(location_id)
        if key is None:
            raise NotFoundError(f"location {location_id} has no report yet")
        return self._fetch(run_of(key), known, lambda: key)

    def _follow_head(self, read: Callable[[str], Document], before_first: Document | None) -> Document:
        for _ in range(2):
            head = self._ledger.head()
            if head is None:
                if before_first is None:
                    raise NotFoundError("no run has been committed yet")
                return before_first
            try:
                return read(head)
            except ObjectNotFoundError:
                continue  # the next run committed and cleaned up in between
        raise ServiceUnavailableError("runs follow each other too fast to be read, try again")

    def _manifest_of(self, run_id: str) -> Manifest:
        manifest = self._manifest
        if manifest is None or manifest.run_id != run_id:
            self._manifest = manifest = self._ledger.read_manifest(run_id)
        return manifest

    def _latest_of(self, run_id: str) -> dict[str, LocationLatest]:
        if self._latest[0] != run_id:
            key = self._manifest_of(run_id).locations_summary_key
            everywhere = decode_json(self._store.get(key), LocationsSummary, key)
            self._latest = run_id, {latest.location_id: latest for latest in everywhere.locations}
        return self._latest[1]

    def _fetch(self, run_id: str, known: Container[str], key: Callable[[], str]) -> Document:
        # The key is asked for only when it is needed, as finding it may take another call.
        return Document(run_id, None if run_id in known else self._store.get(key()))
