"""The queue's messages: the attributes that ingest gives them, what the consumer reads, and how it gives one up."""

import hashlib
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from chalicelib.fields import CLOCK_SKEW_MAX

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

IDENTITY_BITS = 63

_CORRELATION_ID, _IDENTITY, _FIRST_QUEUED = "correlation_id", "identity", "first_queued_at_ms"
_WHOLE_NUMBER = re.compile(r"[0-9]{1,19}")
_CLOCK_SKEW_MS = CLOCK_SKEW_MAX.total_seconds() * 1_000
# The last millisecond that a datetime knows.
_LATEST_MS = 253_402_300_799_999
_CONNECTIONS = 16


class QueuedMessage(Struct, frozen=True):
    """A message as the consumer gets it.

    Its identity (63 bits) and the time when it was first queued (ms since the epoch) stay the same however often and
    by whatever way it is delivered; `record` has all attributes, as SQS shows them to a function.
    """

    message_id: str
    body: str
    identity: int
    queued_at_ms: int | None
    correlation_id: str | None = None
    record_attributes: Mapping[str, Any] = {}


def message_attributes(
    identity: int, first_queued_at_ms: int | None, correlation_id: str | None
) -> dict[str, "MessageAttributeValueTypeDef"]:
    """Return the attributes that a message carries through every redrive, of what is known of it."""
    attributes: dict[str, MessageAttributeValueTypeDef] = {
        _IDENTITY: {"DataType": "Number", "StringValue": str(identity)}
    }
    if first_queued_at_ms is not None:
        attributes[_FIRST_QUEUED] = {"DataType": "Number", "StringValue": str(first_queued_at_ms)}
    if correlation_id:
        attributes[_CORRELATION_ID] = {"DataType": "String", "StringValue": correlation_id}
    return attributes


def read_record(record: Mapping[str, Any]) -> QueuedMessage:
    """Read a record of the event that SQS invokes a function with.

    Of a message without a valid identity or time, as somebody else may send it, SQS' own id and time are taken.
    """
    attributes = record.get("messageAttributes", {})
    identity = _read_number(attributes, _IDENTITY, 2**IDENTITY_BITS - 1)
    sent_at_ms = _whole_number(record.get("attributes", {}).get("SentTimestamp"), _LATEST_MS)
    # Nobody queues a message after it was sent.
    latest_ms = _LATEST_MS if sent_at_ms is None else sent_at_ms + _CLOCK_SKEW_MS
    first_queued_at_ms = _read_number(attributes, _FIRST_QUEUED, latest_ms)
    return QueuedMessage(
        message_id=record["messageId"],
        body=record["body"],
        identity=_identity_of(record["messageId"]) if identity is None else identity,
        queued_at_ms=sent_at_ms if first_queued_at_ms is None else first_queued_at_ms,
        correlation_id=attributes.get(_CORRELATION_ID, {}).get("stringValue"),
        record_attributes=attributes,
    )


class DeadLetters:
    """The dead-letter queue, for what can be neither landed nor set aside."""

    def __init__(self, queue_url: str, sqs: "SQSClient") -> None:
        self._queue_url = queue_url
        self._sqs = sqs

    def send_all(self, messages: Iterable[QueuedMessage]) -> None:
        """Send messages as they came, under the same identity; raises botocore's errors."""
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for _ in pool.map(self._send, messages):
                pass

    def _send(self, message: QueuedMessage) -> None:
        came_with = {name: _attribute(value) for name, value in message.record_attributes.items()}
        known = message_attributes(message.identity, message.queued_at_ms, message.correlation_id)
        self._sqs.send_message(
            QueueUrl=self._queue_url, MessageBody=message.body, MessageAttributes={**came_with, **known}
        )


def _identity_of(message_id: str) -> int:
    return int.from_bytes(hashlib.sha256(message_id.encode()).digest()[:8], "big") >> (64 - IDENTITY_BITS)


def _read_number(attributes: Mapping[str, Any], name: str, largest: float) -> int | None:
    return _whole_number(attributes.get(name, {}).get("stringValue"), largest)


def _whole_number(text: str | None, largest: float) -> int | None:
    """Return the number that a text is, None for anything else and for one that is too large."""
    number = int(text) if text is not None and _WHOLE_NUMBER.fullmatch(text) else None
    return None if number is None or number > largest else number


def _attribute(shown: Mapping[str, Any]) -> "MessageAttributeValueTypeDef":
    """Return an attribute as it is sent, of what it is shown as to a function."""
    if (binary := shown.get("binaryValue")) is not None:
        return {"DataType": shown["dataType"], "BinaryValue": b64decode(binary)}
    return {"DataType": shown["dataType"], "StringValue": shown["stringValue"]}
