"""The sensor registry: one record per sensor, whose `broken` goes from false to true and never back."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# About 10 MB of ids; a process that has seen more broken sensors starts to remember anew.
_REMEMBERED_MAX = 100_000


class SensorRegistry:
    """Registers sensors on first sight and latches broken ones, by conditional writes of single rows.

    Broken sensors are remembered for the life of the process, which the one-way latch makes safe;
    working ones never are, since another process may have latched them.
    """

    def __init__(self, table_name: str, dynamodb: "DynamoDBClient") -> None:
        self._table_name = table_name
        self._dynamodb = dynamodb
        self._known_broken: set[str] = set()

    def is_broken(self, sensor_id: str) -> bool:
        """Tell whether the sensor is latched, registering it when it is new; at most two calls."""
        if sensor_id in self._known_broken:
            return True
        broken = self.find(sensor_id)
        if broken is None:
            broken = self._register(sensor_id)
        if broken:
            self._remember(sensor_id)
        return broken

    def find(self, sensor_id: str) -> bool | None:
        """Tell whether the sensor is latched, None when it is unknown; consistent with every finished write."""
        found = self._dynamodb.get_item(
            TableName=self._table_name,
            Key={"sensor_id": {"S": sensor_id}},
            ProjectionExpression="broken",
            ConsistentRead=True,
        )
        return found["Item"]["broken"]["BOOL"] if "Item" in found else None

    def latch(self, sensor_id: str) -> None:
        """Mark the sensor as broken for good; no call when the process knows already."""
        if sensor_id in self._known_broken:
            return
        self._dynamodb.update_item(
            TableName=self._table_name,
            Key={"sensor_id": {"S": sensor_id}},
            UpdateExpression="SET broken = :true",
            ExpressionAttributeValues={":true": {"BOOL": True}},
        )
        self._remember(sensor_id)

    def _register(self, sensor_id: str) -> bool:
        """Write a working sensor unless it is there already; return whether what is there is broken."""
        try:
            self._dynamodb.put_item(
                TableName=self._table_name,
                Item={"sensor_id": {"S": sensor_id}, "broken": {"BOOL": False}},
                ConditionExpression="attribute_not_exists(sensor_id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException as conflict:
            # The stubs do not know of the item that ReturnValuesOnConditionCheckFailure asks for.
            return bool(conflict.response["Item"]["broken"]["BOOL"])  # type: ignore[typeddict-item]
        return False

    def _remember(self, sensor_id: str) -> None:
        if len(self._known_broken) >= _REMEMBERED_MAX:
            self._known_broken.clear()
        self._known_broken.add(sensor_id)
