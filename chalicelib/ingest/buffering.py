"""The use case behind the queue: a batch becomes landing objects, and what cannot be decoded is set aside."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct, structs

from chalicelib.errors import ValidationError
from chalicelib.fields import CLOCK_SKEW_MAX, format_time, to_milliseconds
from chalicelib.ingest.queue_messages import DeadLetters, QueuedMessage
from chalicelib.landing import QUARANTINE_PREFIX, LandedMeasurement, landing_objects
from chalicelib.measurements import decode_measurements
from chalicelib.object_store import ObjectStore
from chalicelib.quarantine_count import QuarantineCount

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Of a message's identity, what an INTEGER holds.
_DELIVERY_BITS = 31

logger = logging.getLogger(__name__)


class Buffered(Struct, frozen=True):
    """The outcome of a batch: measurements landed, and messages that went to quarantine or to the dead letters."""

    measurements: int
    quarantined_messages: int
    dead_letters: int = 0


class Quarantined(Struct, frozen=True):
    """A quarantine object: the message as it came and why it was set aside."""

    message_id: str
    reasons: list[str]
    body: str
    quarantined_at: str


class Buffer:
    """Moves batches of messages into the bucket; an error means that SQS shall deliver the whole batch again."""

    def __init__(
        self,
        store: ObjectStore,
        quarantine_count: QuarantineCount,
        dead_letters: DeadLetters,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._quarantine_count = quarantine_count
        self._dead_letters = dead_letters
        self._clock = clock

    def store(self, messages: list[QueuedMessage]) -> Buffered:
        """Write the batch's measurements as landing objects, and undecodable content to quarantine.

        Writing is safe to repeat: a quarantine key follows from its message, and further landing objects hold the
        same measurements, which a run knows by message and place. What cannot be set aside becomes a dead letter.
        """
        now = self._clock()
        landed: list[LandedMeasurement] = []
        aside: dict[str, tuple[QueuedMessage, bytes]] = {}
        for message in messages:
            measurements, reasons = _decode(message, now + CLOCK_SKEW_MAX)
            landed += measurements
            if reasons:
                key = quarantine_key(message)
                logger.warning("message goes to quarantine as %s: %s", key, reasons[0])
                aside[key] = message, _quarantined(message, reasons, now)
        self._land(now, landed, messages)
        # Last and side by side, so that a flood of bad messages never takes good ones to the dead letters.
        lost = self._set_aside(aside)
        return Buffered(len(landed), len(aside) - lost, lost)

    def _land(self, now: datetime, landed: list[LandedMeasurement], messages: list[QueuedMessage]) -> None:
        objects = landing_objects(landed, now)
        if objects:
            self._store.put_all(objects.items())
            ids = [message.correlation_id for message in messages if message.correlation_id]
            logger.info("landed", extra={"landing_keys": list(objects), "correlation_ids": ids})

    def _set_aside(self, aside: Mapping[str, tuple[QueuedMessage, bytes]]) -> int:
        """Write quarantine objects and count them; return how many messages became dead letters instead."""
        failed = self._store.put_what_can_be((key, content) for key, (_, content) in aside.items())
        written = [key for key in aside if key not in failed]
        try:
            self._quarantine_count.set_aside(*written)
        except (BotoCoreError, ClientError) as error:
            failed |= dict.fromkeys(written, error)
        for key, reason in failed.items():
            logger.warning("message becomes a dead letter instead of %s: %s", key, reason)
        self._dead_letters.send_all(aside[key][0] for key in failed)
        return len(failed)


def quarantine_key(message: QueuedMessage) -> str:
    """Name the message's quarantine object, the same for every delivery of it, by whatever way it comes."""
    digest = hashlib.sha256(message.body.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{QUARANTINE_PREFIX}{message.identity:016x}-{digest}.json"


def _decode(message: QueuedMessage, latest: datetime) -> tuple[list[LandedMeasurement], list[str]]:
    try:
        measurements, reasons = decode_measurements(message.body)
    except ValidationError as error:
        return [], [str(error)]
    landed = []
    delivery = message.identity & (2**_DELIVERY_BITS - 1)
    for place, measurement in measurements.items():
        if not _EPOCH <= measurement.timestamp <= latest:
            reasons.append(f"[{place}].timestamp: {measurement.timestamp.isoformat()} is not between 1970 and now")
            continue
        fields = structs.asdict(measurement) | {"timestamp": to_milliseconds(measurement.timestamp)}
        landed.append(LandedMeasurement(**fields, queued_at_ms=message.queued_at_ms, delivery=delivery, place=place))
    return landed, reasons


def _quarantined(message: QueuedMessage, reasons: list[str], now: datetime) -> bytes:
    body = message.body.encode("utf-8", "backslashreplace").decode()
    return msgspec.json.encode(Quarantined(message.message_id, reasons, body, format_time(now)))
