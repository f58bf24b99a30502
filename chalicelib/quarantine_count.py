"""The number of objects in quarantine, and what was brought back from there: counters in the ledger's table.

A marker, written in the counter's own transaction, makes each object count once, however often a try is repeated.
"""

import time
from collections.abc import Callable
from random import uniform
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

COUNTER_IDS = [_SET_ASIDE, _RESTORED] = ["quarantined", "restored"]
# Of the 100 items that a transaction takes, one is the counter.
_MARKERS_MAX = 99
# Nothing is tried again after that long.
_MARKER_SECONDS = 180 * 24 * 3_600
# Transactions that meet on the counter cancel each other; each waits for a part of these that chance decides.
_WAITS_SECONDS_MAX = (0.1, 0.4, 1.2)


class QuarantineFigures(Struct, frozen=True):
    """Objects ever set aside, and how many of them were brought back, with so many rows."""

    objects: int = 0
    restored_objects: int = 0
    restored_rows: int = 0


class QuarantineCount:
    """Counts objects by their name, whichever folder they are in."""

    def __init__(
        self,
        table_name: str,
        dynamodb: "DynamoDBClient",
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._table_name = table_name
        self._dynamodb = dynamodb
        self._clock = clock
        self._sleep = sleep

    def set_aside(self, *keys: str) -> None:
        """Count objects in quarantine, each once; raises TransactionCanceledException when others are in the way."""
        for start in range(0, len(keys), _MARKERS_MAX):
            markers = [f"quarantine/{_name(key)}" for key in keys[start : start + _MARKERS_MAX]]
            self._count_once(markers, _SET_ASIDE, {"object_count": 1})

    def brought_back(self, key: str, rows: int) -> None:
        """Count an object whose good rows were landed again, once; raises as `set_aside` does."""
        self._count_once([f"restored/{_name(key)}"], _RESTORED, {"object_count": 1, "row_count": rows})

    def _count_once(self, marker_ids: list[str], counter: str, amounts: dict[str, int]) -> None:
        """Raise the counter by the amounts for each marker that is not there yet."""
        waits = iter(_WAITS_SECONDS_MAX)
        while marker_ids:
            try:
                self._dynamodb.transact_write_items(TransactItems=self._parts(marker_ids, counter, amounts))
            except self._dynamodb.exceptions.TransactionCanceledException as canceled:
                reasons = canceled.response["CancellationReasons"][: len(marker_ids)]
                pairs = zip(marker_ids, reasons, strict=True)
                uncounted = [one for one, reason in pairs if reason["Code"] != "ConditionalCheckFailed"]
                if len(uncounted) == len(marker_ids):
                    if (wait_seconds_max := next(waits, None)) is None:
                        raise
                    self._sleep(uniform(0.0, wait_seconds_max))
                marker_ids = uncounted
            else:
                return

    def _parts(self, marker_ids: list[str], counter: str, amounts: dict[str, int]) -> "list[TransactWriteItemTypeDef]":
        expires_at = int(self._clock()) + _MARKER_SECONDS
        markers: list[TransactWriteItemTypeDef] = [
            {
                "Put": {
                    "TableName": self._table_name,
                    "Item": {"id": {"S": marker_id}, "expires_at": {"N": str(expires_at)}},
                    "ConditionExpression": "attribute_not_exists(id)",
                }
            }
            for marker_id in marker_ids
        ]
        raised: TransactWriteItemTypeDef = {
            "Update": {
                "TableName": self._table_name,
                "Key": {"id": {"S": counter}},
                "UpdateExpression": "ADD " + ", ".join(f"{name} :{name}" for name in amounts),
                "ExpressionAttributeValues": {
                    f":{name}": {"N": str(amount * len(marker_ids))} for name, amount in amounts.items()
                },
            }
        }
        return [*markers, raised]


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def quarantine_figures(items: dict[str, dict[str, Any]]) -> QuarantineFigures:
    """Return the figures that the counters, COUNTER_IDS, show."""

    def number(counter: str, attribute: str) -> int:
        return int(items[counter][attribute]["N"]) if counter in items else 0

    return QuarantineFigures(
        objects=number(_SET_ASIDE, "object_count"),
        restored_objects=number(_RESTORED, "object_count"),
        restored_rows=number(_RESTORED, "row_count"),
    )
