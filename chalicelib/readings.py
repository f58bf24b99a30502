"""The messages of a reading's way: what a sensor posts, what it is answered, what is queued and landed."""

import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from msgspec import Meta, Struct

from chalicelib.errors import ValidationError
from chalicelib.thermistor import TEMPERATURE_MAX_CELSIUS, Status
from chalicelib.validation import convert, shorten, within

BODY_BYTES_MAX = 1024 * 1024
BATCH_READINGS_MAX = 500
ID_LENGTH_MAX = 64
CLOCK_SKEW_MAX = timedelta(minutes=5)

# \Z and not $, which would let a line break through.
IdText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
Timestamp = Annotated[datetime, Meta(tz=True)]


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


class Answer(Struct, frozen=True):
    """What the sensor is told; the temperature in °C is None when the sensor is broken."""

    sensor_id: str
    location_id: str
    temperature: float | None
    status: Status
    timestamp: Timestamp


class Measurement(Struct, frozen=True):
    """A temperature in °C of a working sensor, as it is queued; `value` is the resistance in ohm."""

    sensor_id: IdText
    location_id: IdText
    temperature: Annotated[float, Meta(gt=-TEMPERATURE_MAX_CELSIUS, lt=TEMPERATURE_MAX_CELSIUS)]
    status: Status
    timestamp: Timestamp
    value: float


def decode_body(body: bytes) -> Any:
    """Decode JSON from outside; raises ValidationError for anything but plain, unambiguous JSON in UTF-8."""
    try:
        decoded = json.loads(body.decode("utf-8"), object_pairs_hook=_unique_keys)
        if b"\\u" in body:
            # An escaped half of a surrogate pair is no text that anything behind could store.
            json.dumps(decoded, ensure_ascii=False).encode("utf-8")
        return decoded
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise ValidationError("body: not valid UTF-8") from None
    except RecursionError:
        raise ValidationError("body: nested too deeply") from None
    except ValueError as error:
        raise ValidationError(f"body: not valid JSON: {shorten(str(error))}") from None


def parse_batch(posted: Any, now: datetime, oldest_age: timedelta) -> list[Reading | str]:
    """Check a decoded batch at the time `now` (UTC): each reading, or `readings[<place>].<field>: <reason>`.

    Raises ValidationError when the batch as a whole is not one.
    """
    batch = convert(posted, PostedBatch)
    checked: list[Reading | str] = []
    for place, item in enumerate(batch.readings):
        try:
            checked.append(parse_reading(item, now, oldest_age))
        except ValidationError as error:
            checked.append(within(f"readings[{place}]", error))
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


def parse_id(field: str, text: str) -> str:
    """Check a sensor's or location's id from a path, where it may be percent-encoded; raises ValidationError."""
    try:
        return convert(unquote(text), IdText)
    except ValidationError as error:
        raise ValidationError(f"{field}: {str(error).partition(': ')[2]}") from None


def decode_measurements(body: str) -> tuple[list[Measurement], list[str]]:
    """Decode a queue message into its good measurements and, for each bad one, `<path>: <reason>`.

    Raises ValidationError when the message as a whole is no JSON array.
    """
    try:
        return msgspec.json.decode(body, type=list[Measurement]), []
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass  # the slower way below can tell what is wrong with which element
    elements = decode_body(body.encode("utf-8", "surrogatepass"))
    if not isinstance(elements, list):
        raise ValidationError("body: must be an array of measurements")
    good, reasons = [], []
    for index, element in enumerate(elements):
        try:
            good.append(convert(element, Measurement))
        except ValidationError as error:
            reasons.append(within(f"[{index}]", error))
    return good, reasons


def format_time(time: datetime) -> str:
    """Write a UTC time the one way the contract knows, ISO 8601 with `Z`."""
    return time.isoformat().replace("+00:00", "Z")


def _id_text(field: str, value: int | str) -> str:
    text = str(value)
    if len(text) > ID_LENGTH_MAX:
        raise ValidationError(f"{field}: longer than {ID_LENGTH_MAX} characters")
    return text


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) == len(pairs):
        return mapping
    ((key, _),) = Counter(name for name, _ in pairs).most_common(1)
    raise ValidationError(f"{shorten(key)}: the field is given twice")
