"""Reports by the naive definition, in plain Python, to hold the SQL against."""

import math
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

from chalicelib.fields import format_time, to_milliseconds
from chalicelib.landing import LandedMeasurement
from chalicelib.reports import Minute
from tests.factories import MINUTE


def expected_minutes(
    measurements: Iterable[LandedMeasurement], window_minutes: int, history_hours: int
) -> dict[str, list[Minute]]:
    """Count each (location, sensor, timestamp) once, and take means over a location's last hours."""
    deduplicated = {(one.location_id, one.sensor_id, to_milliseconds(one.timestamp)): one for one in measurements}
    by_minute: dict[str, dict] = defaultdict(lambda: defaultdict(list))
    for one in deduplicated.values():
        by_minute[one.location_id][one.timestamp.replace(second=0, microsecond=0)].append(one.temperature)
    return {
        location: _minutes_of(temperatures, window_minutes, history_hours)
        for location, temperatures in by_minute.items()
    }


def _minutes_of(temperatures: dict, window_minutes: int, history_hours: int) -> list[Minute]:
    newest = max(temperatures)
    minutes = []
    for minute in sorted(temperatures):
        if minute <= newest - timedelta(hours=history_hours):
            continue
        own = temperatures[minute]
        window = [t for back in range(window_minutes) for t in temperatures.get(minute - back * MINUTE, [])]
        minutes.append(Minute(format_time(minute), len(own), _mean(own), min(own), max(own), _mean(window)))
    return minutes


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
