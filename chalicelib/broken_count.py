"""The number of sensors ever latched as broken: counters that each latch raises in its own transaction."""

from collections.abc import Callable
from random import randrange
from typing import TYPE_CHECKING

from chalicelib.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

# Transactions on one item exclude each other, and a cut cable breaks many sensors at once. A constant of the data:
# fewer of them later would leave some unread.
_COUNTERS = 16
_PREFIX = "broken-sensors-"


class BrokenCount:
    """Counts latched sensors in the ledger's table, since the registry holds sensors and nothing else."""

    def __init__(self, table_name: str, dynamodb: "DynamoDBClient", choose: Callable[[int], int] = randrange) -> None:
        self._table_name = table_name
        self._dynamodb = dynamodb
        # By chance, so that nobody's choice of ids makes one of them crowded for others.
        self._choose = choose

    def add(self, number: int) -> "TransactWriteItemTypeDef":
        """Return the part of a transaction that counts so many sensors that it latches."""
        return {
            "Update": {
                "TableName": self._table_name,
                "Key": {"id": {"S": f"{_PREFIX}{self._choose(_COUNTERS)}"}},
                "UpdateExpression": "ADD sensors :number",
                "ExpressionAttributeValues": {":number": {"N": str(number)}},
            }
        }

    def read(self) -> int:
        """Return the number of sensors whose latch is finished; raises ServiceUnavailableError when throttled."""
        read = self._dynamodb.batch_get_item(
            RequestItems={
                self._table_name: {
                    "Keys": [{"id": {"S": f"{_PREFIX}{number}"}} for number in range(_COUNTERS)],
                    "ConsistentRead": True,
                }
            }
        )
        if read["UnprocessedKeys"]:
            raise ServiceUnavailableError("the ledger's table left counters unread, try again")
        return sum(int(item["sensors"]["N"]) for item in read["Responses"].get(self._table_name, []))
