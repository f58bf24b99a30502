"""Measurements: what a queue message is an array of, and the analytics count; temperatures of working sensors."""

import re
from sys import float_info
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from chalicelib.errors import ValidationError
from chalicelib.fields import IdText, Timestamp
from chalicelib.thermistor import TEMPERATURE_MAX_CELSIUS, Status
from chalicelib.validation import convert, decode_body, within

# msgspec would round them, which can make it another millisecond, or year.
_FURTHER_DIGITS = re.compile(r'("timestamp"\s*:\s*"[^"]*\.\d{3})\d+')


class Measurement(Struct, frozen=True):
    """A temperature in °C of a working sensor, as it is queued; `value` is the resistance in ohm."""

    sensor_id: IdText
    location_id: IdText
    temperature: Annotated[float, Meta(gt=-TEMPERATURE_MAX_CELSIUS, lt=TEMPERATURE_MAX_CELSIUS)]
    status: Status
    timestamp: Timestamp
    # Neither NaN nor infinity, which would land as null.
    value: Annotated[float, Meta(ge=-float_info.max, le=float_info.max)]


def decode_measurements(body: str) -> tuple[dict[int, Measurement], list[str]]:
    """Decode a queue message into its good measurements by their place and, for each bad one, `<path>: <reason>`.

    Times are cut to the millisecond. Raises ValidationError when the message as a whole is no JSON array.
    """
    body = _FURTHER_DIGITS.sub(r"\1", body)
    try:
        return dict(enumerate(msgspec.json.decode(body, type=list[Measurement]))), []
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass  # the slower way below finds what is wrong with which element
    elements = decode_body(body.encode("utf-8", "surrogatepass"))
    if not isinstance(elements, list):
        raise ValidationError("body: must be an array of measurements")
    good: dict[int, Measurement] = {}
    reasons = []
    for index, element in enumerate(elements):
        try:
            good[index] = convert(element, Measurement)
        except ValidationError as error:
            reasons.append(within(f"[{index}]", error))
    return good, reasons
