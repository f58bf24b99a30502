"""Landing objects: what the consumer leaves in the bucket for the next analytics run."""

import contextlib
import gzip
import hashlib
import re
import zlib
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from chalicelib.errors import ValidationError
from chalicelib.fields import format_second, format_time
from chalicelib.measurements import Measurement

LANDING_PREFIX = "landing/"
# Where what cannot be read is kept for people.
QUARANTINE_PREFIX = "quarantine/"
# All rows are of one shard.
SHARD = "0of1"

_SECOND = r"\d{8}T\d{6}Z"
_NAME = re.compile(
    rf"landing/\d{{8}}T\d{{6}}\.\d{{6}}Z_(?P<rows>\d{{1,9}})_(?P<first>{_SECOND})_(?P<last>{_SECOND})"
    rf"_(?P<shard>\d{{1,3}}of\d{{1,3}})(?P<late>_late)?_(?P<unique>[0-9A-Za-z-]+)\.jsonl\.gz"
)

_encoder = msgspec.json.Encoder()


class LandedMeasurement(Measurement, frozen=True):
    """A line of a landing object: a measurement, when it was first queued, and where it was in which message.

    Its timestamp is UTC, to the millisecond. `delivery` has the low 31 bits of the message's identity, which all
    deliveries of it share, and `place` its index there: two lines with the same location, sensor, timestamp, delivery
    and place are one measurement that was delivered twice. The first accepted of two conflicting measurements is the
    one queued first.
    """

    queued_at_ms: int | None = None
    delivery: int | None = None
    place: int | None = None


class LandingName(Struct, frozen=True):
    """What the name of a landing object tells: its rows, and the seconds (UTC) of the first and last measured."""

    rows: int
    first: str
    last: str
    shard: str
    is_late: bool
    unique: str


def landing_key(now: datetime, measurements: Sequence[LandedMeasurement], content: bytes, *, is_late: bool) -> str:
    """Name a new landing object of at least one measurement; keys sort by the time (UTC) they were written.

    The name ends in a UUID that follows from the object's bytes, so that every change of them is noticed.
    """
    times = [one.timestamp for one in measurements]
    first, last = format_second(min(times)), format_second(max(times))
    late = "_late" if is_late else ""
    return (
        f"{LANDING_PREFIX}{now:%Y%m%dT%H%M%S.%fZ}_{len(measurements)}_{first}_{last}_{SHARD}{late}"
        f"_{fingerprint(content)}.jsonl.gz"
    )


def fingerprint(content: bytes) -> UUID:
    """Return the UUID, of the version for own purposes, that holds 122 bits of a hash of the content [RFC 9562]."""
    bits = int.from_bytes(hashlib.blake2b(content, digest_size=16).digest())
    return UUID(int=bits & ~(0xF << 76) & ~(0b11 << 62) | 8 << 76 | 0b10 << 62)


def read_landing_key(key: str) -> LandingName:
    """Return what the name of a landing object tells; raises ValidationError for any other name."""
    found = _NAME.fullmatch(key)
    if not found:
        raise ValidationError(f"{key}: is not the name of a landing object")
    return LandingName(
        int(found["rows"]), found["first"], found["last"], found["shard"], found["late"] is not None, found["unique"]
    )


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
