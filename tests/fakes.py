"""AWS as the application uses it, in memory; tests/contracts.py holds the fakes to what the real services do."""

import copy
import json
import operator
import re
from types import SimpleNamespace
from typing import Any, ClassVar

from botocore.exceptions import ClientError

Item = dict[str, dict[str, Any]]


class ConditionalCheckFailedException(ClientError):  # noqa: N818 - its name at AWS
    """What DynamoDB raises when a conditional write may not happen."""


class TransactionCanceledException(ClientError):  # noqa: N818 - its name at AWS
    """What DynamoDB raises when a part of a transaction may not happen, so that none of it does."""


def service_error(code: str = "InternalServerError", operation: str = "Anything") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "the test wants it so"}}, operation)


class FakeDynamoDb:
    """Tables with one string key; conditions and updates in the part of the expression language that is in use."""

    exceptions = SimpleNamespace(
        ConditionalCheckFailedException=ConditionalCheckFailedException,
        TransactionCanceledException=TransactionCanceledException,
    )
    meta = SimpleNamespace(region_name="us-east-1")

    def __init__(self, keys: dict[str, str]) -> None:
        self._keys = keys
        self.tables: dict[str, dict[str, Item]] = {table: {} for table in keys}
        self.calls: list[str] = []
        # Every version of every item, for laws about what may never be seen.
        self.history: list[tuple[str, str, Item]] = []
        # What was there before the last write, which is what a read that is not consistent may still see.
        self._before: dict[tuple[str, str], Item | None] = {}
        self.failing: dict[str, Exception] = {}
        # As many keys as a batch gets before it is throttled.
        self.batch_get_max = 100
        # As many transactions as still meet another one and are cancelled.
        self.conflicts = 0

    def get_item(self, *, TableName: str, Key: Item, ConsistentRead: bool = False, **_: Any) -> dict[str, Any]:
        self._table("get_item", TableName)
        item = self._read(TableName, self._key(TableName, Key), consistent=ConsistentRead)
        return {"Item": copy.deepcopy(item)} if item is not None else {}

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:
        ((name, request),) = RequestItems.items()
        keys = request["Keys"]
        self._table("batch_get_item", name)
        assert 1 <= len(keys) <= 100
        assert len({self._key(name, key) for key in keys}) == len(keys)
        now, later = keys[: self.batch_get_max], keys[self.batch_get_max :]
        consistent = request.get("ConsistentRead", False)
        read = [self._read(name, self._key(name, key), consistent=consistent) for key in now]
        found = [item for item in read if item is not None]
        unread = {name: {**request, "Keys": later}} if later else {}
        return {"Responses": {name: copy.deepcopy(found)}, "UnprocessedKeys": unread}

    def put_item(self, *, TableName: str, Item: Item, **condition: Any) -> dict[str, Any]:
        table, key = self._table("put_item", TableName), self._key(TableName, Item)
        self._check(table.get(key), condition)
        self._write(TableName, key, copy.deepcopy(Item))
        return {}

    def update_item(self, *, TableName: str, Key: Item, UpdateExpression: str, **condition: Any) -> dict[str, Any]:
        table, key = self._table("update_item", TableName), self._key(TableName, Key)
        self._check(table.get(key), condition)
        self._update(TableName, Key, UpdateExpression, condition)
        return {}

    def transact_write_items(self, *, TransactItems: list[dict[str, Any]]) -> dict[str, Any]:
        writes = [write for item in TransactItems for write in item.values()]
        self._table("transact_write_items", writes[0]["TableName"])
        assert 1 <= len(writes) <= 100
        named = [
            (write["TableName"], self._key(write["TableName"], write.get("Key") or write["Item"])) for write in writes
        ]
        assert len(set(named)) == len(named), "a transaction writes an item once"
        reasons = [self._reason_against(**write) for write in writes]
        if self.conflicts:
            self.conflicts -= 1
            reasons[-1] = {"Code": "TransactionConflict"}
        if any(reason["Code"] != "None" for reason in reasons):
            error = {"Code": "TransactionCanceledException", "Message": "no"}
            response: Any = {"Error": error, "CancellationReasons": reasons}
            raise TransactionCanceledException(response, "TransactWriteItems")
        for write in writes:
            if "Item" in write:
                self._write(write["TableName"], self._key(write["TableName"], write["Item"]), write["Item"])
            else:
                self._update(write["TableName"], write["Key"], write["UpdateExpression"], write)
        return {}

    def _reason_against(self, *, TableName: str, Key: Item | None = None, **write: Any) -> dict[str, Any]:
        try:
            self._check(self.tables[TableName].get(self._key(TableName, Key or write["Item"])), write)
        except ConditionalCheckFailedException as failed:
            response: Any = failed.response
            found = {"Item": response["Item"]} if response.get("Item") else {}
            return {"Code": "ConditionalCheckFailed", **found}
        return {"Code": "None"}

    def _update(self, table: str, key_item: Item, expression: str, condition: dict[str, Any]) -> None:
        key = self._key(table, key_item)
        item = {**copy.deepcopy(self.tables[table].get(key, key_item))}
        names, values = condition.get("ExpressionAttributeNames", {}), condition.get("ExpressionAttributeValues", {})
        for clause in re.split(r" (?=REMOVE )", expression):
            action, _, operands = clause.partition(" ")
            for operand in operands.split(","):
                name, _, value = operand.strip().replace(" = ", " ").partition(" ")
                if action == "REMOVE":
                    item.pop(names.get(name, name), None)
                elif action == "ADD":
                    item[name] = {"N": str(int(item.get(name, {"N": "0"})["N"]) + int(values[value]["N"]))}
                else:
                    assert action == "SET", f"not understood: {expression}"
                    item[names.get(name, name)] = values[value]
        self._write(table, key, item)

    def delete_item(self, *, TableName: str, Key: Item) -> dict[str, Any]:
        self._table("delete_item", TableName).pop(self._key(TableName, Key), None)
        return {}

    def _table(self, operation: str, name: str) -> dict[str, Item]:
        self.calls.append(operation)
        if operation in self.failing:
            raise self.failing[operation]
        return self.tables[name]

    def _key(self, table: str, item: Item) -> str:
        return item[self._keys[table]]["S"]

    def _read(self, table: str, key: str, *, consistent: bool) -> Item | None:
        now = self.tables[table].get(key)
        return now if consistent else self._before.get((table, key), now)

    def _write(self, table: str, key: str, item: Item) -> None:
        self._before[table, key] = self.tables[table].get(key)
        self.tables[table][key] = item
        self.history.append((table, key, copy.deepcopy(item)))

    def _check(self, item: Item | None, condition: dict[str, Any]) -> None:
        if "ConditionExpression" not in condition or _Condition(item or {}, condition).holds():
            return
        response: dict[str, Any] = {"Error": {"Code": "ConditionalCheckFailedException", "Message": "no"}}
        if condition.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
            response["Item"] = copy.deepcopy(item)
        raise ConditionalCheckFailedException(response, "Write")


class _Condition:
    """A condition expression of OR, AND, parentheses, comparisons, attribute_exists and attribute_not_exists."""

    _OPERATORS: ClassVar = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

    def __init__(self, item: Item, condition: dict[str, Any]) -> None:
        self._item = item
        self._names = condition.get("ExpressionAttributeNames", {})
        self._values = condition.get("ExpressionAttributeValues", {})
        self._tokens = re.findall(r"[()]|[<>=]+|[:#\w]+", condition["ConditionExpression"])

    def holds(self) -> bool:
        result = self._any()
        assert not self._tokens, f"not understood: {self._tokens}"
        return result

    def _any(self) -> bool:
        result = self._all()
        while self._tokens[:1] == ["OR"]:
            self._tokens.pop(0)
            result = self._all() or result
        return result

    def _all(self) -> bool:
        result = self._one()
        while self._tokens[:1] == ["AND"]:
            self._tokens.pop(0)
            result = self._one() and result
        return result

    def _one(self) -> bool:
        token = self._tokens.pop(0)
        if token == "(":
            result = self._any()
            assert self._tokens.pop(0) == ")"
            return result
        if token in {"attribute_exists", "attribute_not_exists"}:
            _, name, _ = (self._tokens.pop(0) for _ in range(3))
            return (self._names.get(name, name) in self._item) == (token == "attribute_exists")
        compare, value = self._OPERATORS[self._tokens.pop(0)], self._values[self._tokens.pop(0)]
        stored = self._item.get(self._names.get(token, token))
        return stored is not None and stored.keys() == value.keys() and compare(_plain(stored), _plain(value))


def _plain(attribute: dict[str, Any]) -> Any:
    ((kind, value),) = attribute.items()
    return float(value) if kind == "N" else value


class FakeSns:
    """A topic that keeps what is published to it, and has SNS' limit on subjects."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.error: Exception | None = None
        # Sensors whose entries of a batch the topic does not take.
        self.refused: set[str] = set()

    def publish(self, **message: Any) -> dict[str, Any]:
        if self.error:
            raise self.error
        if len(message["Subject"]) > 100:
            raise service_error("InvalidParameter", "Publish")
        self.published.append(message)
        return {}

    def publish_batch(self, *, TopicArn: str, PublishBatchRequestEntries: list[dict[str, Any]]) -> dict[str, Any]:
        assert 1 <= len(PublishBatchRequestEntries) <= 10
        failed = []
        for entry in PublishBatchRequestEntries:
            if any(f"sensor {sensor} at" in entry["Subject"] for sensor in self.refused):
                failed.append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
            else:
                self.publish(TopicArn=TopicArn, **{name: value for name, value in entry.items() if name != "Id"})
        return {"Failed": failed}


class FakeLambdaContext:
    """What a function knows of its invocation, as far as Powertools asks."""

    def __init__(self, remaining_ms: int = 20_000) -> None:
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_ms


class FakeSqs:
    """A queue that keeps what it is sent, and does not check it."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.attributes: list[dict[str, Any]] = []
        self.failing: dict[str, Exception] = {}

    def send_message(self, *, MessageBody: str, MessageAttributes: dict[str, Any], **_: Any) -> dict[str, Any]:
        if "send_message" in self.failing:
            raise self.failing["send_message"]
        self.bodies.append(MessageBody)
        self.attributes.append(MessageAttributes)
        return {}

    def measurements(self) -> list[dict[str, Any]]:
        return [measurement for body in self.bodies for measurement in json.loads(body)]
