"""The record that is kept of an attempt at readings, packed small: DynamoDB charges for each kilobyte."""

import base64
import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from chalicelib.fields import format_time
from chalicelib.ingest.readings import Answer, Reading
from chalicelib.ingest.registration import Refused
from chalicelib.thermistor import Status


class Interrupted(Struct, frozen=True):
    """An attempt that failed when readings without a time of their own may have been queued under `began_at` (UTC).

    The cause is known to the attempt itself, and None when this was read from a record.
    """

    began_at: datetime
    cause: Exception | None = None


Outcome = Answer | Refused
Attempt = list[Outcome] | Interrupted


class _Packed(Struct, frozen=True, array_like=True):
    """An answer without what its reading has anyway; the time is there unless every repetition has the same."""

    temperature: float | None
    status: Status
    timestamp: str | None


def pack(readings: Sequence[Reading], attempt: Attempt) -> dict[str, Any]:
    """Write what an attempt at these readings came to, as DynamoDB keeps it."""
    if isinstance(attempt, Interrupted):
        return {"interrupted_at": format_time(attempt.began_at)}
    packed = [
        one.reason
        if isinstance(one, Refused)
        else _Packed(one.temperature, one.status, None if reading.timestamp else one.timestamp)
        for reading, one in zip(readings, attempt, strict=True)
    ]
    # Level 1 is five times as fast as the usual one, for a tenth more bytes.
    compressed = zlib.compress(msgspec.json.encode(packed), level=1)
    return {"answers": base64.b64encode(compressed).decode()}


def unpack(readings: Sequence[Reading], record: dict[str, Any]) -> Attempt:
    """Read what `pack` has written for the same readings."""
    if "interrupted_at" in record:
        return Interrupted(datetime.fromisoformat(record["interrupted_at"]))
    encoded = zlib.decompress(base64.b64decode(record["answers"]))
    packed = msgspec.json.decode(encoded, type=list[_Packed | str])
    return [
        Refused(one) if isinstance(one, str) else _answer(reading, one)
        for reading, one in zip(readings, packed, strict=True)
    ]


def _answer(reading: Reading, packed: _Packed) -> Answer:
    timestamp = reading.timestamp or packed.timestamp or ""
    return Answer(reading.sensor_id, reading.location_id, packed.temperature, packed.status, timestamp)
