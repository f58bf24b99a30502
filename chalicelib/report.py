"""A location's report as it is stored and served."""

from datetime import datetime

from msgspec import Struct


class Minute(Struct, frozen=True):
    """Temperatures in °C of one minute (UTC); the moving average is that of the window ending with it."""

    timestamp: datetime
    count: int
    mean: float
    min: float
    max: float
    moving_average: float


class Report(Struct, frozen=True):
    """A location's last hours. Counts are since its first run; minutes without measurements are absent."""

    location_id: str
    run_id: str
    generated_at: datetime
    window_minutes: int
    sensors: int
    measurements: int
    duplicates: int
    conflicts: int
    late: int
    minutes: list[Minute]
