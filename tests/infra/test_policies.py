"""Every function may do what its code does, to what it does it to, and nothing else."""

import json
import re
from fnmatch import fnmatch
from typing import Any
from unittest.mock import Mock

import pytest

from chalicelib.broken_count import BrokenCount
from chalicelib.landing import QUARANTINE_PREFIX
from tests.infra.app_code import actions_of, app_functions
from tests.infra.object_uses import KINDS, Uses, object_uses
from tests.infra.terraform_files import INFRA, PROJECT, in_stage, load, local_values, resources

CHALICE = PROJECT / ".chalice"
STAGES = ("dev", "prod")
FUNCTIONS = tuple(app_functions())


def policy_path(function: str, stage: str) -> Any:
    return CHALICE / f"policy-{'api_handler' if function == 'app' else function}-{stage}.json"


def statements(function: str, stage: str) -> list[dict[str, Any]]:
    policy = json.loads(policy_path(function, stage).read_text())
    assert policy["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = policy["Statement"]
    return found


def known_resources(stage: str) -> set[str]:
    """The ARNs of what a stage has, without partition, region and account."""
    tables = {f"dynamodb:table/{in_stage(table['name'], stage)}" for table in resources("aws_dynamodb_table").values()}
    queues = {f"sqs:{in_stage(queue['name'], stage)}" for queue in resources("aws_sqs_queue").values()}
    parameters = {f"ssm:parameter{in_stage(one['name'], stage)}" for one in resources("aws_ssm_parameter").values()}
    others = {
        f"sns:{in_stage(resources('aws_sns_topic')['alerts']['name'], stage)}",
        f"states:stateMachine:{in_stage(local_values()['workflow_name'], stage)}",
        f"s3:{in_stage(resources('aws_s3_bucket')['data']['bucket'], stage)}".replace("${local.account_id}", "*"),
    }
    return tables | queues | parameters | others


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_function_has_the_rights_to_its_calls_and_no_other(function: str, stage: str) -> None:
    allowed = {action for statement in statements(function, stage) for action in statement["Action"]}
    assert allowed == actions_of(function)


def test_the_calls_are_found_in_the_code() -> None:
    assert {"dynamodb:DeleteItem", "sqs:SendMessage", "sns:Publish"} <= actions_of("app")
    assert {"s3:ListBucket", "s3:DeleteObject", "dynamodb:GetItem"} <= actions_of("receiver")
    assert actions_of("reporter") >= {"s3:GetObject", "s3:PutObject"}
    assert "s3:GetObject" not in actions_of("buffer_measurements")
    assert {"states:StartExecution", "states:ListExecutions"} <= actions_of("start_analytics")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_rights_are_to_named_resources_of_the_functions_own_stage(function: str, stage: str) -> None:
    for statement in statements(function, stage):
        assert statement["Effect"] == "Allow"
        services = {action.partition(":")[0] for action in statement["Action"]}
        for arn in statement["Resource"]:
            assert {arn.split(":")[2]} == services, arn
            assert f"thermonet-{stage}" in arn or f"/thermonet/{stage}/" in arn
            if services == {"logs"}:
                group = f"/aws/lambda/thermonet-{stage}{'' if function == 'app' else '-' + function}"
                assert arn == f"arn:aws:logs:*:*:log-group:{group}:*"
            else:
                service, name = re.fullmatch(r"arn:aws:(\w+):[*]?:[*]?:(.+)", arn).groups()  # type: ignore[union-attr]
                assert f"{service}:{name.partition('/')[0] if service == 's3' else name}" in known_resources(stage)


def allowed_keys(resources_of_action: dict[str, list[str]]) -> Uses:
    """Return the patterns of keys that each action on objects is allowed for."""
    return {
        action: {arn.partition("/")[2] for arn in arns}
        for action, arns in resources_of_action.items()
        if action in {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
    }


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_rights_are_to_the_kinds_of_objects_that_a_function_uses_and_no_other(function: str, stage: str) -> None:
    allowed: dict[str, list[str]] = {}
    for statement in statements(function, stage):
        for action in statement["Action"]:
            allowed.setdefault(action, []).extend(statement["Resource"])
    assert allowed_keys(allowed) == object_uses().get(function, {})


def test_every_kind_of_object_is_written_by_the_functions_that_it_is_of() -> None:
    written = {function: used.get("s3:PutObject", set()) for function, used in object_uses().items()}
    assert set().union(*written.values()) == KINDS
    assert not written["receiver"] & written["reporter"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_api_may_count_in_the_ledger_and_not_move_its_head(stage: str) -> None:
    writing = [one for one in statements("app", stage) if "dynamodb:UpdateItem" in one["Action"]]
    (to_ledger,) = [one for one in writing if one["Resource"][0].endswith("-analytics-runs")]
    (keys,) = to_ledger["Condition"]["ForAllValues:StringLike"].values()
    counter = BrokenCount("ledger", Mock()).increment("s")["Update"]["Key"]["id"]["S"]
    assert [fnmatch(counter, pattern) for pattern in keys] == [True]
    assert not [pattern for pattern in keys if fnmatch("head", pattern)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_action_is_a_wildcard(function: str) -> None:
    for statement in statements(function, "dev"):
        assert not [action for action in statement["Action"] if "*" in action]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_both_stages_have_the_same_rights_each_to_its_own(function: str) -> None:
    dev = policy_path(function, "dev").read_text()
    moved = dev.replace("thermonet-dev", "thermonet-prod").replace("/thermonet/dev/", "/thermonet/prod/")
    assert policy_path(function, "prod").read_text() == moved


def test_there_is_no_policy_that_no_function_has() -> None:
    used = {policy_path(function, stage) for function in FUNCTIONS for stage in STAGES}
    assert set(CHALICE.glob("policy*.json")) == used
    config = json.loads((CHALICE / "config.json").read_text())
    for stage in STAGES:
        functions = config["stages"][stage]["lambda_functions"]
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


def test_the_workflow_has_the_rights_to_what_its_states_do() -> None:
    document = load(INFRA / "workflow.tf")["data"][1]["aws_iam_policy_document"]["workflow"]
    allowed = {action for one in document["statement"] if one["sid"] != "Log" for action in one["actions"]}
    definition = (PROJECT / "stepfunctions" / "analytics.asl.json").read_text()
    integrations = {
        "lambda:invoke": "lambda:InvokeFunction",
        "dynamodb:updateItem": "dynamodb:UpdateItem",
        "sns:publish": "sns:Publish",
        "s3:getObject": "s3:GetObject",
    }
    used = {integrations[one] for one in re.findall(r"arn:aws:states:::([\w:]+)", definition)}
    objects = {action: one["resources"] for one in document["statement"] for action in one["actions"]}
    assert allowed_keys(objects) == object_uses()["workflow"]
    # A distributed map starts and follows child executions of its own workflow.
    assert allowed == used | {"states:StartExecution", "states:DescribeExecution", "states:StopExecution"}


def test_dead_letters_are_set_aside_in_quarantine_and_nowhere_else() -> None:
    (module,) = (block["dead_letter_triage"] for block in load(INFRA / "dead_letters.tf")["module"])
    objects = {action: one["resources"] for one in module["policy_statements"] for action in one["actions"]}
    assert allowed_keys(objects) == {"s3:PutObject": {f"{QUARANTINE_PREFIX}*"}}
