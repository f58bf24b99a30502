"""All that a run leaves for readers: a report of each location, a summary of itself, and the latest of every location.

Times are texts as `format_time` writes them, which sort as times.

Each reporter leaves its location's latest as an empty object whose name says it all, so that the latest of
20,000 locations are gathered with 20 listings instead of 20,000 reads.
"""

from msgspec import Struct

from chalicelib.ledger import Counts
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
    """A location's last minute (UTC) and its moving average in °C; None while all it sent was too late to count."""

    location_id: str
    last_timestamp: str | None
    moving_average: float | None


class LocationsSummary(Struct, frozen=True):
    """The latest of every location that has a report, in the order of their ids."""

    locations: list[LocationLatest]


class RunSummary(Struct, frozen=True):
    """A committed run: when it started, on how many locations it reported, its books and those of all runs.

    `quarantined` counts the objects in quarantine when the run was summed up, `latest_measurement` is the time of
    the latest of all runs, and below the limits a moving average has the status that they are named after.
    `broken_sensors` are all that were latched until then, `newly_broken_sensors` those since the run before.
    """

    run_id: str
    previous_run_id: str | None
    started_at: str
    locations: int
    counts: Counts
    totals: Counts
    quarantined: int
    newly_broken_sensors: int
    broken_sensors: int
    latest_measurement: str
    status_below_celsius: StatusLimits


def run_summary_key(run_id: str) -> str:
    """Name a run's summary of itself."""
    return f"runs/{run_id}/run.json"


def locations_summary_key(run_id: str) -> str:
    """Name the latest of every location as of a run."""
    return f"runs/{run_id}/locations.json"


def latest_prefix(run_id: str) -> str:
    """Begin the names of what a run's reporters leave."""
    return f"scratch/{run_id}/latest/"


def latest_key(run_id: str, latest: LocationLatest) -> str:
    """Name the object that says what a run's reporter found last of its location."""
    time = latest.last_timestamp or _NOTHING
    average = _NOTHING if latest.moving_average is None else repr(latest.moving_average)
    return f"{latest_prefix(run_id)}{latest.location_id}/{time}/{average}"


def read_latest_key(key: str) -> LocationLatest:
    """Return what such a name says."""
    location_id, time, average = key.rsplit("/", maxsplit=3)[1:]
    return LocationLatest(
        location_id=location_id,
        last_timestamp=None if time == _NOTHING else time,
        moving_average=None if average == _NOTHING else float(average),
    )
