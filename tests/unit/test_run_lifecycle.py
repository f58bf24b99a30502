"""What a run publishes, carries forward, cleans up, and leaves alone."""

import msgspec
import pytest
from msgspec import structs

from chalicelib.analytics.workflow import RunRequest, SqsInput
from chalicelib.fields import format_time
from chalicelib.ledger import NO_MANIFEST, Counts, manifest_key, report_key, state_key
from chalicelib.reports import LocationLatest, LocationsSummary, locations_summary_key, run_summary_key
from tests.factories import HOUR, MINUTE, NOW, analytics_settings, landed
from tests.runs import counts, land, new_player
from tests.workflow_player import WorkflowPlayer


@pytest.fixture
def player():
    return new_player()


def test_a_run_publishes_a_report_and_names_all_about_itself_in_its_manifest(player):
    key = land(player, landed(), landed("2"))
    execution = player.run("run-1", NOW)
    assert execution.status == "SUCCEEDED"
    assert execution.passed == [
        "Receive", "AnythingToReport", "ReportLocations", "Committable", "Summarize", "Commit", "Reported",
    ]  # fmt: skip
    manifest = player.committed()
    assert (manifest.run_id, manifest.previous_run_id, manifest.landing) == ("run-1", NO_MANIFEST.run_id, [key])
    assert manifest.reports == {"a": report_key("a", "run-1")}
    assert (manifest.counts, manifest.totals) == (Counts(measurements=2), Counts(measurements=2))
    report = player.reports()["a"]
    assert (report.location_id, report.run_id, report.generated_at, report.window_minutes) == (
        "a", "run-1", "2026-03-01T12:00:00.000Z", 5,
    )  # fmt: skip


def test_a_run_without_anything_landed_succeeds_and_changes_nothing(player):
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.passed[-1]) == ("SUCCEEDED", "NothingToReport")
    assert player.store.s3.objects == {}
    assert player.committed() == NO_MANIFEST


def test_a_run_leaves_the_latest_of_every_location_also_of_one_that_was_too_late(player):
    late = landed("2", location_id="late", timestamp=NOW - 9 * HOUR)
    land(player, landed(temperature=20.0), landed(temperature=30.0, timestamp=NOW + MINUTE), late)
    player.run("run-1", NOW)
    summary = msgspec.json.decode(player.store.get(locations_summary_key("run-1")), type=LocationsSummary)
    assert summary.locations == [
        LocationLatest("a", format_time(NOW + MINUTE), 25.0),
        LocationLatest("late", None, None),
    ]
    assert {player.store.get(key) for key in player.store.list_keys("scratch/run-1/latest/")} == {b""}


def test_a_run_that_lacks_a_locations_report_fails_and_publishes_nothing(player):
    land(player, landed(location_id="a"), landed("2", location_id="b"))
    player.order = lambda items: items[:-1]
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.error["Error"]) == ("FAILED", "ObjectNotFoundError")
    assert execution.passed[-3:] == ["Summarize", "NotifyFailure", "Failed"]
    assert player.committed() == NO_MANIFEST


@pytest.mark.parametrize(("age", "late"), [(2 * HOUR + 3 * MINUTE, 0), (2 * HOUR + 4 * MINUTE, 1)])
def test_a_clock_that_is_fast_makes_no_measurement_of_another_location_late(player, age, late):
    land(player, landed("fast", "a", timestamp=NOW + 5 * MINUTE))
    player.run("run-0", NOW)
    land(player, landed("1", "b", timestamp=NOW), landed("2", "b", timestamp=NOW - age), number=1)
    player.run("run-1", NOW)
    report = player.reports()["b"]
    assert (report.measurements, report.late) == (2 - late, late)


def test_a_measurement_that_was_too_late_counts_when_it_comes_again_into_a_longer_history(player):
    late = landed("2", timestamp=NOW - 3 * HOUR)
    land(player, landed(), structs.replace(late, delivery=1))
    player.run("run-1", NOW)
    assert counts(player) == {"a": 1}
    longer = WorkflowPlayer(analytics_settings(history_hours=6), player.store, player.dynamodb)
    land(longer, structs.replace(late, delivery=2), number=1)
    longer.run("run-2", NOW + MINUTE)
    assert counts(longer) == {"a": 2}
    assert longer.committed().totals == Counts(measurements=2, late=1)


def test_what_any_earlier_run_of_an_hour_has_counted_is_a_duplicate(player):
    for run, sensor in enumerate(["1", "2", "3", "1"]):
        land(player, landed(sensor), number=run)
        player.run(f"run-{run}", NOW + run * MINUTE)
    assert player.committed().totals == Counts(measurements=3, duplicates=1)


def test_every_repetition_is_one_duplicate_also_where_two_hours_meet(player):
    for run in range(2):
        land(player, landed(timestamp=NOW), landed(timestamp=NOW + HOUR), number=run)
        player.run(f"run-{run}", NOW + run * MINUTE)
    assert player.committed().totals == Counts(measurements=2, duplicates=2)


def test_a_location_without_new_data_keeps_its_report(player):
    land(player, landed(location_id="a"), landed("2", location_id="b"))
    player.run("run-1", NOW)
    land(player, landed(location_id="b", timestamp=NOW + MINUTE), number=1)
    player.run("run-2", NOW + MINUTE)
    assert player.committed().reports == {"a": report_key("a", "run-1"), "b": report_key("b", "run-2")}
    assert counts(player) == {"a": 1, "b": 2}


def test_nothing_is_visible_or_consumed_before_the_commit(player):
    key = land(player, landed())
    player.start("run-1", NOW).advance_to("Commit")
    assert player.committed() == NO_MANIFEST
    assert key in player.store.s3.objects


def test_the_next_run_deletes_what_the_committed_one_consumed_and_superseded(player):
    first = land(player, landed(location_id="a"), landed("2", location_id="b"))
    player.run("run-1", NOW)
    second = land(player, landed(location_id="a", timestamp=NOW + MINUTE), number=1)
    player.run("run-2", NOW)
    assert first not in player.store.s3.objects
    old, kept = report_key("a", "run-1"), report_key("b", "run-1")
    assert {old, state_key(old)} <= player.store.s3.objects.keys(), "a reader may still be on the way to it"
    player.run("run-3", NOW)
    assert second not in player.store.s3.objects
    assert not {old, state_key(old)} & player.store.s3.objects.keys()
    assert {kept, state_key(kept)} <= player.store.s3.objects.keys()
    assert counts(player) == {"a": 2, "b": 1}


def test_what_tells_about_the_last_two_runs_is_kept_and_about_older_ones_deleted(player):
    for run in range(6):
        land(player, landed(str(run)), number=run)
        assert player.run(f"run-{run}", NOW).status == "SUCCEEDED"
    player.run("idle", NOW)
    kept = set(player.store.list_keys("runs/"))
    keys_of = (manifest_key, run_summary_key, locations_summary_key)
    assert kept == {key_of(run_id) for key_of in keys_of for run_id in ("run-4", "run-5")}


def test_a_receiver_claims_nothing_that_the_committed_run_has_counted(player):
    """Asked directly, since the workflow would try again and find the counted object deleted."""
    land(player, landed())
    player.run("run-1", NOW)
    new = land(player, landed("2"), number=1)
    request = RunRequest("r", NOW, SqsInput())
    assert player.process().receiver.receive(request).has_input
    assert player.ledger.read_manifest("r").landing == [new]


def test_seen_files_of_hours_that_can_no_longer_matter_are_deleted(player, monkeypatch):
    monkeypatch.setattr("chalicelib.analytics.receiver._REDELIVERY_MAX", 60 * MINUTE)
    for run in range(12):
        land(player, landed(timestamp=NOW + run * 60 * MINUTE), number=run)
        player.run(f"run-{run}", NOW + run * HOUR)
    named = {key for keys in player.committed().seen.values() for key in keys}
    # The last hour is 23; two hours of history, its window and an hour of redeliveries begin at 19:57.
    assert min(player.committed().seen) == "2026-03-01T19"
    land(player, landed(timestamp=NOW + 11 * 60 * MINUTE), number=99)
    player.start("run-99", NOW).advance_to("AnythingToReport")
    stored = [key for key in player.store.list_keys("state/seen/") if "/run-99/" not in key]
    assert set(stored) == named


def test_reports_and_the_sums_behind_them_have_their_names_by_contract():
    assert report_key("a", "run-1") == "reports/location_id=a/run-1.json"
    assert state_key(report_key("a", "run-1")) == "state/location_id=a/run-1.parquet"
