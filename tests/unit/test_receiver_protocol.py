"""Exactly once: what the workflow promises when tasks repeat, runs overlap, and processes die at any point."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.analytics.workflow import RunRequest, SqsInput
from chalicelib.errors import ServiceUnavailableError
from chalicelib.ledger import NO_MANIFEST, Counts
from tests.factories import MINUTE, NOW, landed
from tests.fakes import service_error
from tests.runs import counts, land, new_player
from tests.strategies import whole_runs


@pytest.fixture
def player():
    return new_player()


def test_of_two_overlapping_attempts_at_a_run_the_first_manifest_decides(player):
    land(player, landed())
    request = RunRequest("r", NOW, SqsInput())
    first = []

    def other_attempt(operation, key):
        if operation == "put_first" and not first:
            first.append(None)
            land(player, landed("2"), number=1)
            first[0] = player.process().receiver.receive(request)

    player.store.s3.before = other_attempt
    second = player.process().receiver.receive(request)
    assert second == first[0]
    assert second.counts.measurements == 2


def test_a_repeated_reporter_writes_the_same_bytes(player):
    land(player, landed(), landed("2", location_id="b"))
    player.start("run-1", NOW).advance_to("Commit")
    before = dict(player.store.s3.objects)
    player.order = lambda items: [*items, *reversed(items)]
    again = player.start("run-1", NOW)
    again.advance_to("Commit")
    assert {key for key in before if before[key] != player.store.s3.objects[key]} == set()


def test_a_receiver_whose_input_was_consumed_meanwhile_tries_again_from_the_start(player):
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
    assert (execution.status, execution.passed[-1]) == ("SUCCEEDED", "Reported")
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
    assert notification["Message"]["run_id"] == "run-1"
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


def test_clean_up_that_failed_in_the_middle_is_repeated_by_the_next_run(player):
    keys = [land(player, landed(str(number)), number=number) for number in range(3)]
    player.run("run-1", NOW)

    def fail_at_the_last(operation, key):
        if (operation, key) == ("delete", keys[-1]):
            raise ServiceUnavailableError("no more")

    player.store.s3.before = fail_at_the_last
    assert player.run("run-2", NOW).status == "FAILED"
    player.store.s3.before = lambda operation, key: None
    assert player.run("run-3", NOW).passed[-1] == "NothingToReport"
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
        seen_now = counts(player) if player.committed() != NO_MANIFEST else {}
        assert sum(seen_now.values()) <= landed_count
    assert player.run("last", NOW).status == "SUCCEEDED"
    assert sum(counts(player).values()) == landed_count if landed_count else player.committed() == NO_MANIFEST
    totals = player.committed().totals
    assert totals == Counts(measurements=landed_count)
