"""All that a run leaves for readers: a report of each location, a summary of itself, and the latest of every location.

Times are texts as `format_time` writes them, which sort as times.

Each try of a reporter leaves its outcome as an empty object whose name says it all, so that the latest of 20,000
locations are gathered with 20 listings instead of 20,000 reads.
"""

from msgspec import Struct

from chalicelib.ledger import NO_RUN, Counts, Manifest
from chalicelib.thermistor import StatusLimits

_NOTHING = "none"


class Minute(Struct, frozen=True):
    """Temperatures in °C of one minute (UTC); the moving average is that of the window ending with it."""

    timestamp: str
    count: int
    mean: float
    min: float
    max: float
    moving_average: float


class Report(Struct, frozen=True):
    """A location's last hours. Counts are since its first run; minutes without measurements are absent."""

    location_id: str
    run_id: str
    generated_at: str
    window_minutes: int
    sensors: int
    measurements: int
    duplicates: int
    conflicts: int
    late: int
    minutes: list[Minute]


class LocationLatest(Struct, frozen=True):
    """A location's last minute (UTC) and its moving average in °C; None while it has sent nothing that counts."""

    location_id: str
    last_timestamp: str | None
    moving_average: float | None


class LocationsSummary(Struct, frozen=True):
    """The latest of every location that has a report, in the order of their ids."""

    locations: list[LocationLatest]


class RunSummary(Struct, frozen=True):
    """A committed run: when it started, on how many locations it reported, its books and those of all runs.

    `execution` is the name of the workflow's. `quarantined` counts the objects in quarantine as of the run, and
    `latest_measurement` is the time of the latest of all runs; below the limits a moving average has the status that
    they are named after. `broken_sensors` are all that were latched until then, `newly_broken_sensors` those since the
    run before.
    """

    run_id: str
    previous_run_id: str | None
    execution: str
    started_at: str
    locations: int
    counts: Counts
    totals: Counts
    quarantined: int
    newly_broken_sensors: int
    broken_sensors: int
    latest_measurement: str
    status_below_celsius: StatusLimits | None


def summarize(manifest: Manifest) -> RunSummary:
    """Return the summary of the run whose manifest this is."""
    return RunSummary(
        run_id=manifest.run_id,
        previous_run_id=None if manifest.previous_run_id == NO_RUN else manifest.previous_run_id,
        execution=manifest.execution,
        started_at=manifest.created_at,
        locations=manifest.locations,
        counts=manifest.counts,
        totals=manifest.totals,
        quarantined=manifest.quarantined,
        newly_broken_sensors=manifest.newly_broken_sensors,
        broken_sensors=manifest.broken_sensors,
        latest_measurement=manifest.latest_measurement,
        status_below_celsius=manifest.status_below_celsius,
    )


def locations_summary_key(folder: str, attempt: str) -> str:
    """Name the latest of every location as of a run, as one try of the summarizer writes it."""
    return f"{folder}/summaries/{attempt}/locations.json"


class Outcome(Struct, frozen=True):
    """What a try of a reporter has left: its location's latest, and how many of the run's measurements were late."""

    attempt: str
    latest: LocationLatest
    late: int


def outcomes_prefix(run_id: str) -> str:
    """Begin the names of what a run's reporters leave."""
    return f"scratch/{run_id}/outcomes/"


def outcome_key(run_id: str, outcome: Outcome) -> str:
    """Name the empty object that says what a try of a reporter has left."""
    latest = outcome.latest
    time = latest.last_timestamp or _NOTHING
    average = _NOTHING if latest.moving_average is None else repr(latest.moving_average)
    return f"{outcomes_prefix(run_id)}{latest.location_id}/{outcome.attempt}/{time}/{average}/{outcome.late}"


def read_outcome_key(key: str) -> Outcome:
    """Return what such a name says."""
    location_id, attempt, time, average, late = key.rsplit("/", maxsplit=5)[1:]
    latest = LocationLatest(
        location_id=location_id,
        last_timestamp=None if time == _NOTHING else time,
        moving_average=None if average == _NOTHING else float(average),
    )
    return Outcome(attempt, latest, int(late))
