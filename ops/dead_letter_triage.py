"""Deals with dead letters on demand: tells what they are, sends them back to the queue, or sets them aside.

Called as {"action": "report" | "redrive" | "quarantine", "limit": 1000}. A message is deleted only after it has
arrived elsewhere, so an interruption may leave it in both, and never in none.
"""

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

logger = logging.getLogger("dead_letter_triage")
# Lambda's own handler shows warnings only.
logger.setLevel(logging.INFO)

_ACTIONS = ("report", "redrive", "quarantine")
_LIMIT_MAX = 100_000
_RECEIVED_AT_ONCE = 10
# Received messages stay invisible this long, so that one call does not meet a message twice.
_INVISIBLE_SECONDS = 320
# What is left of a call's time when it stops to take more messages.
_RESERVE_MS = 10_000
# How long an object that was set aside is known as counted: no message is half as old.
_MARKER_SECONDS = 180 * 24 * 3_600


class TriageError(Exception):
    """The request is not one that this function knows. Trying again does not help."""


@dataclass(frozen=True)
class Resources:
    """The queues and the bucket: where dead letters are, and where they can go; and the table where that is counted."""

    dead_letter_queue_url: str
    queue_url: str
    bucket: str
    ledger_table: str


@dataclass
class Report:
    """The result of a call: messages examined and moved, those that could not be, and why they were dead letters."""

    action: str
    examined: int = 0
    moved: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    remaining: int = 0


class Triage:
    """Works through a dead-letter queue; `new_time` tells the time, clients are boto3's."""

    def __init__(
        self, resources: Resources, sqs: Any, s3: Any, dynamodb: Any, new_time: Callable[[], datetime]
    ) -> None:
        self._resources = resources
        self._sqs = sqs
        self._s3 = s3
        self._dynamodb = dynamodb
        self._new_time = new_time

    def run(self, action: str, limit: int, remaining_ms: Callable[[], int]) -> Report:
        """Take up to `limit` messages through the action; ends early when the time does or the queue is empty."""
        report = Report(action)
        kept: list[str] = []
        while report.examined < limit and remaining_ms() > _RESERVE_MS:
            messages = self._receive(min(limit - report.examined, _RECEIVED_AT_ONCE))
            if not messages:
                break
            for message in messages:
                reason = describe(message["Body"])
                report.examined += 1
                report.reasons[reason] += 1
                if action == "report":
                    kept.append(message["ReceiptHandle"])
                elif self._move(action, message, reason):
                    report.moved += 1
                else:
                    report.failed += 1
        # Only now, or this call would meet them again.
        self._let_go(kept)
        report.remaining = self._count()
        return report

    def _receive(self, count: int) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._resources.dead_letter_queue_url,
            MaxNumberOfMessages=count,
            VisibilityTimeout=_INVISIBLE_SECONDS,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _move(self, action: str, message: dict[str, Any], reason: str) -> bool:
        """Bring a message to where it shall be, then delete it here; False when that failed."""
        try:
            if action == "redrive":
                self._send_back(message)
            else:
                self._set_aside(message, reason)
            self._sqs.delete_message(
                QueueUrl=self._resources.dead_letter_queue_url, ReceiptHandle=message["ReceiptHandle"]
            )
        except (BotoCoreError, ClientError):
            # It is still where it was, and the others may fare better.
            logger.exception("message %s was not moved", message["MessageId"])
            return False
        return True

    def _send_back(self, message: dict[str, Any]) -> None:
        attributes = {
            name: {key: value for key, value in attribute.items() if key in {"DataType", "StringValue", "BinaryValue"}}
            for name, attribute in message.get("MessageAttributes", {}).items()
        }
        self._sqs.send_message(
            QueueUrl=self._resources.queue_url, MessageBody=message["Body"], MessageAttributes=attributes
        )

    def _set_aside(self, message: dict[str, Any], reason: str) -> None:
        """Write the message as the queue's consumer does, under a key that follows from it."""
        digest = hashlib.sha256(message["Body"].encode("utf-8", "surrogatepass")).hexdigest()[:16]
        content = {
            "message_id": message["MessageId"],
            "reasons": [f"dead letter: {reason}"],
            "body": message["Body"].encode("utf-8", "backslashreplace").decode(),
            "quarantined_at": self._new_time()
            .astimezone(UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
        }
        key = f"quarantine/{identity_of(message):016x}-{digest}.json"
        self._s3.put_object(Bucket=self._resources.bucket, Key=key, Body=json.dumps(content).encode())
        self._count_once(key)

    def _count_once(self, key: str) -> None:
        """Count an object in quarantine as the application does, which this function is deployed without."""
        table, expires_at = self._resources.ledger_table, int(self._new_time().timestamp()) + _MARKER_SECONDS
        marker = {"id": {"S": key}, "expires_at": {"N": str(expires_at)}}
        counter = {
            "Key": {"id": {"S": "quarantined"}},
            "UpdateExpression": "ADD object_count :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
        try:
            self._dynamodb.transact_write_items(
                TransactItems=[
                    {"Put": {"TableName": table, "Item": marker, "ConditionExpression": "attribute_not_exists(id)"}},
                    {"Update": {"TableName": table, **counter}},
                ]
            )
        except self._dynamodb.exceptions.TransactionCanceledException as canceled:
            if canceled.response["CancellationReasons"][0]["Code"] != "ConditionalCheckFailed":
                raise

    def _let_go(self, receipt_handles: list[str]) -> None:
        for receipt_handle in receipt_handles:
            self._sqs.change_message_visibility(
                QueueUrl=self._resources.dead_letter_queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=0
            )

    def _count(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._resources.dead_letter_queue_url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)


def identity_of(message: dict[str, Any]) -> int:
    """Return the identity (63 bits) by which the consumer knows the message, whatever its message id is by now."""
    text = message.get("MessageAttributes", {}).get("identity", {}).get("StringValue", "")
    if re.fullmatch(r"[0-9]{1,19}", text) and int(text) < 2**63:
        return int(text)
    return int.from_bytes(hashlib.sha256(message["MessageId"].encode()).digest()[:8], "big") >> 1


def describe(body: str) -> str:
    """Tell in a few words what a dead letter is."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(content, list):
        return "not a list of measurements"
    if not all(isinstance(item, dict) for item in content):
        return "a list of other things than measurements"
    return "looks like measurements: the consumer failed"


def parse_request(event: Any) -> tuple[str, int]:
    """Return the action and the limit that are asked for; raises TriageError."""
    if not isinstance(event, dict) or event.get("action") not in _ACTIONS:
        raise TriageError(f"action: must be one of {', '.join(_ACTIONS)}")
    limit = event.get("limit", 1_000)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= _LIMIT_MAX:
        raise TriageError(f"limit: must be a whole number from 1 to {_LIMIT_MAX}")
    return event["action"], limit


def handle(event: Any, context: Any) -> dict[str, Any]:
    """Do what the event asks for and return the report of it; raises TriageError."""
    action, limit = parse_request(event)
    report = _triage().run(action, limit, context.get_remaining_time_in_millis)
    answer = asdict(report) | {"reasons": dict(report.reasons)}
    logger.info("dead letters dealt with: %s", json.dumps(answer))
    return answer


@cache
def _triage() -> Triage:
    sqs, s3, dynamodb = (boto3.client(service) for service in ("sqs", "s3", "dynamodb"))
    return Triage(read_resources(os.environ), sqs, s3, dynamodb, lambda: datetime.now(UTC))


def read_resources(environment: Mapping[str, str]) -> Resources:
    """Read the names of the resources from the variables that Terraform sets."""
    names = ("DEAD_LETTER_QUEUE_URL", "QUEUE_URL", "BUCKET", "LEDGER_TABLE")
    return Resources(*(environment[name] for name in names))
