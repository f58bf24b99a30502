"""The faults of a sensor's readings: sent twice, malformed, late, out of order; a pure function of chance."""

import math
import random
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import UNSET, Struct, structs

from chalicelib.calibration import DEFAULT_TYPE
from simulator.config import FaultsConfig

# The API takes what is up to ingest.accepted_age_hours old, which is an hour at least.
LATE_US = (60 * 1_000_000, 45 * 60 * 1_000_000)
# A repeated reading comes after at most so many later ones of its sensor.
REPEAT_AFTER_MAX = 3


class Malformation(Struct, frozen=True):
    """A field that makes a reading invalid by its value, or by its absence when UNSET."""

    field: str
    value: Any


MALFORMATIONS = (
    Malformation("sensor_id", UNSET),
    Malformation("sensor_id", "two words"),
    Malformation("location_id", UNSET),
    Malformation("location_id", 1.5),
    Malformation("value", UNSET),
    Malformation("value", None),
    Malformation("value", "warm"),
    Malformation("value", math.nan),
    Malformation("value", math.inf),
    Malformation("timestamp", "yesterday"),
    Malformation("timestamp", "2000-01-01T00:00:00Z"),
    Malformation("timestamp", "2999-01-01T00:00:00Z"),
    Malformation("reading_id", ""),
    Malformation("unit", "ohm"),
)


class PlannedReading(Struct, frozen=True):
    """A reading that a sensor takes and sends so many microseconds of the clock after the start of the run.

    Its timestamp is `backdated_us` microseconds of the sensor's own time before that. It is sent once more
    after `repeat_after` later readings; that one has `is_repeat`. `thermistor` is the type of the sensor's.
    """

    sensor_id: str
    location_id: str
    resistance_ohm: float
    due_us: int
    measured_us: int
    backdated_us: int = 0
    malformation: Malformation | None = None
    is_held_back: bool = False
    repeat_after: int | None = None
    is_repeat: bool = False
    thermistor: str = DEFAULT_TYPE


def add_faults(
    readings: Iterable[PlannedReading], faults: FaultsConfig, source: random.Random
) -> Iterator[PlannedReading]:
    """Yield a sensor's readings in the order in which they are sent; none is due before the one ahead of it."""
    return _repeat(_hold_back(_mark(reading, faults, source) for reading in readings))


def _mark(reading: PlannedReading, faults: FaultsConfig, source: random.Random) -> PlannedReading:
    # The reading after one that is held back cannot be held back, so the others must be more often.
    hold_back_rate = faults.out_of_order_rate / (1 - faults.out_of_order_rate)
    return structs.replace(
        reading,
        backdated_us=source.randint(*LATE_US) if source.random() < faults.late_rate else 0,
        malformation=source.choice(MALFORMATIONS) if source.random() < faults.malformed_rate else None,
        is_held_back=source.random() < hold_back_rate,
        repeat_after=source.randint(0, REPEAT_AFTER_MAX) if source.random() < faults.duplicate_rate else None,
    )


def _hold_back(readings: Iterable[PlannedReading]) -> Iterator[PlannedReading]:
    held: PlannedReading | None = None
    for reading in readings:
        if held is None and reading.is_held_back:
            held = reading
            continue
        yield structs.replace(reading, is_held_back=False)
        if held is not None:
            yield structs.replace(held, due_us=reading.due_us)
            held = None
    if held is not None:
        yield structs.replace(held, is_held_back=False)


def _repeat(readings: Iterable[PlannedReading]) -> Iterator[PlannedReading]:
    waiting: list[tuple[int, PlannedReading]] = []
    due_us = 0
    for index, reading in enumerate(readings):
        yield reading
        due_us = reading.due_us
        if reading.repeat_after is not None:
            waiting.append((index + reading.repeat_after, reading))
        for _, original in (one for one in waiting if one[0] <= index):
            yield _repeat_of(original, due_us)
        waiting = [one for one in waiting if one[0] > index]
    for _, original in waiting:
        yield _repeat_of(original, due_us)


def _repeat_of(original: PlannedReading, due_us: int) -> PlannedReading:
    return structs.replace(original, due_us=due_us, repeat_after=None, is_repeat=True)
