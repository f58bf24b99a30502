"""The plan of every sensor's readings and their times: a pure function of configuration, seed and the sensors' time."""

import random
from collections.abc import Iterator, Mapping

from chalicelib.thermistor import Thermistor
from simulator.clock import DeviceClock
from simulator.config import SimulatorConfig
from simulator.faults import PlannedReading, add_faults
from simulator.patterns import Pattern, pattern_of
from simulator.sensors import Sensor, list_sensors

# Times are kept to the millisecond, and two readings of a sensor at the same time would count as one.
_LEAST_DELAY_US = 1_000


def plan_fleet(
    config: SimulatorConfig, seed: int, curves: Mapping[str, Thermistor], device_clock: DeviceClock
) -> list[Iterator[PlannedReading]]:
    """Plan every sensor's readings, in the order in which sensors go when several are due at once.

    `curves` has that of each type of thermistor in the fleet.
    """
    fleet = [
        plan_sensor(config, seed, sensor, pattern_of(config, seed, sensor, curves[sensor.thermistor]), device_clock)
        for sensor in list_sensors(config.meta)
    ]
    # In the order of their ids, a server too slow for all would only ever hear of the first locations.
    random.Random(seed).shuffle(fleet)
    return fleet


def plan_sensor(
    config: SimulatorConfig, seed: int, sensor: Sensor, pattern: Pattern, device_clock: DeviceClock
) -> Iterator[PlannedReading]:
    """Yield what one sensor sends, in order, with the configured faults, which change no value that it measures."""
    readings = _measure(config, seed, sensor, pattern, device_clock)
    if config.faults.are_none:
        return readings
    source = random.Random(f"{seed}/{sensor.location_id}/{sensor.sensor_id}/faults")
    return add_faults(readings, config.faults, source)


def _measure(
    config: SimulatorConfig, seed: int, sensor: Sensor, pattern: Pattern, device_clock: DeviceClock
) -> Iterator[PlannedReading]:
    """Yield one sensor's readings in order, each due later than the one before and before the run is over.

    The first is due within the shortest delay, so that a fleet does not start with everybody at once.
    """
    timer = config.timer
    # A random source of its own makes a sensor's values independent of who sends what first.
    source = random.Random(f"{seed}/{sensor.location_id}/{sensor.sensor_id}")
    end_us = _microseconds(timer.total_runtime_seconds)
    due_us = _microseconds(source.uniform(0, timer.min_delay_seconds))
    while due_us < end_us:
        ohm = pattern(source, device_clock.time(due_us))
        yield PlannedReading(
            sensor.sensor_id, sensor.location_id, ohm, due_us, measured_us=due_us, thermistor=sensor.thermistor
        )
        delay_seconds = source.uniform(timer.min_delay_seconds, timer.max_delay_seconds)
        due_us += max(_LEAST_DELAY_US, _microseconds(delay_seconds))


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
