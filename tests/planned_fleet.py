"""What a simulated fleet sends, planned with the settings of a stage."""

from collections.abc import Iterator
from datetime import datetime

from simulator.clock import DeviceClock
from simulator.config import SimulatorConfig
from simulator.faults import PlannedReading
from simulator.schedule import plan_fleet
from simulator.sensors import curves_of
from tests.factories import NOW, SETTINGS


def planned_fleet(config: SimulatorConfig, seed: int, started_at: datetime = NOW) -> list[Iterator[PlannedReading]]:
    return plan_fleet(config, seed, curves_of(config.meta, SETTINGS), DeviceClock(started_at, config.timer))
