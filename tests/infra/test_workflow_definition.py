"""The workflow's definition keeps the rules that its safety rests on."""

from itertools import chain

import pytest

from tests.states_language import DEFINITION

STATES = DEFINITION["States"]
MAP = STATES["ReportLocations"]
INNER = MAP["ItemProcessor"]["States"]
TASKS = {name: state for name, state in chain(STATES.items(), INNER.items()) if state["Type"] == "Task"}
TRANSIENT_LAMBDA_ERRORS = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
}


def successors(state):
    rules = [*state.get("Choices", []), *state.get("Catch", [])]
    return [state[key] for key in ("Next", "Default") if key in state] + [rule["Next"] for rule in rules]


@pytest.mark.parametrize("states", [STATES, INNER], ids=["workflow", "location"])
def test_every_state_leads_to_one_that_exists_or_ends(states):
    for name, state in states.items():
        assert set(successors(state)) <= states.keys(), name
        assert successors(state) or state.get("End") or state["Type"] in {"Succeed", "Fail"}, name


def test_every_state_can_be_reached():
    reached, upcoming = set(), [DEFINITION["StartAt"]]
    while upcoming:
        name = upcoming.pop()
        if name not in reached:
            reached.add(name)
            upcoming += successors(STATES[name])
    assert reached == STATES.keys()


@pytest.mark.parametrize("name", [*TASKS, "ReportLocations"])
def test_every_task_and_the_map_try_again_with_growing_and_random_delays(name):
    retriers = [rule for rule in {**STATES, **INNER}[name]["Retry"] if rule.get("MaxAttempts") != 0]
    assert retriers
    for rule in retriers:
        assert rule["MaxAttempts"] >= 2
        assert rule["BackoffRate"] > 1
        assert rule["JitterStrategy"] == "FULL"


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task["Resource"].endswith("lambda:invoke")])
def test_functions_are_retried_on_the_transient_errors_of_lambda(name):
    first = TASKS[name]["Retry"][0]
    assert set(first["ErrorEquals"]) >= TRANSIENT_LAMBDA_ERRORS
    assert first["MaxAttempts"] >= 3


@pytest.mark.parametrize("name", ["Receive", "ReportLocations", "Summarize", "Commit"])
def test_whatever_fails_after_the_claim_is_asked_whether_another_run_was_first(name):
    last = STATES[name]["Catch"][-1]
    assert (last["ErrorEquals"], last["Next"]) == (["States.ALL"], "WasOvertaken")
    assert last["ResultPath"] == "$.error", "the input is kept beside the error"


@pytest.mark.parametrize(("name", "error_kept_at"), [("Claim", "$.error"), ("WasOvertaken", None)])
def test_a_claim_that_fails_and_a_ledger_that_does_not_answer_are_notified(name, error_kept_at):
    (catcher,) = STATES[name]["Catch"]
    assert (catcher["ErrorEquals"], catcher["Next"]) == (["States.ALL"], "NotifyFailure")
    assert catcher["ResultPath"] == error_kept_at, "what is told is the first error"


def test_who_was_first_is_read_from_the_ledger_as_it_is_now():
    asked = STATES["WasOvertaken"]
    assert asked["Resource"] == "arn:aws:states:::dynamodb:getItem"
    commit = STATES["Commit"]["Parameters"]
    assert asked["Parameters"] == {"TableName": commit["TableName"], "Key": commit["Key"], "ConsistentRead": True}
    assert (asked["ResultPath"], asked["Next"]) == ("$.ledger", "IsOvertaken")


def test_a_run_is_overtaken_only_where_the_head_is_another_runs():
    choice, head = STATES["IsOvertaken"], {"Variable": "$.ledger.Item.run_id.S"}
    assert choice["Choices"] == [
        {"Variable": "$$.Execution.Input.source", "StringEquals": "S3", "Next": "NotifyFailure"},
        {**head, "IsPresent": False, "Next": "NotifyFailure"},
        {**head, "StringEqualsPath": "$.claim.answer.previous_run_id", "Next": "NotifyFailure"},
        # The commit took place, and only its answer was lost.
        {**head, "StringEqualsPath": "$.claim.answer.run_id", "Next": "Reported"},
    ]
    assert choice["Default"] == "Overtaken"


def test_a_notified_failure_fails_the_run_even_when_the_topic_fails():
    notify = STATES["NotifyFailure"]
    assert notify["Resource"] == "arn:aws:states:::sns:publish"
    assert notify["Parameters"]["Message"]["error.$"] == "$.error"
    assert {notify["Next"], *(rule["Next"] for rule in notify["Catch"])} == {"Failed"}
    assert STATES["Failed"]["Type"] == "Fail"


def test_a_run_with_nothing_to_do_succeeds_after_its_claim():
    assert DEFINITION["StartAt"] == "Claim"
    assert STATES["Claim"]["Next"] == "AnythingToDo"
    choice = STATES["AnythingToDo"]
    (rule,) = choice["Choices"]
    assert (rule["Variable"], rule["BooleanEquals"], rule["Next"]) == ("$.claim.answer.has_work", True, "Receive")
    assert STATES[choice["Default"]]["Type"] == "Succeed"


def test_a_run_without_locations_passes_the_map_by():
    # What AWS makes of an empty list is not documented.
    choice = STATES[STATES["Receive"]["Next"]]
    assert choice["Choices"] == [{"Variable": "$.plan.answer.locations", "NumericEquals": 0, "Next": "Summarize"}]
    assert choice["Default"] == "ReportLocations"
    assert [name for name, state in STATES.items() if "ReportLocations" in successors(state)] == [
        STATES["Receive"]["Next"]
    ]


def test_locations_are_read_from_the_bucket_by_a_distributed_map_of_bounded_width():
    assert MAP["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
    assert MAP["ItemReader"]["Resource"] == "arn:aws:states:::s3:getObject"
    assert MAP["ItemReader"]["ReaderConfig"] == {"InputType": "JSON"}
    assert MAP["ItemReader"]["Parameters"]["Key.$"] == "$.plan.answer.locations_key"
    assert MAP["MaxConcurrency"] == "${max_concurrency}"


def test_no_location_may_fail_unnoticed():
    assert not [key for key in MAP if key.startswith("Tolerated")]
    assert all("Catch" not in state for state in INNER.values())


def test_the_commit_compares_before_it_sets():
    commit = STATES["Commit"]
    assert commit["Resource"] == "arn:aws:states:::dynamodb:updateItem"
    assert commit["Parameters"]["ConditionExpression"] == (
        "attribute_not_exists(id) OR run_id = :previous_run_id OR run_id = :run_id"
    )
    values = commit["Parameters"]["ExpressionAttributeValues"]
    assert values[":previous_run_id"] == {"S.$": "$.run.answer.previous_run_id"}
    assert values[":run_id"] == {"S.$": "$.run.answer.run_id"}


def test_a_lost_race_is_neither_retried_nor_notified():
    conflict = ["DynamoDB.ConditionalCheckFailedException"]
    commit = STATES["Commit"]
    assert (commit["Retry"][0]["ErrorEquals"], commit["Retry"][0]["MaxAttempts"]) == (conflict, 0)
    assert (commit["Catch"][0]["ErrorEquals"], commit["Catch"][0]["Next"]) == (conflict, "Overtaken")
    assert STATES["Overtaken"]["Type"] == "Succeed"


def test_only_runs_over_the_queue_are_committed():
    choice = STATES["Committable"]
    (rule,) = choice["Choices"]
    assert (rule["Variable"], rule["StringEquals"], rule["Next"]) == ("$$.Execution.Input.source", "SQS", "Commit")
    assert choice["Default"] == "Reported"
    assert [name for name, state in STATES.items() if "Commit" in successors(state)] == ["Committable"]
    assert [name for name, state in STATES.items() if "Committable" in successors(state)] == ["Summarize"]


def test_20000_locations_answer_the_map_with_less_than_a_payload_may_have():
    assert INNER["Report"]["OutputPath"] is None, "an answer is then {}, and the list of all of them 60 KB"
