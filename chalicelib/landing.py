"""Landing objects: what the consumer leaves in the bucket for the next analytics run."""

import contextlib
import gzip
import zlib
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import structs

from chalicelib.fields import format_time
from chalicelib.measurements import Measurement

LANDING_PREFIX = "landing/"
# Where what cannot be read is kept for people.
QUARANTINE_PREFIX = "quarantine/"

_encoder = msgspec.json.Encoder()


class LandedMeasurement(Measurement, frozen=True):
    """A line of a landing object: a measurement, when it was queued, and a number that repeated deliveries share.

    Its timestamp is UTC, to the millisecond.

    The first accepted of two conflicting measurements is the one queued first. Two lines with the same
    location, sensor, timestamp and delivery are one measurement that the queue delivered twice.
    """

    queued_at_ms: int | None = None
    delivery: int | None = None


def landing_key(now: datetime, unique: UUID) -> str:
    """Name a new landing object; keys sort by the time (UTC) they were written."""
    return f"{LANDING_PREFIX}{now:%Y%m%dT%H%M%S.%fZ}-{unique}.jsonl.gz"


def encode_landing(measurements: list[LandedMeasurement]) -> bytes:
    """Encode measurements as gzip JSON Lines."""
    lines = [structs.asdict(one) | {"timestamp": format_time(one.timestamp)} for one in measurements]
    # mtime=0: the same measurements are the same bytes.
    return gzip.compress(_encoder.encode_lines(lines), compresslevel=6, mtime=0)


def salvage_landing(content: bytes) -> tuple[list[LandedMeasurement], int]:
    """Decode what can be decoded of a landing object; return it and how many lines cannot, 0 of an undamaged one."""
    lines, damaged = _unpack(content)
    measurements = []
    for line in lines.splitlines():
        try:
            measurements.append(msgspec.json.decode(line, type=LandedMeasurement))
        except msgspec.DecodeError:
            damaged += 1
    return measurements, damaged


def _unpack(content: bytes) -> tuple[bytes, int]:
    """Return what comes before any damage of a gzip file, and 1 if there is some, else 0."""
    unpacked = bytearray()
    # In one piece if it is whole; else byte by byte, since a damaged piece gives nothing of what precedes the damage.
    for size in (len(content) or 1, 1):
        unpacker, unpacked = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), bytearray()
        with contextlib.suppress(zlib.error):
            for start in range(0, len(content), size):
                unpacked += unpacker.decompress(content[start : start + size])
        if unpacker.eof:
            return bytes(unpacked), 0
    return bytes(unpacked), 1
