"""Alerts about unexpected readings: at most one per sensor and status in a cooldown, never in a reading's way."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.readings import Answer
from chalicelib.settings import AlertSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sns import SNSClient

logger = logging.getLogger(__name__)

_REMEMBERED_MAX = 100_000


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

    def consider(self, answer: Answer, resistance_ohm: float) -> None:
        """Alert about the answer when its status asks for it; failures are logged and go no further."""
        if answer.status not in self._settings.statuses:
            return
        claim = f"alert#{answer.sensor_id}#{answer.status}"
        now = self._clock()
        if self._quiet_until.get(claim, 0.0) > now:
            return
        try:
            is_ours, quiet_until = self._claim(claim, now)
            if is_ours:
                self._publish(claim, answer, resistance_ohm)
            self._remember(claim, quiet_until)
        except (BotoCoreError, ClientError):
            logger.exception("alert not sent; the sensor's next reading of this status tries again")

    def _claim(self, claim: str, now: float) -> tuple[bool, float]:
        """Take the sensor's cooldown unless another process has it; return whether it is ours, and its end."""
        end = int(now) + self._settings.cooldown_seconds
        try:
            self._dynamodb.put_item(
                TableName=self._claims_table,
                Item={
                    "id": {"S": claim},
                    "expiration": {"N": str(end)},
                },
                ConditionExpression="attribute_not_exists(id) OR expiration <= :now",
                ExpressionAttributeValues={":now": {"N": str(int(now))}},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException as conflict:
            # The stubs do not know of the item that ReturnValuesOnConditionCheckFailure asks for.
            return False, float(conflict.response["Item"]["expiration"]["N"])  # type: ignore[typeddict-item]
        return True, end

    def _publish(self, claim: str, answer: Answer, resistance_ohm: float) -> None:
        message = {**msgspec.to_builtins(answer), "value": resistance_ohm}
        try:
            self._sns.publish(
                TopicArn=self._topic_arn,
                Subject=f"Sensor {answer.sensor_id}: {answer.status}",
                Message=msgspec.json.encode(message).decode(),
                MessageAttributes={"status": {"DataType": "String", "StringValue": answer.status}},
            )
        except (BotoCoreError, ClientError):
            # Give the claim back, or a topic that fails once would silence the sensor for the whole cooldown.
            self._dynamodb.delete_item(TableName=self._claims_table, Key={"id": {"S": claim}})
            raise

    def _remember(self, claim: str, quiet_until: float) -> None:
        if len(self._quiet_until) >= _REMEMBERED_MAX:
            self._quiet_until.clear()
        self._quiet_until[claim] = quiet_until
