"""The use case behind the queue: a batch becomes one landing object, and what cannot be decoded is set aside."""

import hashlib
import logging
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from chalicelib.errors import ValidationError
from chalicelib.fields import CLOCK_SKEW_MAX, format_time, to_milliseconds
from chalicelib.landing import QUARANTINE_PREFIX, LandedMeasurement, encode_landing, landing_key
from chalicelib.measurements import decode_measurements
from chalicelib.object_store import ObjectStore

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

logger = logging.getLogger(__name__)


class QueuedMessage(Struct, frozen=True):
    """An SQS message as the consumer gets it: when it was sent, in ms since the epoch, and by which request."""

    message_id: str
    body: str
    queued_at_ms: int | None
    correlation_id: str | None = None


def read_record(record: dict[str, Any]) -> QueuedMessage:
    """Read a record of the event that SQS invokes a function with."""
    sent_at_ms = record.get("attributes", {}).get("SentTimestamp")
    return QueuedMessage(
        message_id=record["messageId"],
        body=record["body"],
        queued_at_ms=None if sent_at_ms is None else int(sent_at_ms),
        correlation_id=record.get("messageAttributes", {}).get("correlation_id", {}).get("stringValue"),
    )


class Buffered(Struct, frozen=True):
    """The outcome of a batch: measurements landed, and messages of which something went to quarantine."""

    measurements: int
    quarantined_messages: int


class Quarantined(Struct, frozen=True):
    """A quarantine object: the message as it came and why it was set aside."""

    message_id: str
    reasons: list[str]
    body: str
    quarantined_at: str


class Buffer:
    """Moves batches of messages into the bucket; an error means that SQS shall deliver the whole batch again."""

    def __init__(self, store: ObjectStore, clock: Callable[[], datetime], new_uuid: Callable[[], UUID]) -> None:
        self._store = store
        self._clock = clock
        self._new_uuid = new_uuid

    def store(self, messages: list[QueuedMessage]) -> Buffered:
        """Write the batch's measurements as one landing object, and undecodable content to quarantine.

        Writing is safe to repeat: a quarantine key follows from its message, and a second landing object
        holds the same measurements, which the receiver drops as duplicates.
        """
        # A time from far in the future would make all that is measured until then count as late.
        latest = self._clock() + CLOCK_SKEW_MAX
        landed: list[LandedMeasurement] = []
        aside: list[tuple[str, bytes]] = []
        for message in messages:
            measurements, reasons = _decode(message, latest)
            landed.extend(measurements)
            if reasons:
                aside.append(self._set_aside(message, reasons))
        if landed:
            key = landing_key(self._clock(), self._new_uuid())
            self._store.put(key, encode_landing(landed))
            ids = [message.correlation_id for message in messages if message.correlation_id]
            logger.info("landed", extra={"landing_key": key, "correlation_ids": ids})
        # Last and side by side, so that a flood of bad messages never takes good ones to the dead letters.
        self._store.put_all(aside)
        return Buffered(len(landed), len(aside))

    def _set_aside(self, message: QueuedMessage, reasons: list[str]) -> tuple[str, bytes]:
        """Return key and content of the message's quarantine object."""
        digest = hashlib.sha256(message.body.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        key = f"{QUARANTINE_PREFIX}{message.message_id}-{digest}.json"
        body = message.body.encode("utf-8", "backslashreplace").decode()
        logger.warning("message goes to quarantine as %s: %s", key, reasons[0])
        return key, msgspec.json.encode(Quarantined(message.message_id, reasons, body, format_time(self._clock())))


def _decode(message: QueuedMessage, latest: datetime) -> tuple[list[LandedMeasurement], list[str]]:
    try:
        measurements, reasons = decode_measurements(message.body)
    except ValidationError as error:
        return [], [str(error)]
    landed = []
    for index, measurement in enumerate(measurements):
        if not _EARLIEST <= measurement.timestamp <= latest:
            reasons.append(f"timestamp: {measurement.timestamp.isoformat()} is not between 1970 and now")
            continue
        fields = structs.asdict(measurement) | {"timestamp": to_milliseconds(measurement.timestamp)}
        delivery = zlib.crc32(f"{message.message_id}/{index}".encode())
        landed.append(LandedMeasurement(**fields, queued_at_ms=message.queued_at_ms, delivery=delivery))
    return landed, reasons
