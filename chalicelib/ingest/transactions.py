"""Transactions of DynamoDB: written as a whole, or not at all and with what stood in the way."""

import time
from collections.abc import Callable, Sequence
from random import uniform
from typing import TYPE_CHECKING, cast

from chalicelib.ingest.sensors import Row

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

PARTS_MAX = 100
# Transactions that meet on one item cancel each other, and keys are left unread when a table is throttled. Each wait
# is drawn between 0 and its figure, so that those who met do not meet again; together they stay below two seconds.
WAITS_SECONDS_MAX = (0.1, 0.4, 1.2)
_HINDRANCES = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}


class Transactions:
    """Writes transactions, again after growing waits while somebody else's is in the way."""

    def __init__(
        self,
        dynamodb: "DynamoDBClient",
        sleep: Callable[[float], object] = time.sleep,
        draw: Callable[[float, float], float] = uniform,
    ) -> None:
        self._dynamodb = dynamodb
        self._sleep = sleep
        self._draw = draw

    def pause(self, seconds_max: float) -> None:
        """Wait for a part of the time that chance decides."""
        self._sleep(self._draw(0.0, seconds_max))

    def write(self, parts: Sequence["TransactWriteItemTypeDef"]) -> dict[int, Row | None]:
        """Write all parts, at most 100, or none.

        Returns {} when they are written; else, for each part whose condition failed, by its place, the row that it
        found, None for no row. Raises TransactionCanceledException when others are in the way for too long.
        """
        for wait_seconds_max in (*WAITS_SECONDS_MAX, None):
            try:
                self._dynamodb.transact_write_items(TransactItems=parts)
            except self._dynamodb.exceptions.TransactionCanceledException as canceled:
                reasons = canceled.response["CancellationReasons"]
                failed: dict[int, Row | None] = {
                    place: cast("Row | None", reason.get("Item"))
                    for place, reason in enumerate(reasons)
                    if reason["Code"] == "ConditionalCheckFailed"
                }
                if failed:
                    return failed
                if wait_seconds_max is None or _HINDRANCES.isdisjoint(reason["Code"] for reason in reasons):
                    raise
                self.pause(wait_seconds_max)
            else:
                break
        return {}
