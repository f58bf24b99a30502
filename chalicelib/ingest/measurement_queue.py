"""Sends measurements to the queue: a message is a JSON array of `measurements.Measurement`."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from chalicelib.ingest.queue_messages import IDENTITY_BITS, message_attributes
from chalicelib.thermistor import Status

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# SQS takes 256 KiB with the attributes, of which names, types and values count: 96 bytes, and the correlation id.
MESSAGE_BYTES_MAX = 256 * 1024 - 256


class QueuedMeasurement(Struct, frozen=True):
    """What `measurements.Measurement` is read from; `value` is the resistance in ohm."""

    sensor_id: str
    location_id: str
    temperature: float
    status: Status
    timestamp: str
    value: float


class MeasurementQueue:
    """Sends measurements as SQS messages, each with an identity, its time, and the request's correlation id if any.

    `clock` tells the seconds since the epoch, `random_bits` draws so many bits.
    """

    def __init__(
        self,
        queue_url: str,
        sqs: "SQSClient",
        clock: Callable[[], float],
        random_bits: Callable[[int], int],
        correlation_id: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._queue_url = queue_url
        self._sqs = sqs
        self._clock = clock
        self._random_bits = random_bits
        self._correlation_id = correlation_id

    def send(self, measurements: list[QueuedMeasurement]) -> None:
        """Send the measurements as few messages as hold them.

        When a later message fails the earlier ones are sent; a repetition's duplicates are dropped downstream.
        """
        # The batch call would take no more bytes than one message has.
        for body in pack(measurements):
            # Before the call, since boto3 may make it twice, which is two messages that must be known as one.
            attributes = message_attributes(
                self._random_bits(IDENTITY_BITS), int(self._clock() * 1_000), self._correlation_id()
            )
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=body, MessageAttributes=attributes)


def pack(measurements: list[QueuedMeasurement], bytes_max: int = MESSAGE_BYTES_MAX) -> Iterator[str]:
    """Yield JSON arrays of the measurements, in order, each of at most `bytes_max` bytes."""
    packed: list[bytes] = []
    size = len(b"[]")
    for encoded in map(msgspec.json.encode, measurements):
        if packed and size + len(encoded) > bytes_max:
            yield _array(packed)
            packed, size = [], len(b"[]")
        packed.append(encoded)
        size += len(encoded) + len(b",")
    if packed:
        yield _array(packed)


def _array(encoded: list[bytes]) -> str:
    return (b"[" + b",".join(encoded) + b"]").decode()
