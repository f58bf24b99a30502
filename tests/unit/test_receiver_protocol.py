"""Exactly once: what the workflow promises when tasks repeat, runs overlap, and processes die at any point."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.analytics.workflow import Plan
from chalicelib.errors import ServiceUnavailableError
from chalicelib.ledger import NO_MANIFEST, Counts, Manifest, state_key
from tests.contracts import LEDGER_TABLE
from tests.factories import MINUTE, NOW, landed
from tests.fakes import service_error
from tests.runs import counts, land, new_player
from tests.strategies import whole_runs


@pytest.fixture
def player():
    return new_player()


def again(player, function, **payload):
    """Call a function once more, as a retry of an answer that was lost does."""
    return msgspec.to_builtins(player.process().invoke(f"${{{function}_arn}}", payload))


def test_a_repeated_receiver_prepares_the_same_under_names_of_its_own(player):
    land(player, landed(), landed(), landed("2", location_id="b"))
    execution = player.start("run-1", NOW).advance_to("ReportLocations")
    before = dict(player.store.s3.objects)
    other = again(player, "receiver", run_id=execution.claim["run_id"], claim_key=execution.claim["claim_key"])
    assert other["counts"] == execution.plan["counts"]
    assert {key: player.store.s3.objects[key] for key in before} == before
    plans = [msgspec.json.decode(player.store.get(one["plan_key"]), type=Plan) for one in (execution.plan, other)]
    assert plans[0].claim == plans[1].claim
    assert {part.key for part in plans[0].spool}.isdisjoint(part.key for part in plans[1].spool)
    assert [len(plan.spool) for plan in plans] == [len(plan.duplicates) for plan in plans] == [1, 1]
    execution.finish()
    manifest = player.committed()
    committed = {part.key for entry in manifest.entries for part in entry.parts}
    assert committed == {part.key for part in plans[0].spool}
    assert counts(player) == {"a": 1, "b": 1}


def test_what_lands_behind_the_claim_is_left_to_the_next_run(player):
    land(player, landed())
    execution = player.start("run-1", NOW).advance_to("Receive")
    later = land(player, landed("2"), number=1)
    execution.finish()
    assert counts(player) == {"a": 1}
    assert later in player.store.s3.objects
    player.run("run-2", NOW)
    assert counts(player) == {"a": 2}


def test_of_the_outcomes_of_two_tries_one_is_taken_and_its_report_exists(player):
    land(player, landed(), landed("2", location_id="b"))
    player.run("run-0", NOW)
    land(player, landed("3", timestamp=NOW - MINUTE), landed("4", location_id="b"), number=1)
    player.order = lambda items: [*items, *reversed(items)]
    execution = player.start("run-1", NOW).advance_to("Summarize")
    run_id = execution.claim["run_id"]
    outcomes = player.store.list_keys(f"scratch/{run_id}/outcomes/")
    assert sorted(key.split("/")[3] for key in outcomes) == ["a", "a", "b", "b"]
    assert {player.store.get(key) for key in outcomes} == {b""}
    execution.finish()
    manifest = player.committed()
    assert (manifest.locations, manifest.counts) == (2, Counts(measurements=2, late=1))
    assert all({key, state_key(key)} <= player.store.s3.objects.keys() for key in manifest.reports.values())
    assert all(f"/{run_id}/" in key for key in manifest.reports.values())
    assert counts(player) == {"a": 2, "b": 2}


def test_a_repeated_reporter_writes_the_same_bytes_under_another_name(player):
    land(player, landed(), landed("2"))
    player.order = lambda items: items * 3
    execution = player.start("run-1", NOW).advance_to("Summarize")
    for kind in ("reports", "state"):
        written = player.store.list_keys(f"runs/{execution.claim['run_id']}/{kind}/")
        assert (len(written), len({player.store.get(key) for key in written})) == (3, 1)


def test_a_report_whose_reporter_died_before_its_outcome_is_not_taken(player):
    land(player, landed())

    def die(operation, key):
        if operation == "put" and "/outcomes/" in key:
            player.store.s3.before = lambda operation, key: None
            raise ServiceUnavailableError("gone")

    player.store.s3.before = die
    execution = player.run("run-1", NOW)
    written = player.store.list_keys(f"runs/{execution.claim['run_id']}/reports/")
    (outcome,) = player.store.list_keys(f"scratch/{execution.claim['run_id']}/outcomes/")
    assert (execution.passed[-1], len(written)) == ("Reported", 2)
    (key,) = player.committed().reports.values()
    assert key.endswith(f"/{outcome.split('/')[4]}.json")


def test_a_manifest_that_exists_is_the_runs_whoever_sums_up_again(player):
    land(player, landed())
    execution = player.start("run-1", NOW).advance_to("Committable")
    written = player.store.get(execution.answer["manifest_key"])
    # It would tell of it.
    counter = {"id": {"S": "broken-sensors-7"}, "sensors": {"N": "3"}}
    player.dynamodb.tables[LEDGER_TABLE]["broken-sensors-7"] = counter
    answer = again(player, "summarizer", run_id=execution.claim["run_id"], plan_key=execution.plan["plan_key"])
    assert answer == execution.answer
    assert player.store.get(execution.answer["manifest_key"]) == written
    execution.finish()
    manifest = player.committed()
    assert json.loads(written)["locations_summary_key"] == manifest.locations_summary_key
    assert manifest.locations_summary_key in player.store.s3.objects


def test_of_two_summarizers_at_once_the_first_manifest_decides(player):
    land(player, landed())
    execution = player.start("run-1", NOW).advance_to("Summarize")
    first = []

    def other_try(operation, key):
        if operation == "put_first" and not first:
            first.append(None)
            first[0] = again(
                player, "summarizer", run_id=execution.claim["run_id"], plan_key=execution.plan["plan_key"]
            )
            first.append(player.store.get(key))

    player.store.s3.before = other_try
    execution.finish()
    assert execution.answer == first[0]
    assert player.store.get(execution.answer["manifest_key"]) == first[1]
    assert player.committed() == msgspec.json.decode(first[1], type=Manifest)


def test_a_run_whose_input_was_consumed_meanwhile_is_overtaken_and_nobody_is_alarmed(player):
    key = land(player, landed())

    def consumed_meanwhile(operation, accessed):
        if (operation, accessed) == ("get", key):
            player.store.s3.before = lambda operation, key: None
            player.run("other", NOW)
            land(player, landed("2"), number=1)
            player.run("another", NOW + MINUTE)
            land(player, landed("3"), number=2)

    player.store.s3.before = consumed_meanwhile
    execution = player.run("run-1", NOW)
    assert execution.passed[-4:] == ["Receive", "WasOvertaken", "IsOvertaken", "Overtaken"]
    assert (execution.status, execution.error["Error"]) == ("SUCCEEDED", "ObjectNotFoundError")
    assert player.notifications == []
    player.run("run-2", NOW + MINUTE)
    assert counts(player) == {"a": 3}


@pytest.mark.parametrize("when", ["get", "put", "put_first", "list_keys"])
def test_a_run_whose_storage_fails_notifies_publishes_nothing_and_loses_nothing(player, when):
    land(player, landed())

    def fail(operation, key):
        if operation == when:
            raise ServiceUnavailableError("no storage today")

    player.store.s3.before = fail
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.error["Error"]) == ("FAILED", "ServiceUnavailableError")
    assert execution.passed[-2:] == ["NotifyFailure", "Failed"]
    (notification,) = player.notifications
    assert notification["Message"]["execution"] == "arn:execution:run-1"
    player.store.s3.before = lambda operation, key: None
    assert player.committed() == NO_MANIFEST
    player.run("run-2", NOW + MINUTE)
    assert counts(player) == {"a": 1}


def test_a_commit_that_fails_for_good_notifies_and_the_next_run_counts_everything(player):
    land(player, landed())
    player.dynamodb.failing["update_item"] = service_error()
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.error["Error"]) == ("FAILED", "DynamoDB.InternalServerError")
    assert len(player.notifications) == 1
    player.dynamodb.failing.clear()
    player.run("run-2", NOW + MINUTE)
    assert counts(player) == {"a": 1}


def test_clean_up_that_failed_in_the_middle_is_repeated_by_the_next_claim(player):
    keys = [land(player, landed(str(number)), number=number) for number in range(3)]
    player.run("run-1", NOW)

    def fail_at_the_last(operation, key):
        if (operation, key) == ("delete", keys[-1]):
            raise ServiceUnavailableError("no more")

    player.store.s3.before = fail_at_the_last
    assert player.run("run-2", NOW).status == "FAILED"
    player.store.s3.before = lambda operation, key: None
    assert player.run("run-3", NOW).status == "SUCCEEDED"
    assert player.store.list_keys("landing/") == []
    assert counts(player) == {"a": 3}


@settings(max_examples=whole_runs(12))
@given(st.data())
def test_however_runs_overlap_and_die_every_measurement_is_counted_exactly_once(data):
    """Executions advance in any order, some stop for ever, landing goes on; at the end one undisturbed run."""
    player = new_player()
    executions, landed_count = [], 0
    for step in range(data.draw(st.integers(3, 14), label="steps")):
        action = data.draw(st.sampled_from(["land", "start", "advance", "advance", "finish"]), label="action")
        if action == "land":
            land(player, landed(str(landed_count), timestamp=NOW - (landed_count % 50) * MINUTE), number=landed_count)
            landed_count += 1
        elif action == "start":
            executions.append(player.start(f"run-{step}", NOW))
        elif executions:
            execution = data.draw(st.sampled_from(executions), label="execution")
            if action == "advance":
                execution.step()
            else:
                execution.finish()
            assert execution.status != "FAILED"
        assert sum(counts(player).values()) <= landed_count
    assert player.run("last", NOW).status == "SUCCEEDED"
    assert sum(counts(player).values()) == landed_count
    totals = player.committed().totals
    assert (totals.measurements, totals.duplicates, totals.quarantined) == (landed_count, 0, 0)
    assert player.notifications == []
