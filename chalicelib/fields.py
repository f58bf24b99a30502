"""The fields that readings, measurements, tokens and requests share: ids and times."""

from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import unquote

from msgspec import Meta

from chalicelib.errors import ValidationError
from chalicelib.validation import convert

ID_LENGTH_MAX = 64
CLOCK_SKEW_MAX = timedelta(minutes=5)

# \Z and not $, which would let a line break through.
IdText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
Timestamp = Annotated[datetime, Meta(tz=True)]


def parse_id(field: str, text: str) -> str:
    """Check a sensor's or location's id from a path, where it may be percent-encoded; raises ValidationError."""
    try:
        return convert(unquote(text), IdText)
    except ValidationError as error:
        raise ValidationError(f"{field}: {str(error).partition(': ')[2]}") from None


def format_time(time: datetime) -> str:
    """Write a UTC time the one way the contract knows, ISO 8601 with `Z`."""
    return time.isoformat().replace("+00:00", "Z")
