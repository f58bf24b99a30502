"""Every function may do what it is seen to do, to what it does it to, and nothing else."""

import json
import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from chalice.app import SQSEventConfig

from chalicelib.landing import QUARANTINE_PREFIX
from tests.infra.recorded_calls import API, recorded_calls
from tests.infra.rights import KINDS, calls_of, rights_for
from tests.infra.terraform_files import INFRA, PROJECT, load

# Recording takes some seconds, in each process that needs it.
pytestmark = pytest.mark.xdist_group("policies")

CHALICE = PROJECT / ".chalice"
CONFIG = json.loads((CHALICE / "config.json").read_text())
STAGES = tuple(CONFIG["stages"])
FUNCTIONS = tuple(CONFIG["stages"]["dev"]["lambda_functions"])


def policy_path(function: str, stage: str) -> Any:
    return CHALICE / f"policy-{function}-{stage}.json"


def statements(function: str) -> list[dict[str, Any]]:
    """A function's statements in dev, of which prod has the same."""
    policy = json.loads(policy_path(function, "dev").read_text())
    assert policy["Version"] == "2012-10-17"
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}
    found: list[dict[str, Any]] = policy["Statement"]
    return found


def rights_of_lambda(function: str) -> set[tuple[str, str]]:
    """What Lambda does in a function's name: it writes the log, and takes messages for it out of a queue."""
    from app import app

    name = f"thermonet-dev{'' if function == API else '-' + function}"
    log = f"arn:aws:logs:*:*:log-group:/aws/lambda/{name}:*"
    queues = [
        f"arn:aws:sqs:*:*:{source.queue}"
        for source in app.event_sources
        if isinstance(source, SQSEventConfig) and source.name == function
    ]
    consuming = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    return {(action, log) for action in ("logs:CreateLogStream", "logs:PutLogEvents")} | {
        (action, queue) for queue in queues for action in consuming
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_has_the_rights_that_its_calls_need_and_no_other(function: str) -> None:
    allowed = [
        (action, resource)
        for statement in statements(function)
        for action in statement["Action"]
        for resource in statement["Resource"]
    ]
    assert set(allowed) == rights_for(recorded_calls()[function]) | rights_of_lambda(function)
    assert len(allowed) == len(set(allowed))


def test_the_parts_of_a_transaction_need_the_rights_that_they_would_need_alone() -> None:
    key = {"id": {"S": "1"}}
    kinds = {"Put": "Item", "Update": "Key", "Delete": "Key", "ConditionCheck": "Key"}
    parts = [{kind: {"TableName": "t", field: key}} for kind, field in kinds.items()]
    assert rights_for(calls_of("dynamodb", "TransactWriteItems", {"TransactItems": parts})) == {
        (f"dynamodb:{kind}Item", "arn:aws:dynamodb:*:*:table/t") for kind in kinds
    }


def test_every_kind_of_object_is_written_by_the_functions_that_it_is_of() -> None:
    written = {
        function: {resource.partition("/")[2] for action, resource in rights_for(calls) if action == "s3:PutObject"}
        for function, calls in recorded_calls().items()
    }
    assert set().union(*written.values()) == KINDS
    for kind in KINDS - {"quarantine/*"}:
        assert len([function for function, kinds in written.items() if kind in kinds]) == 1, kind


def test_archived_and_committed_objects_are_out_of_reach_of_all_but_the_claimer() -> None:
    for function in FUNCTIONS:
        removed = {one for action, one in rights_for(recorded_calls()[function]) if action == "s3:DeleteObject"}
        assert {one.partition("/")[2] for one in removed} == (
            {"landing/*", "runs/*"} if function == "claimer" else set()
        )


# What each function counts in the ledger's table, none of it the head.
COUNTED = {
    API: {"broken-sensors-*", "location/*", "locations"},
    "buffer_measurements": {"quarantine/*", "quarantined"},
    "claimer": {"quarantine/*", "quarantined"},
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_writes_to_the_ledger_what_it_counts_and_cannot_move_the_head(function: str) -> None:
    ledger = "arn:aws:dynamodb:*:*:table/thermonet-dev-analytics-runs"
    writing = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"}
    granted = [one for one in statements(function) if ledger in one["Resource"] and writing & set(one["Action"])]
    assert len(granted) == (function in COUNTED)
    for one in granted:
        assert one["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": sorted(COUNTED[function])}}
        written = {
            call.key for call in recorded_calls()[function] if (call.resource, call.action in writing) == (ledger, True)
        }
        assert written
        for key in [*written, "head"]:
            assert any(fnmatchcase(key, pattern) for pattern in COUNTED[function]) == (key != "head")
    assert not [one for one in statements(function) if "Condition" in one and one not in granted]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_both_stages_have_the_same_rights_each_to_its_own(function: str) -> None:
    dev = policy_path(function, "dev").read_text()
    moved = dev.replace("thermonet-dev", "thermonet-prod").replace("/thermonet/dev/", "/thermonet/prod/")
    assert policy_path(function, "prod").read_text() == moved


def test_there_is_no_policy_that_no_function_has() -> None:
    used = {policy_path(function, stage) for function in FUNCTIONS for stage in STAGES}
    assert set(CHALICE.glob("policy*.json")) == used
    for stage in STAGES:
        functions = CONFIG["stages"][stage]["lambda_functions"]
        assert {CHALICE / function["iam_policy_file"] for function in functions.values()} == {
            path for path in used if path.stem.endswith(f"-{stage}")
        }


def test_only_logging_names_no_resource_in_terraform() -> None:
    unnamed = {}
    for file in [*INFRA.glob("*.tf"), *INFRA.glob("modules/*/*.tf")]:
        for block in load(file).get("data", []):
            for document in block.get("aws_iam_policy_document", {}).values():
                for statement in document.get("statement", []):
                    if statement.get("resources") == ["*"]:
                        unnamed[statement["sid"]] = statement["actions"]
    assert set(unnamed) == {"Log"}
    assert all(re.match(r"logs:\w+(LogDelivery|LogDeliveries|ResourcePolic|LogGroups)", one) for one in unnamed["Log"])


def allowed_keys(resources_of_action: dict[str, list[str]]) -> dict[str, set[str]]:
    """Return the patterns of keys that each action on objects is allowed for."""
    return {
        action: {arn.partition("/")[2] for arn in arns}
        for action, arns in resources_of_action.items()
        if action in {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
    }


def test_the_workflow_has_the_rights_to_what_its_states_do() -> None:
    document = load(INFRA / "workflow.tf")["data"][1]["aws_iam_policy_document"]["workflow"]
    allowed = {action for one in document["statement"] if one["sid"] != "Log" for action in one["actions"]}
    definition = (PROJECT / "stepfunctions" / "analytics.asl.json").read_text()
    integrations = {
        "lambda:invoke": "lambda:InvokeFunction",
        "dynamodb:getItem": "dynamodb:GetItem",
        "dynamodb:updateItem": "dynamodb:UpdateItem",
        "sns:publish": "sns:Publish",
        "s3:getObject": "s3:GetObject",
    }
    used = {integrations[one] for one in re.findall(r"arn:aws:states:::([\w:]+)", definition)}
    objects = {action: one["resources"] for one in document["statement"] for action in one["actions"]}
    read = {resource for action, resource in rights_for(recorded_calls()["workflow"]) if action == "s3:GetObject"}
    assert allowed_keys(objects) == allowed_keys({"s3:GetObject": list(read)})
    # A distributed map starts and follows child executions of its own workflow.
    assert allowed == used | {"states:StartExecution", "states:DescribeExecution", "states:StopExecution"}


def test_the_workflow_may_call_the_functions_that_its_states_call_and_no_other() -> None:
    allowed = re.search(r"for function in \[(.*?)\] : local\.function_arns", (INFRA / "workflow.tf").read_text())
    called = re.findall(r"\$\{(\w+)_arn\}", (PROJECT / "stepfunctions" / "analytics.asl.json").read_text())
    assert allowed is not None
    assert set(re.findall(r"\w+", allowed[1])) == set(called) - {"topic"}


def test_dead_letters_are_set_aside_in_quarantine_and_counted_as_the_consumer_does() -> None:
    (module,) = (block["dead_letter_triage"] for block in load(INFRA / "dead_letters.tf")["module"])
    objects = {action: one["resources"] for one in module["policy_statements"] for action in one["actions"]}
    assert allowed_keys(objects) == {"s3:PutObject": {f"{QUARANTINE_PREFIX}*"}}
    (counting,) = [one for one in module["policy_statements"] if "dynamodb" in one["actions"][0]]
    assert counting["leading_keys"] == sorted(COUNTED["buffer_measurements"])
