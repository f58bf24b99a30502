"""Dead letters are reported, sent back or set aside, and none is lost on the way."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from chalicelib.ingest.buffering import quarantine_key
from chalicelib.ingest.queue_messages import message_attributes, read_record
from chalicelib.quarantine_count import QuarantineCount, quarantine_figures
from ops import dead_letter_triage as function
from tests.factories import message as consumed
from tests.factories import record

GOOD = '[{"sensor_id":"1"}]'
NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)


class Account:
    """An account with the queues and the bucket, and what is in them."""

    def __init__(self) -> None:
        self.sqs = boto3.client("sqs", region_name="us-east-1")
        self.s3 = boto3.client("s3", region_name="us-east-1")
        self.s3.create_bucket(Bucket="data")
        self.queue_url, self.dead_letters_url = (
            self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("measurements", "dead-letters")
        )
        self.dynamodb = boto3.client("dynamodb", region_name="us-east-1")
        self.dynamodb.create_table(
            TableName="runs",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.resources = function.Resources(self.dead_letters_url, self.queue_url, "data", "runs")

    def bury(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.dead_letters_url, MessageBody=body)

    def triage(self, action: str, limit: int = 100, sqs: Any = None) -> Any:
        triage = function.Triage(self.resources, sqs or self.sqs, self.s3, self.dynamodb, lambda: NOW)
        return triage.run(action, limit, lambda: 300_000)

    def bodies(self, queue_url: str) -> list[str]:
        found: list[str] = []
        while messages := self.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
            found += [message["Body"] for message in messages]
        return sorted(found)

    def message_ids(self) -> dict[str, str]:
        """Return the ids of the dead letters by their bodies, and leave them to be had."""
        asked = {"MaxNumberOfMessages": 10, "VisibilityTimeout": 0}
        answer = self.sqs.receive_message(QueueUrl=self.dead_letters_url, **asked)
        return {message["Body"]: message["MessageId"] for message in answer["Messages"]}

    def keys(self) -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket="data").get("Contents", [])]

    def counted(self) -> int:
        items = self.dynamodb.scan(TableName="runs", ConsistentRead=True)["Items"]
        return quarantine_figures({item["id"]["S"]: item for item in items}).objects

    def set_aside(self) -> list[dict[str, Any]]:
        listed = self.s3.list_objects_v2(Bucket="data").get("Contents", [])
        assert all(item["Key"].startswith("quarantine/") for item in listed)
        return [json.loads(self.s3.get_object(Bucket="data", Key=item["Key"])["Body"].read()) for item in listed]


class Unwilling:
    """An SQS client of which one call fails for some messages."""

    def __init__(self, sqs: Any, call: str, failures: int) -> None:
        self._sqs = sqs
        self._call = call
        self._failures = failures

    def __getattr__(self, name: str) -> Any:
        if name == self._call and self._failures:
            self._failures -= 1
            return self._fail
        return getattr(self._sqs, name)

    def _fail(self, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "InternalError", "Message": "try again"}}, self._call)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield Account()


def test_a_report_counts_by_reason_and_leaves_every_message_to_be_had(account: Account) -> None:
    account.bury(GOOD, "rubbish", "{}", "[1]", *["more rubbish"] * 20)
    report = account.triage("report")
    assert (report.examined, report.moved, report.failed, report.remaining) == (24, 0, 0, 24)
    assert dict(report.reasons) == {
        "looks like measurements: the consumer failed": 1,
        "not JSON": 21,
        "not a list of measurements": 1,
        "a list of other things than measurements": 1,
    }
    assert len(account.bodies(account.dead_letters_url)) == 24


def test_redriven_messages_are_in_the_queue_as_they_were(account: Account) -> None:
    attributes: Any = {
        **message_attributes(2**63 - 1, 1_772_366_400_000, "request-1"),
        "trace": {"DataType": "Binary.trace", "BinaryValue": b"\x00\xff"},
    }
    account.sqs.send_message(QueueUrl=account.dead_letters_url, MessageBody=GOOD, MessageAttributes=attributes)
    report = account.triage("redrive")
    assert (report.examined, report.moved, report.remaining) == (1, 1, 0)
    (message,) = account.sqs.receive_message(QueueUrl=account.queue_url, MessageAttributeNames=["All"])["Messages"]
    assert message["Body"] == GOOD
    assert message["MessageAttributes"] == attributes
    assert "identity" in attributes


def test_a_message_that_was_dead_for_days_is_redriven_as_the_one_that_it_was(account: Account) -> None:
    attributes = message_attributes(5, 1_772_366_400_000, None)
    account.sqs.send_message(QueueUrl=account.dead_letters_url, MessageBody=GOOD, MessageAttributes=attributes)
    account.triage("redrive")
    (message,) = account.sqs.receive_message(
        QueueUrl=account.queue_url, MessageAttributeNames=["All"], AttributeNames=["SentTimestamp"]
    )["Messages"]
    eight_days_later = int(message["Attributes"]["SentTimestamp"]) + 8 * 86_400_000
    texts = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    again = read_record(record(message["Body"], message["MessageId"], eight_days_later, **texts))
    assert (again.identity, again.queued_at_ms) == (5, 1_772_366_400_000)


def test_what_is_set_aside_has_the_name_that_the_consumer_gives_it(account: Account) -> None:
    """So that an object that both write is one, whatever message ids its deliveries had."""
    account.sqs.send_message(
        QueueUrl=account.dead_letters_url,
        MessageBody="rubbish",
        MessageAttributes=message_attributes(5, None, None) | {"trace": {"DataType": "String", "StringValue": "t"}},
    )
    account.bury("more rubbish")
    message_ids = account.message_ids()
    account.triage("quarantine")
    letters = [consumed("rubbish", identity=5), consumed("more rubbish", message_ids["more rubbish"])]
    assert account.keys() == sorted(map(quarantine_key, letters))


@pytest.mark.parametrize("text", ["", "-1", "1.5", "five", "9" * 19, "1" * 38])
def test_an_identity_that_is_none_is_that_of_the_message_id_here_as_at_the_consumer(text: str) -> None:
    shown = {"MessageId": "m1", "MessageAttributes": {"identity": {"DataType": "String", "StringValue": text}}}
    assert function.identity_of(shown) == read_record(record("[]", "m1", identity=text)).identity


def test_what_is_set_aside_is_in_quarantine_with_the_reason(account: Account) -> None:
    account.bury("rubbish")
    report = account.triage("quarantine")
    assert (report.moved, report.remaining) == (1, 0)
    (content,) = account.set_aside()
    assert content["body"] == "rubbish"
    assert content["reasons"] == ["dead letter: not JSON"]
    assert content["quarantined_at"] == "2026-01-31T09:00:00.000Z"


def test_no_more_messages_are_taken_than_the_limit_says(account: Account) -> None:
    account.bury(*(f"{number}" for number in range(15)))
    report = account.triage("redrive", limit=12)
    assert (report.examined, report.moved, report.remaining) == (12, 12, 3)


def test_a_message_that_cannot_be_sent_stays_and_the_others_go(account: Account) -> None:
    account.bury(*(f"{number}" for number in range(5)))
    report = account.triage("redrive", sqs=Unwilling(account.sqs, "send_message", 2))
    assert (report.moved, report.failed, report.remaining) == (3, 2, 2)
    assert len(account.bodies(account.queue_url)) == 3


def test_a_message_that_cannot_be_deleted_is_in_both_places_and_not_in_none(account: Account) -> None:
    account.bury(GOOD)
    report = account.triage("quarantine", sqs=Unwilling(account.sqs, "delete_message", 1))
    assert (report.moved, report.failed, report.remaining) == (0, 1, 1)
    assert (len(account.set_aside()), account.counted()) == (1, 1)


def test_what_is_set_aside_counts_once_whoever_did_it_how_often(account: Account) -> None:
    account.bury("rubbish", "more rubbish")
    account.triage("quarantine", sqs=Unwilling(account.sqs, "delete_message", 2))
    assert account.counted() == 2
    QuarantineCount("runs", account.dynamodb).set_aside(*account.keys())
    assert account.counted() == 2
    counted_by_the_application = "quarantine/0000000000000005-of-the-consumer.json"
    QuarantineCount("runs", account.dynamodb).set_aside(counted_by_the_application)
    triage = function.Triage(account.resources, account.sqs, account.s3, account.dynamodb, lambda: NOW)
    triage._count_once(counted_by_the_application)
    assert account.counted() == 3


def test_a_message_that_cannot_be_counted_stays_a_dead_letter(account: Account) -> None:
    account.bury("rubbish")
    account.dynamodb.delete_table(TableName="runs")
    report = account.triage("quarantine")
    assert (report.moved, report.failed, report.remaining) == (0, 1, 1)


def test_no_message_is_taken_when_the_time_is_nearly_up(account: Account) -> None:
    account.bury(GOOD)
    triage = function.Triage(account.resources, account.sqs, account.s3, account.dynamodb, lambda: NOW)
    assert triage.run("redrive", 10, lambda: 5_000).examined == 0


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (None, "action"),
        ({}, "action"),
        ({"action": "delete"}, "action"),
        ({"action": "redrive", "limit": 0}, "limit"),
        ({"action": "redrive", "limit": True}, "limit"),
        ({"action": "redrive", "limit": "10"}, "limit"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_by_name(event: Any, complaint: str) -> None:
    with pytest.raises(function.TriageError, match=f"^{complaint}: "):
        function.parse_request(event)


def test_without_a_limit_a_thousand_messages_are_taken() -> None:
    assert function.parse_request({"action": "report"}) == ("report", 1_000)
