"""The sensor registry: one row per sensor, by its key, whose `broken` goes from false to true and never back."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from chalicelib.broken_count import BrokenCount
from chalicelib.errors import ServiceUnavailableError
from chalicelib.ingest.registration import SEEN, Refused, Registration, Wish
from chalicelib.ingest.sensors import BROKEN, Sensor, read_row
from chalicelib.ingest.transactions import PARTS_MAX, WAITS_SECONDS_MAX, Transactions

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# About 20 MB of keys; a process that has seen more broken sensors starts to remember anew.
_REMEMBERED_MAX = 100_000
_BATCH_GET_MAX = 100
# One part of a transaction counts the sensors that the others latch.
_LATCHES_MAX = PARTS_MAX - 1


class SensorRegistry:
    """Finds sensors by key, registers them on first sight and latches broken ones, by conditional writes of rows.

    Broken sensors are remembered for the life of the process, which the one-way latch makes safe;
    working ones never are, since another process may have latched them.
    """

    def __init__(
        self,
        table_name: str,
        registration: Registration,
        broken_count: BrokenCount,
        transactions: Transactions,
        dynamodb: "DynamoDBClient",
    ) -> None:
        self._table_name = table_name
        self._registration = registration
        self._broken_count = broken_count
        self._transactions = transactions
        self._dynamodb = dynamodb
        self._known_broken: set[str] = set()

    def see(self, keys: Iterable[str]) -> dict[str, Sensor | Refused]:
        """Return the sensors that readings come from, registering new ones and bringing back retired ones.

        A call for each hundred, none for sensors known to be broken, and the transactions of what is registered.
        Raises ServiceUnavailableError when DynamoDB keeps leaving keys unread.
        """
        asked = set(keys)
        known_broken = asked & self._known_broken
        seen: dict[str, Sensor | Refused] = dict.fromkeys(known_broken, BROKEN)
        rows = self.find_all(asked - known_broken)
        seen.update(rows)
        unregistered = [key for key in asked - known_broken if key not in rows or rows[key].retired]
        if unregistered:
            seen.update(self._registration.fulfil(dict.fromkeys(unregistered, SEEN), rows))
        self._remember(key for key, sensor in seen.items() if isinstance(sensor, Sensor) and sensor.broken)
        return seen

    def change(
        self, wishes: Mapping[str, Wish], rows: Mapping[str, Sensor] | None = None
    ) -> dict[str, Sensor | Refused]:
        """Make sensors what is wished of them; return each as it then is, or why it is not taken.

        `rows` is what `find_all` has found of them, where the caller knows.
        """
        # So that a reading of one that is retired asks, and brings it back.
        self._known_broken.difference_update(wishes)
        return self._registration.fulfil(wishes, self.find_all(wishes) if rows is None else rows)

    def find(self, key: str) -> Sensor | None:
        """Return the sensor, None when it is unknown; consistent with every finished write."""
        found = self._dynamodb.get_item(TableName=self._table_name, Key={"sensor_id": {"S": key}}, ConsistentRead=True)
        return read_row(found["Item"]) if "Item" in found else None

    def find_all(self, keys: Iterable[str]) -> dict[str, Sensor]:
        """Return each known sensor, without the unknown ones."""
        asked = sorted(keys)
        if len(asked) == 1:
            # The batch call could leave its only key unread.
            sensor = self.find(asked[0])
            return {} if sensor is None else {asked[0]: sensor}
        found: dict[str, Sensor] = {}
        for start in range(0, len(asked), _BATCH_GET_MAX):
            found |= self._find_batch(asked[start : start + _BATCH_GET_MAX])
        return found

    def latch_all(self, keys: Iterable[str]) -> None:
        """Mark sensors as broken for good, and count those that were not yet; no call for those known to be broken.

        As few transactions as hold them, so that a repetition after a lost answer finds them latched, and counts
        nothing.
        """
        latching = [key for key in dict.fromkeys(keys) if key not in self._known_broken]
        for start in range(0, len(latching), _LATCHES_MAX):
            some = latching[start : start + _LATCHES_MAX]
            while failed := self._write_latches(some):
                # Others have latched these meanwhile.
                some = [key for place, key in enumerate(some) if place not in failed]
            self._remember(latching[start : start + _LATCHES_MAX])

    def _write_latches(self, keys: list[str]) -> Collection[int]:
        """Latch all sensors or none; return the places of those that are latched already, which is why none is."""
        if not keys:
            return ()
        return self._transactions.write([*map(self._latch, keys), self._broken_count.add(len(keys))])

    def _find_batch(self, keys: list[str]) -> dict[str, Sensor]:
        unread: list[Any] = [{"sensor_id": {"S": key}} for key in keys]
        found: dict[str, Sensor] = {}
        for wait_seconds_max in (*WAITS_SECONDS_MAX, None):
            request: Any = {self._table_name: {"Keys": unread, "ConsistentRead": True}}
            read = self._dynamodb.batch_get_item(RequestItems=request)
            for row in read["Responses"].get(self._table_name, []):
                found[row["sensor_id"]["S"]] = read_row(row)
            left = read["UnprocessedKeys"].get(self._table_name)
            if not left:
                return found
            unread = list(left["Keys"])
            if wait_seconds_max is not None:
                self._transactions.pause(wait_seconds_max)
        raise ServiceUnavailableError(f"the registry left {len(unread)} sensors unread, try again")

    def _latch(self, key: str) -> Any:
        return {
            "Update": {
                "TableName": self._table_name,
                "Key": {"sensor_id": {"S": key}},
                "UpdateExpression": "SET broken = :true",
                "ConditionExpression": "attribute_not_exists(broken) OR broken = :false",
                "ExpressionAttributeValues": {":true": {"BOOL": True}, ":false": {"BOOL": False}},
            }
        }

    def _remember(self, keys: Iterable[str]) -> None:
        for key in keys:
            if len(self._known_broken) >= _REMEMBERED_MAX:
                self._known_broken.clear()
            self._known_broken.add(key)
