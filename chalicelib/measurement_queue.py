"""The queue between ingest and analytics, seen from the sending side."""

from typing import TYPE_CHECKING

from chalicelib.readings import Measurement, encode_measurements

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class MeasurementQueue:
    """Sends measurements as SQS messages."""

    def __init__(self, queue_url: str, sqs: "SQSClient") -> None:
        self._queue_url = queue_url
        self._sqs = sqs

    def send(self, measurements: list[Measurement]) -> None:
        """Send the measurements as one message."""
        self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=encode_measurements(measurements))
