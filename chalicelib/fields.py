"""The fields that readings, measurements, tokens and requests share: ids, keys and times."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import unquote

import msgspec
from msgspec import Meta

from chalicelib.errors import ValidationError
from chalicelib.validation import convert

ID_LENGTH_MAX = 64
CLOCK_SKEW_MAX = timedelta(minutes=5)

_FURTHER_DIGITS = re.compile(r"(\.[0-9]{3})[0-9]+")

# \Z and not $, which would let a line break through.
IdText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
Timestamp = Annotated[datetime, Meta(tz=True)]


def parse_id(field: str, text: str) -> str:
    """Check a sensor's or location's id from a path, where it may be percent-encoded; raises ValidationError."""
    try:
        return convert(unquote(text), IdText)
    except ValidationError as error:
        raise ValidationError(f"{field}: {str(error).partition(': ')[2]}") from None


def id_text(field: str, value: int | str) -> str:
    """Write an id that may be given as a number as the text that it is; raises ValidationError for a long one."""
    text = str(value)
    if len(text) > ID_LENGTH_MAX:
        raise ValidationError(f"{field}: longer than {ID_LENGTH_MAX} characters")
    return text


def sensor_key(location_id: str, sensor_id: str) -> str:
    """Return the name of a sensor that no other location's sensor can have; every key about a sensor begins with it.

    `/` is in neither id.
    """
    return f"{location_id}/{sensor_id}"


def split_sensor_key(key: str) -> tuple[str, str]:
    """Return the location's and the sensor's id of a sensor's key."""
    location_id, _, sensor_id = key.partition("/")
    return location_id, sensor_id


def cut_digits(text: str) -> str:
    """Cut what a time's text has behind its milliseconds, which msgspec would round: into another year, at worst."""
    return _FURTHER_DIGITS.sub(r"\1", text)


def to_milliseconds(time: datetime) -> datetime:
    """Return the time in UTC, cut to the millisecond, to which times are kept."""
    utc = time.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1_000 * 1_000)


def format_time(time: datetime) -> str:
    """Write a time as the contract does, in UTC with three digits and `Z`: such texts sort as times."""
    # In a fifth of the time that isoformat takes.
    return f"{msgspec.json.encode(time.astimezone(UTC))[1:20].decode()}.{time.microsecond // 1_000:03}Z"


def format_second(time: datetime) -> str:
    """Write the second of a time as names of files have it, `20260131T090000Z` (UTC): such texts sort as times."""
    return f"{time.astimezone(UTC):%Y%m%dT%H%M%SZ}"
