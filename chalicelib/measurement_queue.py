"""The queue between ingest and analytics, seen from the sending side."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chalicelib.readings import Measurement, encode_measurement

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MESSAGE_BYTES_MAX = 256 * 1024


class MeasurementQueue:
    """Sends measurements as SQS messages."""

    def __init__(self, queue_url: str, sqs: "SQSClient") -> None:
        self._queue_url = queue_url
        self._sqs = sqs

    def send(self, measurements: list[Measurement]) -> None:
        """Send the measurements as few messages as hold them.

        When a later message fails the earlier ones are sent; a repetition's duplicates are dropped downstream.
        """
        # The batch call would take no more bytes than one message has.
        for body in pack(measurements):
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=body)


def pack(measurements: list[Measurement], bytes_max: int = MESSAGE_BYTES_MAX) -> Iterator[str]:
    """Yield JSON arrays of the measurements, in order, each of at most `bytes_max` bytes."""
    packed: list[bytes] = []
    size = len(b"[]")
    for encoded in map(encode_measurement, measurements):
        if packed and size + len(encoded) > bytes_max:
            yield _array(packed)
            packed, size = [], len(b"[]")
        packed.append(encoded)
        size += len(encoded) + len(b",")
    if packed:
        yield _array(packed)


def _array(encoded: list[bytes]) -> str:
    return (b"[" + b",".join(encoded) + b"]").decode()
