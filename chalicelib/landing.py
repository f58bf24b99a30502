"""Landing objects: what the consumer leaves in the bucket for the next analytics run."""

import gzip
import zlib
from datetime import datetime
from uuid import UUID

import msgspec

from chalicelib.readings import Measurement

LANDING_PREFIX = "landing/"
# Where what cannot be read is kept for people.
QUARANTINE_PREFIX = "quarantine/"

_encoder = msgspec.json.Encoder()


class LandedMeasurement(Measurement, frozen=True):
    """A line of a landing object: a measurement, when it was queued, and what tells a repeated delivery.

    The first accepted of two conflicting measurements is the one queued first. Two lines with the same
    sensor, timestamp and delivery are one measurement that the queue delivered twice.
    """

    queued_at_ms: int | None = None
    delivery: int | None = None


def landing_key(now: datetime, unique: UUID) -> str:
    """Name a new landing object; keys sort by the time (UTC) they were written."""
    return f"{LANDING_PREFIX}{now:%Y%m%dT%H%M%S.%fZ}-{unique}.jsonl.gz"


def encode_landing(measurements: list[LandedMeasurement]) -> bytes:
    """Encode measurements as gzip JSON Lines."""
    # mtime=0: the same measurements are the same bytes.
    return gzip.compress(_encoder.encode_lines(measurements), compresslevel=6, mtime=0)


def salvage_landing(content: bytes) -> tuple[list[LandedMeasurement], int]:
    """Decode what can be decoded of a damaged landing object; return it and how many lines cannot."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    lines = b""
    try:
        for start in range(0, len(content), 1024):
            lines += unpacker.decompress(content[start : start + 1024])
    except zlib.error:
        pass  # what came before the damage is good
    measurements = []
    damaged = 0 if unpacker.eof else 1
    for line in lines.splitlines():
        try:
            measurements.append(msgspec.json.decode(line, type=LandedMeasurement))
        except msgspec.DecodeError:
            damaged += 1
    return measurements, damaged
