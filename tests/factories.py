"""Builders of valid values, of which a test names only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.ingest.buffering import QueuedMessage
from chalicelib.ingest.readings import Reading
from chalicelib.landing import LandedMeasurement
from chalicelib.settings import AlertSettings, AnalyticsSettings, IdempotencySettings
from chalicelib.thermistor import Coefficients, ResistanceRange, Status, StatusLimits, Thermistor

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

STATUS_LIMITS = StatusLimits(TEMPERATURE_TOO_LOW=20.0, OK=100.0, TEMPERATURE_TOO_HIGH=250.0)

# Legal ids, some of which mean something to file systems, URLs, SQL or DuckDB's partitions.
ODD_IDS = ["a:b", "..", ".", "-", "_", ":", "A", "a", "1", "01", "-1", "null", "NULL", "None", "0", "__proto__",
           "location_id", "a.b.c", "--", "con", "x" * 64, "__HIVE_DEFAULT_PARTITION__"]  # fmt: skip


def thermistor(
    a: float = 1.40e-3, b: float = 2.37e-4, c: float = 9.90e-8, lowest: float = 1.0, highest: float = 20_000.0
) -> Thermistor:
    return Thermistor(
        Coefficients(a, b, c),
        ResistanceRange(lowest, highest),
        STATUS_LIMITS,
    )


def alert_settings(
    statuses: frozenset[Status] = frozenset({Status.BROKEN, Status.TEMPERATURE_CRITICAL}), cooldown_seconds: int = 300
) -> AlertSettings:
    return AlertSettings(statuses, cooldown_seconds, email=None)


def idempotency_settings() -> IdempotencySettings:
    return IdempotencySettings(expires_after_seconds=86_400, anonymous_window_seconds=5)


def analytics_settings(window_minutes: int = 5, history_hours: int = 24) -> AnalyticsSettings:
    return AnalyticsSettings(window_minutes, history_hours, max_concurrency=2, duckdb_memory_limit_mb=200)


def posted(**fields: Any) -> dict[str, Any]:
    """A reading as a sensor posts it; a field set to ... is left out."""
    reading = {"sensor_id": 1, "location_id": "a", "value": 2000, **fields}
    return {name: value for name, value in reading.items() if value is not ...}


def reading(**fields: Any) -> Reading:
    defaults = {"sensor_id": "1", "location_id": "a", "resistance_ohm": 2000.0, "timestamp": None, "reading_id": None}
    return Reading(**{**defaults, **fields})


def landed(
    sensor_id: str = "1",
    location_id: str = "a",
    temperature: float = 35.0,
    timestamp: datetime = NOW,
    queued_at_ms: int | None = 0,
) -> LandedMeasurement:
    return LandedMeasurement(
        sensor_id=sensor_id,
        location_id=location_id,
        temperature=temperature,
        status=Status.OK,
        timestamp=timestamp,
        value=2000.0,
        queued_at_ms=queued_at_ms,
    )


def measurement_fields(**fields: Any) -> dict[str, Any]:
    """A measurement as it stands in a queue message."""
    return {
        "sensor_id": "1",
        "location_id": "a",
        "temperature": 35.0,
        "status": "OK",
        "timestamp": "2026-03-01T12:00:00Z",
        "value": 2000.0,
        **fields,
    }


def message(body: str, message_id: str = "m1", queued_at_ms: int | None = 1_000) -> QueuedMessage:
    return QueuedMessage(message_id, body, queued_at_ms)
