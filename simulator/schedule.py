"""The plan of every sensor's readings and their times: a pure function of configuration and seed."""

import random
from collections.abc import Iterator

from simulator.config import SimulatorConfig
from simulator.faults import PlannedReading, add_faults


def plan_fleet(config: SimulatorConfig, seed: int) -> list[Iterator[PlannedReading]]:
    """Plan every sensor's readings, in the order in which sensors go when several are due at once."""
    sensors = config.meta.sensors
    fleet = [
        plan_sensor(config, seed, sensor_id=str(index + 1), location_id=str(index // sensors + 1))
        for index in range(config.meta.sensors_in_all)
    ]
    # In the order of their ids, a server too slow for all would only ever hear of the first locations.
    random.Random(seed).shuffle(fleet)
    return fleet


def plan_sensor(config: SimulatorConfig, seed: int, sensor_id: str, location_id: str) -> Iterator[PlannedReading]:
    """Yield what one sensor sends, in order, with the configured faults, which change no value that it measures."""
    readings = _measure(config, seed, sensor_id, location_id)
    if config.faults.are_none:
        return readings
    return add_faults(readings, config.faults, random.Random(f"{seed}/{sensor_id}/faults"))


def _measure(config: SimulatorConfig, seed: int, sensor_id: str, location_id: str) -> Iterator[PlannedReading]:
    """Yield one sensor's readings in order, each due later than the one before and before the run is over.

    The first is due within the shortest delay, so that a fleet does not start with everybody at once.
    """
    timer = config.timer
    # A random source of its own makes a sensor's values independent of who sends what first.
    source = random.Random(f"{seed}/{sensor_id}")
    end_us = _microseconds(timer.total_runtime_seconds)
    due_us = _microseconds(source.uniform(0, timer.min_delay_seconds))
    while due_us < end_us:
        resistance_ohm = source.uniform(config.sensor.min_r, config.sensor.max_r)
        yield PlannedReading(sensor_id, location_id, resistance_ohm, due_us, measured_us=due_us)
        delay_seconds = source.uniform(timer.min_delay_seconds, timer.max_delay_seconds)
        # At least one, as two readings of a sensor at the same time would count as one.
        due_us += max(1, _microseconds(delay_seconds))


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
