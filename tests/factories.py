"""Builders of valid values, of which a test names only what it is about."""

import random
from datetime import UTC, datetime, timedelta
from types import EllipsisType
from typing import Any

import msgspec
from msgspec import structs

from chalicelib.calibration import Thermistors
from chalicelib.fields import format_time
from chalicelib.ingest.measurement_queue import QueuedMeasurement
from chalicelib.ingest.queue_messages import QueuedMessage, read_record
from chalicelib.ingest.readings import Delivery, Reading, parse_reading
from chalicelib.landing import LandedMeasurement
from chalicelib.settings import AlertSettings, AnalyticsSettings, Settings, load_settings
from chalicelib.thermistor import Status, Thermistor

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

SETTINGS = load_settings("dev")


def to_ms(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


# Legal ids, some of which mean something to file systems, URLs, SQL or DuckDB's partitions.
ODD_IDS = ["a:b", "..", ".", "-", "_", ":", "A", "a", "1", "01", "-1", "null", "NULL", "None", "0", "__proto__",
           "location_id", "a.b.c", "--", "con", "x" * 64, "__HIVE_DEFAULT_PARTITION__"]  # fmt: skip


def thermistor(lowest: float = 1.0, highest: float = 20_000.0, **coefficients: float) -> Thermistor:
    stages = Thermistors(SETTINGS.thermistors).default
    return structs.replace(
        stages,
        coefficients=structs.replace(stages.coefficients, **coefficients),
        accepted_resistance_ohm=structs.replace(stages.accepted_resistance_ohm, min=lowest, max=highest),
    )


def alert_settings(
    statuses: frozenset[Status] = frozenset({Status.BROKEN, Status.TEMPERATURE_CRITICAL}), cooldown_seconds: int = 300
) -> AlertSettings:
    return structs.replace(SETTINGS.alerts, statuses=statuses, cooldown_seconds=cooldown_seconds)


def analytics_settings(window_minutes: int = 5, history_hours: int = 24) -> AnalyticsSettings:
    return structs.replace(SETTINGS.analytics, window_minutes=window_minutes, history_hours=history_hours)


def stage_settings(window_minutes: int = 5, history_hours: int = 24, **archive: int) -> Settings:
    """Those of a stage that is to be looked at as a whole; `archive` may be smaller than any stage's."""
    return structs.replace(
        SETTINGS,
        analytics=analytics_settings(window_minutes, history_hours),
        archive=structs.replace(SETTINGS.archive, **archive),
    )


def posted(**fields: Any) -> dict[str, Any]:
    """A reading as a sensor posts it; a field set to ... is left out."""
    reading = {"sensor_id": 1, "location_id": "a", "value": 2000, **fields}
    return {name: value for name, value in reading.items() if value is not ...}


def reading(**fields: Any) -> Reading:
    return structs.replace(parse_reading(Delivery(posted(), lambda _: True), NOW, DAY), **fields)


def landed(
    sensor_id: str = "1",
    location_id: str = "a",
    temperature: float = 35.0,
    timestamp: datetime = NOW,
    queued_at_ms: int | EllipsisType | None = ...,
    value: float | None = 2000.0,
) -> LandedMeasurement:
    """A measurement that was queued when it was measured, unless told otherwise."""
    return LandedMeasurement(
        sensor_id=sensor_id,
        location_id=location_id,
        temperature=temperature,
        status=Status.OK,
        timestamp=timestamp,
        value=value,
        queued_at_ms=to_ms(timestamp) if queued_at_ms is ... else queued_at_ms,
    )


def measurement_fields(**fields: Any) -> dict[str, Any]:
    """A measurement as it stands in a queue message, without the fields that came later."""
    return {
        "sensor_id": "1",
        "location_id": "a",
        "temperature": 35.0,
        "status": "OK",
        "timestamp": format_time(NOW),
        "value": 2000.0,
        **fields,
    }


def queued(answer: dict[str, Any], value: float) -> dict[str, Any]:
    """The measurement that is queued of a reading, given its answer."""
    return msgspec.to_builtins(msgspec.convert({**answer, "value": value}, QueuedMeasurement))


def message(
    body: str, message_id: str = "m1", queued_at_ms: int | None = to_ms(NOW), identity: int | None = None
) -> QueuedMessage:
    """A message as the consumer gets it; without an identity of its own it has one that follows from its id."""
    attributes = {} if identity is None else {"identity": str(identity)}
    return read_record(record(body, message_id, queued_at_ms, **attributes))


def record(body: str, message_id: str = "m1", sent_at_ms: int | None = to_ms(NOW), **attributes: str) -> dict[str, Any]:
    """A message as SQS shows it to a function."""
    return {
        "messageId": message_id,
        "body": body,
        "attributes": {} if sent_at_ms is None else {"SentTimestamp": str(sent_at_ms)},
        "messageAttributes": {
            name: {"stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": "String"}
            for name, value in attributes.items()
        },
    }


def forty_rows() -> list[LandedMeasurement]:
    """Measurements of one message, one of each sensor, that pack badly."""
    chance = random.Random(5)
    return [
        structs.replace(
            landed(f"sensor-{number}", temperature=chance.uniform(-20, 90), timestamp=NOW + number * MINUTE / 60),
            delivery=1_234_567_890,
            place=number,
        )
        for number in range(40)
    ]


def flip(content: bytes, bit: int) -> bytes:
    """Return the content with one other bit."""
    byte = bit // 8
    return content[:byte] + bytes([content[byte] ^ 1 << bit % 8]) + content[byte + 1 :]
