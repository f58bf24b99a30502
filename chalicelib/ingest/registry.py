"""The sensor registry: one record per sensor, whose `broken` goes from false to true and never back."""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from chalicelib.broken_count import BrokenCount
from chalicelib.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# About 10 MB of ids; a process that has seen more broken sensors starts to remember anew.
_REMEMBERED_MAX = 100_000
_BATCH_GET_MAX = 100
_TRANSACTION_MAX = 100
# DynamoDB leaves keys unprocessed when it is throttled, and cancels transactions that meet on one item; together the
# waits stay below a second.
_WAITS_SECONDS = (0.05, 0.2, 0.5)


class SensorRegistry:
    """Registers sensors on first sight and latches broken ones, by conditional writes of single rows.

    Broken sensors are remembered for the life of the process, which the one-way latch makes safe;
    working ones never are, since another process may have latched them.
    """

    def __init__(
        self,
        table_name: str,
        broken_count: BrokenCount,
        dynamodb: "DynamoDBClient",
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._table_name = table_name
        self._broken_count = broken_count
        self._dynamodb = dynamodb
        self._sleep = sleep
        self._known_broken: set[str] = set()

    def broken_among(self, sensor_ids: Iterable[str]) -> set[str]:
        """Return the sensors that are latched, registering the new ones: a call for each hundred, two with new ones.

        Raises ServiceUnavailableError when DynamoDB keeps leaving keys unread.
        """
        asked = set(sensor_ids)
        known_broken = asked & self._known_broken
        unknown = sorted(asked - known_broken)
        found = self._find_all(unknown)
        newly_known = {sensor_id for sensor_id, broken in found.items() if broken}
        newly_known |= self._register_all([sensor_id for sensor_id in unknown if sensor_id not in found])
        for sensor_id in newly_known:
            self._remember(sensor_id)
        return known_broken | newly_known

    def find(self, sensor_id: str) -> bool | None:
        """Return whether the sensor is latched, None when it is unknown; consistent with every finished write."""
        found = self._dynamodb.get_item(
            TableName=self._table_name,
            Key={"sensor_id": {"S": sensor_id}},
            ProjectionExpression="broken",
            ConsistentRead=True,
        )
        return found["Item"]["broken"]["BOOL"] if "Item" in found else None

    def _find_all(self, sensor_ids: list[str]) -> dict[str, bool]:
        """Return whether each known sensor is latched, without the unknown ones."""
        if len(sensor_ids) == 1:
            # The batch call could leave its only key unread.
            broken = self.find(sensor_ids[0])
            return {} if broken is None else {sensor_ids[0]: broken}
        found: dict[str, bool] = {}
        for start in range(0, len(sensor_ids), _BATCH_GET_MAX):
            found |= self._find_batch(sensor_ids[start : start + _BATCH_GET_MAX])
        return found

    def _find_batch(self, sensor_ids: list[str]) -> dict[str, bool]:
        unread: list[Any] = [{"sensor_id": {"S": sensor_id}} for sensor_id in sensor_ids]
        found: dict[str, bool] = {}
        for wait_seconds in (*_WAITS_SECONDS, None):
            read = self._dynamodb.batch_get_item(
                RequestItems={
                    self._table_name: {
                        "Keys": unread,
                        "ProjectionExpression": "sensor_id, broken",
                        "ConsistentRead": True,
                    }
                }
            )
            for item in read["Responses"].get(self._table_name, []):
                found[item["sensor_id"]["S"]] = item["broken"]["BOOL"]
            left = read["UnprocessedKeys"].get(self._table_name)
            if not left:
                return found
            unread = list(left["Keys"])
            if wait_seconds is not None:
                self._sleep(wait_seconds)
        raise ServiceUnavailableError(f"the registry left {len(unread)} sensors unread, try again")

    def latch_all(self, sensor_ids: Iterable[str]) -> None:
        """Latch several sensors. Those that are latched already are read first, a call for each hundred.

        So every repetition of a request that had too little time for all of them gets further.
        """
        unknown = [sensor_id for sensor_id in dict.fromkeys(sensor_ids) if sensor_id not in self._known_broken]
        found = self._find_all(unknown) if len(unknown) > 1 else {}
        for sensor_id in unknown:
            if found.get(sensor_id):
                self._remember(sensor_id)
            else:
                self.latch(sensor_id)

    def latch(self, sensor_id: str) -> None:
        """Mark the sensor as broken for good, and count it if it was not yet; no call when the process knows already.

        One transaction, so that a repetition after a lost answer finds it latched, and counts nothing.
        """
        if sensor_id in self._known_broken:
            return
        try:
            self._write_unhindered(lambda: self._latch_and_count(sensor_id))
        except self._dynamodb.exceptions.TransactionCanceledException as canceled:
            # One reason for each part, the latch first.
            if canceled.response["CancellationReasons"][0]["Code"] != "ConditionalCheckFailed":
                raise
        self._remember(sensor_id)

    def _write_unhindered(self, write: Callable[[], object]) -> None:
        """Write, and again after growing waits while a transaction of somebody else is on the same item."""
        for wait_seconds in _WAITS_SECONDS:
            try:
                write()
            except ClientError as error:
                if not _is_hindered(error):
                    raise
                self._sleep(wait_seconds)
            else:
                return
        write()

    def _latch_and_count(self, sensor_id: str) -> None:
        self._dynamodb.transact_write_items(
            TransactItems=[
                {
                    "Update": {
                        "TableName": self._table_name,
                        "Key": {"sensor_id": {"S": sensor_id}},
                        "UpdateExpression": "SET broken = :true",
                        "ConditionExpression": "attribute_not_exists(broken) OR broken = :false",
                        "ExpressionAttributeValues": {":true": {"BOOL": True}, ":false": {"BOOL": False}},
                    }
                },
                self._broken_count.increment(sensor_id),
            ]
        )

    def _register_all(self, sensor_ids: list[str]) -> set[str]:
        """Register the sensors unless they are there already; return those that are, and broken."""
        broken: set[str] = set()
        for start in range(0, len(sensor_ids), _TRANSACTION_MAX):
            broken |= self._register_together(sensor_ids[start : start + _TRANSACTION_MAX])
        return broken

    def _register_together(self, sensor_ids: list[str]) -> set[str]:
        if len(sensor_ids) > 1:
            try:
                self._dynamodb.transact_write_items(
                    TransactItems=[{"Put": self._registration(sensor_id)} for sensor_id in sensor_ids]
                )
                return set()
            except self._dynamodb.exceptions.TransactionCanceledException:
                # Others are registering some of them just now.
                pass
        return {sensor_id for sensor_id in sensor_ids if self._register(sensor_id)}

    def _registration(self, sensor_id: str) -> Any:
        return {
            "TableName": self._table_name,
            "Item": {"sensor_id": {"S": sensor_id}, "broken": {"BOOL": False}},
            "ConditionExpression": "attribute_not_exists(sensor_id)",
        }

    def _register(self, sensor_id: str) -> bool:
        """Write a working sensor unless it is there already; return whether what is there is broken."""
        registration = {**self._registration(sensor_id), "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        try:
            self._write_unhindered(lambda: self._dynamodb.put_item(**registration))
        except self._dynamodb.exceptions.ConditionalCheckFailedException as conflict:
            # The stubs do not know of the item that ReturnValuesOnConditionCheckFailure asks for.
            return bool(conflict.response["Item"]["broken"]["BOOL"])  # type: ignore[typeddict-item]
        return False

    def _remember(self, sensor_id: str) -> None:
        if len(self._known_broken) >= _REMEMBERED_MAX:
            self._known_broken.clear()
        self._known_broken.add(sensor_id)


def _is_hindered(error: ClientError) -> bool:
    """Return whether a write, or a part of a transaction, met another transaction."""
    reasons = [reason["Code"] for reason in error.response.get("CancellationReasons", [])]
    return "TransactionConflict" in reasons or error.response["Error"]["Code"] == "TransactionConflictException"
