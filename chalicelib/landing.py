"""Landing objects: what the consumer leaves in the bucket for the next analytics run."""

import contextlib
import gzip
import hashlib
import re
import zlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct, structs

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

# What was measured longer than this before it was queued lands apart, lest few rows widen the range of many.
LATE_AFTER = timedelta(hours=2)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Of gzip, with neither a name nor a time.
_HEADER = b"\x1f\x8b\x08" + bytes(7)
# To find a flipped bit, each one is one more hash of all.
_FLIPS_BYTES_MAX = 50_000

# For own purposes [RFC 9562].
_FINGERPRINT_VERSION = 8

# The last millisecond that a datetime knows.
_LATEST_MS = 253_402_300_799_999
# What an INTEGER holds.
_Index = Annotated[int, Meta(ge=0, lt=2**31)] | None

_encoder = msgspec.json.Encoder()


class LandedMeasurement(Measurement, frozen=True):
    """A line of a landing object: a measurement, when it was first queued, and where it was in which message.

    Its timestamp is UTC, to the millisecond. `delivery` has the low 31 bits of the message's identity, which all
    deliveries of it share, and `place` its index there: two lines with the same location, sensor, timestamp, delivery
    and place are one measurement that was delivered twice. The first accepted of two conflicting measurements is the
    one queued first.
    """

    queued_at_ms: Annotated[int, Meta(ge=0, le=_LATEST_MS)] | None = None
    delivery: _Index = None
    place: _Index = None


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


def fingerprint(content: bytes | bytearray) -> UUID:
    """Return the UUID that holds 122 bits of a hash of the content."""
    bits = int.from_bytes(hashlib.blake2b(content, digest_size=16).digest())
    return UUID(int=bits & ~(0xF << 76) & ~(0b11 << 62) | _FINGERPRINT_VERSION << 76 | 0b10 << 62)


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


def landing_objects(measurements: Sequence[LandedMeasurement], now: datetime) -> dict[str, bytes]:
    """Encode measurements as landing objects, by their keys: the current ones as one, late ones by day (UTC)."""
    shares: dict[date | None, list[LandedMeasurement]] = defaultdict(list)
    for one in measurements:
        queued_at = now if one.queued_at_ms is None else _EPOCH + timedelta(milliseconds=one.queued_at_ms)
        shares[one.timestamp.date() if one.timestamp < queued_at - LATE_AFTER else None].append(one)
    objects = {}
    for day, share in shares.items():
        content = encode_landing(share)
        objects[landing_key(now, share, content, is_late=day is not None)] = content
    return objects


def is_whole(content: bytes, name: LandingName) -> bool:
    """Tell whether an object's bytes are those that were written under its name.

    Where the name holds no fingerprint of them, gzip's own checksum and length have to hold.
    """
    if name.unique == str(fingerprint(content)):
        return True
    with contextlib.suppress(ValueError):
        if UUID(name.unique).version == _FINGERPRINT_VERSION:
            return False
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    with contextlib.suppress(zlib.error):
        unpacker.decompress(content)
    return unpacker.eof and not unpacker.unused_data


def salvage_landing(content: bytes, unique: str = "") -> list[LandedMeasurement]:
    """Decode the lines of a landing object that are as they were written; `unique` is the end of its name.

    Of one that was cut short these are the lines before the cut. When bits were changed, which gzip's own checksum
    shows, nobody can tell which lines depend on them; so a single one is searched for by the fingerprint, in objects
    up to 50 KB for up to half a minute, and without success there are no lines.
    """
    lines = _unpack(content)
    if lines is None:
        lines = _unpack(_flip_back(content, unique)) or b""
    measurements = []
    for line in lines.splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            measurements.append(msgspec.json.decode(line, type=LandedMeasurement))
    return measurements


def _unpack(content: bytes) -> bytes | None:
    """Return what is packed, as far as it goes; None when something was changed."""
    # The header of ten bytes, which nothing of the content depends on, may be damaged.
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(_HEADER + content[len(_HEADER) :])
    except zlib.error:
        return None
    # A changed one may run on over its own end, where the length of all that was packed is still to be read.
    length_at_end = int.from_bytes(content[-4:], "little")
    is_changed = not unpacker.eof and len(unpacked) / 2 < length_at_end < len(unpacked) * 2
    return None if is_changed else unpacked


def _flip_back(content: bytes, unique: str) -> bytes:
    """Return the content with that bit flipped with which it has the fingerprint; as it is if there is none."""
    tried = bytearray(content)
    for bit in range(8 * len(content) if unique and len(content) <= _FLIPS_BYTES_MAX else 0):
        tried[bit // 8] ^= 1 << bit % 8
        if str(fingerprint(tried)) == unique:
            return bytes(tried)
        tried[bit // 8] ^= 1 << bit % 8
    return content
