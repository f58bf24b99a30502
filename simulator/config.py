"""The simulator's configuration: how many sensors, what they measure, how often, for how long, and what goes wrong."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from chalicelib.calibration import DEFAULT_TYPE
from chalicelib.ingest.readings import BATCH_READINGS_MAX

SENSORS_MAX = 100_000

Count = Annotated[int, Meta(ge=1, le=SENSORS_MAX)]
# The upper ends keep out infinity, and every time in microseconds exact in a float.
ResistanceOhm = Annotated[float, Meta(ge=0, le=1e12)]
Seconds = Annotated[float, Meta(ge=0, le=7 * 86_400)]
PositiveSeconds = Annotated[float, Meta(ge=0.001, le=7 * 86_400)]
Share = Annotated[float, Meta(ge=0, le=1)]


class FleetConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The number of locations, and of sensors in each, and the share of each type of thermistor.

    Sensors are made what `thermistors` says before a run; None for the default type, without making any.
    """

    locations: Count = 8
    sensors: Count = 1000
    thermistors: dict[str, Share] | None = None

    @property
    def sensors_in_all(self) -> int:
        """The number of sensors."""
        return self.locations * self.sensors

    @property
    def type_shares(self) -> Mapping[str, float]:
        """The share of each type of thermistor."""
        return {DEFAULT_TYPE: 1.0} if self.thermistors is None else self.thermistors

    def __post_init__(self) -> None:
        if self.sensors_in_all > SENSORS_MAX:
            raise ValueError(f"locations times sensors must be at most {SENSORS_MAX}")
        if not math.isclose(sum(self.type_shares.values()), 1.0, abs_tol=1e-9):
            raise ValueError("thermistors must have shares that add up to 1")


class SensorConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What a sensor measures: anything between two resistances in ohm, both included, or the temperatures of days."""

    min_r: ResistanceOhm | None = None
    max_r: ResistanceOhm | None = None
    pattern: Literal["uniform", "daily"] = "uniform"

    @property
    def range_ohm(self) -> tuple[float, float]:
        """The least and the greatest resistance of the uniform pattern, unless types of thermistor have their own."""
        return 0.1 if self.min_r is None else self.min_r, 20_500.0 if self.max_r is None else self.max_r

    def __post_init__(self) -> None:
        low, high = self.range_ohm
        if low > high:
            raise ValueError("min_r must be at most max_r")
        if self.pattern == "daily" and self.has_range:
            raise ValueError("min_r and max_r must be absent with pattern daily")

    @property
    def has_range(self) -> bool:
        """Whether an end of the range is given."""
        return self.min_r is not None or self.max_r is not None


class TimerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The seconds of the clock that the run lasts, and that a sensor waits between readings.

    The time that the sensors write into their readings runs `time_scale` times as fast.
    """

    total_runtime_seconds: PositiveSeconds = 10.0
    min_delay_seconds: Seconds = 1.0
    max_delay_seconds: PositiveSeconds = 10.0
    time_scale: Annotated[float, Meta(ge=1, le=10_000)] = 1.0

    def __post_init__(self) -> None:
        if self.min_delay_seconds > self.max_delay_seconds:
            raise ValueError("min_delay_seconds must be at most max_delay_seconds")


class LoadConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The requests that may be under way at a time, and the readings in each; 1 posts single readings."""

    workers: Annotated[int, Meta(ge=1, le=256)] = 4
    batch_size: Annotated[int, Meta(ge=1, le=BATCH_READINGS_MAX)] = 1


class FaultsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The shares of the readings that have each fault; a reading may have several."""

    duplicate_rate: Share = 0.0
    malformed_rate: Share = 0.0
    late_rate: Share = 0.0
    # A reading is held back behind a later one, which then is not held back itself.
    out_of_order_rate: Annotated[float, Meta(ge=0, le=0.5)] = 0.0

    @property
    def are_none(self) -> bool:
        """Whether nothing ever goes wrong."""
        return not (self.duplicate_rate or self.malformed_rate or self.late_rate or self.out_of_order_rate)


class SimulatorConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a run is made of, except its seed and where it posts to."""

    meta: FleetConfig = FleetConfig()
    sensor: SensorConfig = SensorConfig()
    timer: TimerConfig = TimerConfig()
    load: LoadConfig = LoadConfig()
    faults: FaultsConfig = FaultsConfig()

    def __post_init__(self) -> None:
        if self.sensor.has_range and self.meta.thermistors is not None:
            raise ValueError("sensor.min_r and sensor.max_r must be absent when meta.thermistors is given")
