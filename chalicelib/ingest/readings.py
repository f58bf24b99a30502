"""Readings as sensors post them, and the answers to them."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from msgspec import Meta, Struct

from chalicelib.errors import BodyTooLargeError, ForbiddenError, ValidationError
from chalicelib.fields import CLOCK_SKEW_MAX, IdText, Timestamp, cut_digits, format_time, id_text, sensor_key
from chalicelib.thermistor import Status
from chalicelib.validation import convert, decode_body, within

BODY_BYTES_MAX = 1024 * 1024
BATCH_READINGS_MAX = 500
# With more characters a time may have more digits than Python keeps.
_EXACT_TIME_LENGTH = len("2026-01-31T09:00:00.000000Z")


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


class Delivery(Struct, frozen=True):
    """A reading as it came, decoded but not checked, and for which locations who sent it may post."""

    content: Any
    may_post: Callable[[str], bool]


class Reading(Struct, frozen=True):
    """A valid reading: ids as text, resistance finite, time as the contract writes it or None for the server's."""

    sensor_id: str
    location_id: str
    resistance_ohm: float
    timestamp: str | None
    reading_id: str | None

    @property
    def key(self) -> str:
        """The sensor's key."""
        return sensor_key(self.location_id, self.sensor_id)

    @property
    def identity(self) -> tuple[str, ...]:
        """The same of every delivery of the reading; a value that nothing else identifies is part of it.

        Devices restart the counters that their ids come from, so a time is what tells readings apart.
        """
        if self.timestamp is not None:
            return (self.key, "time", self.timestamp)
        if self.reading_id is not None:
            return (self.key, "id", self.reading_id)
        return (self.key, "value", repr(self.resistance_ohm))

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
    timestamp: str


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


def decode_request(body: bytes) -> Any:
    """Decode a request's JSON; raises BodyTooLargeError, and ValidationError for anything but plain JSON."""
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLargeError(f"body: more than {BODY_BYTES_MAX} bytes")
    return decode_body(body)


def parse_deliveries(deliveries: Sequence[Delivery], now: datetime, oldest_age: timedelta) -> list[Reading | Rejection]:
    """Check each reading of a batch at the time `now` (UTC), and whether its sender may post it."""
    checked: list[Reading | Rejection] = []
    for index, delivery in enumerate(deliveries):
        try:
            checked.append(parse_reading(delivery, now, oldest_age))
        except ValidationError as error:
            checked.append(Rejection(within(f"readings[{index}]", error)))
        except ForbiddenError as error:
            checked.append(Rejection(f"readings[{index}].{error}"))
    return checked


def parse_reading(delivery: Delivery, now: datetime, oldest_age: timedelta) -> Reading:
    """Check a reading against the contract at the time `now` (UTC).

    Raises ValidationError, and ForbiddenError for a location that its sender may not post for.
    """
    reading = convert(_with_exact_time(delivery.content), PostedReading)
    if not math.isfinite(reading.value):
        raise ValidationError("value: must be finite")
    timestamp = reading.timestamp
    if timestamp is not None:
        if timestamp > now + CLOCK_SKEW_MAX:
            raise ValidationError("timestamp: more than 5 minutes in the future")
        if timestamp < now - oldest_age:
            raise ValidationError(f"timestamp: more than {oldest_age // timedelta(hours=1)} hours old")
    location_id = id_text("location_id", reading.location_id)
    if not delivery.may_post(location_id):
        raise ForbiddenError("location_id: the token is not for this location")
    return Reading(
        sensor_id=id_text("sensor_id", reading.sensor_id),
        location_id=location_id,
        resistance_ohm=reading.value,
        timestamp=None if timestamp is None else format_time(timestamp),
        reading_id=reading.reading_id,
    )


def _with_exact_time(content: Any) -> Any:
    text = content.get("timestamp") if isinstance(content, dict) else None
    if isinstance(text, str) and len(text) > _EXACT_TIME_LENGTH:
        return content | {"timestamp": cut_digits(text)}
    return content
