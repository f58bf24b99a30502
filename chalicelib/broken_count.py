"""The number of sensors ever latched as broken: counters that each latch raises in its own transaction."""

from collections.abc import Callable
from random import randrange
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

# Transactions on one item exclude each other, and a cut cable breaks many sensors at once. A constant of the data:
# fewer of them later would leave some unread.
_COUNTERS = 16
COUNTER_IDS = [f"broken-sensors-{number}" for number in range(_COUNTERS)]


class BrokenCount:
    """Counts latched sensors in the ledger's table, since the registry holds sensors and nothing else."""

    def __init__(self, table_name: str, choose: Callable[[int], int] = randrange) -> None:
        self._table_name = table_name
        # By chance, so that nobody's choice of ids makes one of them crowded for others.
        self._choose = choose

    def add(self, number: int) -> "TransactWriteItemTypeDef":
        """Return the part of a transaction that counts so many sensors that it latches."""
        return {
            "Update": {
                "TableName": self._table_name,
                "Key": {"id": {"S": COUNTER_IDS[self._choose(_COUNTERS)]}},
                "UpdateExpression": "ADD sensors :number",
                "ExpressionAttributeValues": {":number": {"N": str(number)}},
            }
        }


def broken_sensors(items: dict[str, dict[str, Any]]) -> int:
    """Return the number of sensors whose latch is finished, given the counters, COUNTER_IDS."""
    return sum(int(items[one]["sensors"]["N"]) for one in COUNTER_IDS if one in items)
