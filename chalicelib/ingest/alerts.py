"""Alerts about unexpected readings: at most one per sensor and status in a cooldown, never in a reading's way."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct

from chalicelib.fields import sensor_key
from chalicelib.ingest.readings import Answer
from chalicelib.settings import AlertSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sns import SNSClient

logger = logging.getLogger(__name__)

_REMEMBERED_MAX = 100_000
# Each claim is a call that the request waits for.
_ALERTS_PER_REQUEST = 20
# While claims are slow, the request needs what time is left for its own end.
_CLAIMING_SECONDS_MAX = 2.0
_PUBLISH_BATCH_MAX = 10
# SNS takes no longer subject; the message has all of it.
_SUBJECT_MAX = 100


class _Alert(Struct, frozen=True):
    """An alert, and the name under which its cooldown is claimed."""

    claim: str
    answer: Answer
    resistance_ohm: float

    def message(self) -> dict[str, Any]:
        """Write the alert as SNS takes it."""
        content = {**msgspec.to_builtins(self.answer), "value": self.resistance_ohm}
        return {
            "Subject": f"{self.answer.status}: sensor {self.answer.sensor_id} at {self.answer.location_id}"[
                :_SUBJECT_MAX
            ],
            "Message": msgspec.json.encode(content).decode(),
            "MessageAttributes": {"status": {"DataType": "String", "StringValue": str(self.answer.status)}},
        }


class Alerts:
    """Publishes to an SNS topic, and claims a sensor's cooldown in the idempotency table before it does.

    The claim stops other processes; a memory of the process' own claims saves asking again.
    """

    def __init__(
        self,
        settings: AlertSettings,
        topic_arn: str,
        claims_table: str,
        sns: "SNSClient",
        dynamodb: "DynamoDBClient",
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._topic_arn = topic_arn
        self._claims_table = claims_table
        self._sns = sns
        self._dynamodb = dynamodb
        self._clock = clock
        self._quiet_until: dict[str, float] = {}

    def consider(self, answers: Sequence[tuple[Answer, float]]) -> None:
        """Alert about a request's answers, each with its resistance in ohm, when their status asks for it.

        Failures are logged and go no further. More than fit a request are left to the sensors' next readings.
        """
        now = self._clock()
        due = self._due(answers, now)
        if len(due) > _ALERTS_PER_REQUEST:
            logger.warning("%d alerts put off: too many in one request", len(due) - _ALERTS_PER_REQUEST)
        try:
            self._send(due[:_ALERTS_PER_REQUEST], now)
        except (BotoCoreError, ClientError):
            logger.exception("alerts not claimed; the sensors' next readings of these statuses try again")

    def _due(self, answers: Sequence[tuple[Answer, float]], now: float) -> list[_Alert]:
        """Return the first alert of each claim that this process does not know to be taken."""
        due: dict[str, _Alert] = {}
        for answer, resistance_ohm in answers:
            if answer.status in self._settings.statuses:
                claim = f"alert#{sensor_key(answer.location_id, answer.sensor_id)}#{answer.status}"
                if self._quiet_until.get(claim, 0.0) <= now:
                    due.setdefault(claim, _Alert(claim, answer, resistance_ohm))
        return list(due.values())

    def _send(self, due: Sequence[_Alert], now: float) -> None:
        ours: list[_Alert] = []
        try:
            for alert in due:
                if self._clock() - now > _CLAIMING_SECONDS_MAX:
                    break
                if self._claim(alert.claim, now):
                    ours.append(alert)
        finally:
            batches = [ours[start : start + _PUBLISH_BATCH_MAX] for start in range(0, len(ours), _PUBLISH_BATCH_MAX)]
            # A topic that fails once would silence the sensors for the whole cooldown.
            for alert in [refused for batch in batches for refused in self._publish(batch)]:
                self._give_back(alert.claim)

    def _claim(self, claim: str, now: float) -> bool:
        """Take the sensor's cooldown unless another process has it; return whether it is ours, and remember its end."""
        end = int(now) + self._settings.cooldown_seconds
        try:
            self._dynamodb.put_item(
                TableName=self._claims_table,
                Item={"id": {"S": claim}, "expiration": {"N": str(end)}},
                ConditionExpression="attribute_not_exists(id) OR expiration <= :now",
                ExpressionAttributeValues={":now": {"N": str(int(now))}},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException as conflict:
            # The stubs do not know of the item that ReturnValuesOnConditionCheckFailure asks for.
            self._remember(claim, float(conflict.response["Item"]["expiration"]["N"]))  # type: ignore[typeddict-item]
            return False
        self._remember(claim, end)
        return True

    def _publish(self, alerts: Sequence[_Alert]) -> Sequence[_Alert]:
        """Publish a batch and return the alerts that SNS did not take."""
        entries: Any = [{"Id": str(index), **alert.message()} for index, alert in enumerate(alerts)]
        try:
            answer = self._sns.publish_batch(TopicArn=self._topic_arn, PublishBatchRequestEntries=entries)
        except (BotoCoreError, ClientError):
            logger.exception("%d alerts not sent; the sensors' next readings of these statuses try again", len(alerts))
            return alerts
        failed = answer.get("Failed", [])
        if failed:
            logger.error("%d alerts not taken: %s", len(failed), failed[0]["Code"])
        return [alerts[int(entry["Id"])] for entry in failed]

    def _give_back(self, claim: str) -> None:
        self._quiet_until.pop(claim, None)
        try:
            self._dynamodb.delete_item(TableName=self._claims_table, Key={"id": {"S": claim}})
        except (BotoCoreError, ClientError):
            logger.exception("%s stays quiet until its cooldown ends", claim)

    def _remember(self, claim: str, quiet_until: float) -> None:
        if len(self._quiet_until) >= _REMEMBERED_MAX:
            self._quiet_until.clear()
        self._quiet_until[claim] = quiet_until
