"""Readings as sensors post them, and the answers to them."""

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from msgspec import Meta, Struct

from chalicelib.errors import ValidationError
from chalicelib.fields import CLOCK_SKEW_MAX, ID_LENGTH_MAX, IdText, Timestamp, format_time
from chalicelib.thermistor import Status
from chalicelib.validation import convert, within

BODY_BYTES_MAX = 1024 * 1024
BATCH_READINGS_MAX = 500


class PostedReading(Struct, frozen=True, forbid_unknown_fields=True):
    """A reading as a sensor posts it."""

    sensor_id: int | IdText
    location_id: int | IdText
    value: float
    timestamp: Timestamp | None = None
    reading_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class PostedBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """Several readings in one request; what each is must be checked by itself, so that none fails its neighbours."""

    readings: Annotated[list[Any], Meta(min_length=1, max_length=BATCH_READINGS_MAX)]


class Reading(Struct, frozen=True):
    """A valid reading: ids as text, resistance finite, time in UTC or None for the server's."""

    sensor_id: str
    location_id: str
    resistance_ohm: float
    timestamp: datetime | None
    reading_id: str | None

    @property
    def identity(self) -> tuple[Any, ...]:
        """The reading's idempotency key: another delivery of the same reading has the same."""
        if self.reading_id is not None:
            return ("id", self.sensor_id, self.reading_id)
        if self.timestamp is not None:
            return ("time", self.sensor_id, format_time(self.timestamp))
        return ("all", self.sensor_id, *self.content)

    @property
    def content(self) -> tuple[str, float]:
        """The fields that must not differ between deliveries of a reading."""
        return (self.location_id, self.resistance_ohm)

    @property
    def is_anonymous(self) -> bool:
        """Whether nothing but its content identifies the reading."""
        return self.reading_id is None and self.timestamp is None


class Answer(Struct, frozen=True):
    """The answer to a reading; the temperature in °C is None when the sensor is broken."""

    sensor_id: str
    location_id: str
    temperature: float | None
    status: Status
    timestamp: Timestamp


class Rejection(Struct, frozen=True):
    """The reason for which a reading of a batch is not taken: `readings[<index>].<field>: <reason>`."""

    error: str


class BatchAnswer(Struct, frozen=True):
    """A result for each reading of a batch, in order, and how many there are of each kind."""

    results: list[Answer | Rejection]
    accepted: int
    broken: int
    rejected: int

    @classmethod
    def of(cls, results: list[Answer | Rejection]) -> Self:
        """Count the results."""
        statuses = [result.status for result in results if isinstance(result, Answer)]
        broken = statuses.count(Status.BROKEN)
        return cls(results, len(statuses) - broken, broken, len(results) - len(statuses))


def parse_batch(posted: Any, now: datetime, oldest_age: timedelta) -> list[Reading | Rejection]:
    """Check each reading of a decoded batch at the time `now` (UTC).

    Raises ValidationError when the batch as a whole is not one.
    """
    batch = convert(posted, PostedBatch)
    checked: list[Reading | Rejection] = []
    for index, item in enumerate(batch.readings):
        try:
            checked.append(parse_reading(item, now, oldest_age))
        except ValidationError as error:
            checked.append(Rejection(within(f"readings[{index}]", error)))
    return checked


def parse_reading(posted: Any, now: datetime, oldest_age: timedelta) -> Reading:
    """Check a decoded reading against the contract at the time `now` (UTC); raises ValidationError."""
    reading = convert(posted, PostedReading)
    if not math.isfinite(reading.value):
        raise ValidationError("value: must be finite")
    timestamp = reading.timestamp
    if timestamp is not None:
        if timestamp > now + CLOCK_SKEW_MAX:
            raise ValidationError("timestamp: more than 5 minutes in the future")
        if timestamp < now - oldest_age:
            raise ValidationError(f"timestamp: more than {oldest_age // timedelta(hours=1)} hours old")
        timestamp = timestamp.astimezone(UTC)
    return Reading(
        sensor_id=_id_text("sensor_id", reading.sensor_id),
        location_id=_id_text("location_id", reading.location_id),
        resistance_ohm=reading.value,
        timestamp=timestamp,
        reading_id=reading.reading_id,
    )


def _id_text(field: str, value: int | str) -> str:
    text = str(value)
    if len(text) > ID_LENGTH_MAX:
        raise ValidationError(f"{field}: longer than {ID_LENGTH_MAX} characters")
    return text
