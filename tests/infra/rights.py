"""What IAM must allow for a call of boto3: actions, and resources as policies name them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

# Every kind of key that the stage's own functions use.
KINDS = frozenset(
    {
        "landing/*",
        "quarantine/*",
        "archive/*",
        "runs/*/claim.json",
        "runs/*/spool/*",
        "runs/*/duplicates/*",
        "runs/*/plans/*",
        "runs/*/reports/*",
        "runs/*/state/*",
        "runs/*/summaries/*",
        "runs/*/manifest.json",
        "static/*/claim.json",
        "static/*/plans/*",
        "static/*/reports/*",
        "static/*/state/*",
        "static/*/manifest.json",
        "scratch/*/locations.json",
        "scratch/*/location_id=*",
        "scratch/*/outcomes/*",
    }
)
# A file of somebody's own, for a run over it.
_ANY_KEY = "*"
# Who cleans up behind runs removes whatever they have left there.
_WHOLLY_REMOVED = "runs/*"
# Where moto has everything.
REGION = "us-east-1"
_ACCOUNT = "123456789012"


class Call(NamedTuple):
    """What a call does to one resource: the IAM action, the ARN as policies write it, and the object's or item's key.

    The key is empty where the call names none, or several items.
    """

    action: str
    resource: str
    key: str = ""


def rights_for(calls: Iterable[Call]) -> set[tuple[str, str]]:
    """Return the rights that calls need as (action, resource), those to objects for the kinds of their keys."""
    kinds_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for call in calls:
        kinds_of[call.action, call.resource].add(_kind(call))
    return {
        (action, f"{resource}{kind}")
        for (action, resource), kinds in kinds_of.items()
        # Who may use any key needs no right to some.
        for kind in ({f"/{_ANY_KEY}"} & kinds or kinds)
    }


def _kind(call: Call) -> str:
    """Return what follows the bucket in a policy's resource, nothing for what is no object."""
    if not (call.resource.startswith("arn:aws:s3:") and call.key):
        return ""
    if call.action == "s3:DeleteObject" and fnmatchcase(call.key, _WHOLLY_REMOVED):
        return f"/{_WHOLLY_REMOVED}"
    kinds = [kind for kind in KINDS if fnmatchcase(call.key, kind)] or [_ANY_KEY]
    assert len(kinds) == 1, call
    return f"/{kinds[0]}"


def calls_of(service: str, operation: str, given: Mapping[str, Any]) -> list[Call]:
    """Return what an operation of boto3 with these parameters does, by the actions that IAM knows for the service."""
    if service == "dynamodb":
        return _calls_to_items(operation, given)
    if service == "s3":
        return _calls_to_objects(operation, given)
    action, resource = {
        "sns:PublishBatch": lambda: ("sns:Publish", given["TopicArn"]),
        "sqs:SendMessage": lambda: ("sqs:SendMessage", _arn("sqs", given["QueueUrl"].rpartition("/")[2])),
        "ssm:GetParameter": lambda: ("ssm:GetParameter", _arn("ssm", f"parameter{given['Name']}")),
        "states:ListExecutions": lambda: ("states:ListExecutions", given["stateMachineArn"]),
        "states:StartExecution": lambda: ("states:StartExecution", given["stateMachineArn"]),
    }[f"{service}:{operation}"]()
    return [Call(action, _anywhere(resource))]


def _calls_to_items(operation: str, given: Mapping[str, Any]) -> list[Call]:
    if operation == "TransactWriteItems":
        # Each part needs the right that it would need alone.
        parts = [(f"{kind}Item", parameters) for part in given["TransactItems"] for kind, parameters in part.items()]
        return [call for part in parts for call in _calls_to_items(*part)]
    if operation == "BatchGetItem":
        return [Call("dynamodb:BatchGetItem", _arn("dynamodb", f"table/{name}")) for name in given["RequestItems"]]
    item = given.get("Key") or given["Item"]
    key = item["id"] if "id" in item else item["sensor_id"]
    return [Call(f"dynamodb:{operation}", _arn("dynamodb", f"table/{given['TableName']}"), key["S"])]


def _calls_to_objects(operation: str, given: Mapping[str, Any]) -> list[Call]:
    bucket = _anywhere(f"arn:aws:s3:::{given['Bucket']}")
    if operation == "ListObjectsV2":
        return [Call("s3:ListBucket", bucket)]
    if operation == "DeleteObjects":
        return [Call("s3:DeleteObject", bucket, entry["Key"]) for entry in given["Delete"]["Objects"]]
    return [Call(f"s3:{operation}", bucket, given["Key"])]


def _arn(service: str, name: str) -> str:
    return f"arn:aws:{service}:*:*:{name}"


def _anywhere(arn: str) -> str:
    """Policies name resources whatever their region and account."""
    return arn.replace(REGION, "*").replace(_ACCOUNT, "*")
