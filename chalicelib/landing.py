"""Landing objects: what the consumer leaves in the bucket for the next analytics run."""

import gzip
from datetime import datetime
from uuid import UUID

import msgspec

from chalicelib.readings import Measurement

LANDING_PREFIX = "landing/"

_encoder = msgspec.json.Encoder()


class LandedMeasurement(Measurement, frozen=True):
    """A line of a landing object: a measurement and when it was queued, which orders conflicting ones."""

    queued_at_ms: int | None = None


def landing_key(now: datetime, unique: UUID) -> str:
    """Name a new landing object; keys sort by the time (UTC) they were written."""
    return f"{LANDING_PREFIX}{now:%Y%m%dT%H%M%S.%fZ}-{unique}.jsonl.gz"


def encode_landing(measurements: list[LandedMeasurement]) -> bytes:
    """Encode measurements as gzip JSON Lines."""
    # mtime=0: the same measurements are the same bytes.
    return gzip.compress(_encoder.encode_lines(measurements), compresslevel=6, mtime=0)
