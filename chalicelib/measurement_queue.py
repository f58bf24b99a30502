"""The queue between ingest and analytics, seen from the sending side."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from chalicelib.readings import Measurement, encode_measurements

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef


class MeasurementQueue:
    """Sends measurements as SQS messages, with the correlation id of their request when there is one."""

    def __init__(
        self, queue_url: str, sqs: "SQSClient", correlation_id: Callable[[], str | None] = lambda: None
    ) -> None:
        self._queue_url = queue_url
        self._sqs = sqs
        self._correlation_id = correlation_id

    def send(self, measurements: list[Measurement]) -> None:
        """Send the measurements as one message."""
        self._sqs.send_message(
            QueueUrl=self._queue_url,
            MessageBody=encode_measurements(measurements),
            MessageAttributes=self._attributes(),
        )

    def _attributes(self) -> dict[str, "MessageAttributeValueTypeDef"]:
        correlation_id = self._correlation_id()
        return {"correlation_id": {"DataType": "String", "StringValue": correlation_id}} if correlation_id else {}
