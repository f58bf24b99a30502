"""What a run publishes, carries forward, and leaves alone, and which states it passes."""

import re

import msgspec
import pytest
from msgspec import structs

from chalicelib.fields import format_time
from chalicelib.ledger import (
    NO_MANIFEST,
    NO_RUN,
    Counts,
    Manifest,
    manifest_key,
    report_key,
    run_folder,
    run_number,
    state_key,
)
from chalicelib.reports import LocationLatest, LocationsSummary
from tests.contracts import LEDGER_TABLE
from tests.factories import HOUR, MINUTE, NOW, analytics_settings, landed
from tests.runs import counts, land, new_player

RUN_ID = re.compile(r"\d{12}-[0-9a-f]{16}")
FIRST_STATES = ["Claim", "AnythingToDo", "Receive", "AnythingToReport"]
LAST_STATES = ["Summarize", "Committable", "Commit", "Reported"]


@pytest.fixture
def player():
    return new_player()


def test_a_run_publishes_a_report_and_names_all_about_itself_in_its_manifest(player):
    key = land(player, landed(), landed("2"))
    execution = player.run("run-1", NOW)
    assert execution.status == "SUCCEEDED"
    assert execution.passed == [*FIRST_STATES, "ReportLocations", *LAST_STATES]
    manifest = player.committed()
    assert RUN_ID.fullmatch(manifest.run_id)
    assert run_number(manifest.run_id) == 1
    assert (manifest.execution, manifest.previous_run_id, manifest.landing) == ("run-1", NO_RUN, [key])
    assert (manifest.counts, manifest.totals) == (Counts(measurements=2), Counts(measurements=2))
    (report_name,) = manifest.reports.values()
    assert report_name.startswith(f"{run_folder(manifest.run_id)}/reports/location_id=a/")
    report = player.reports()["a"]
    assert (report.location_id, report.run_id, report.generated_at, report.window_minutes) == (
        "a", manifest.run_id, "2026-03-01T12:00:00.000Z", 5,
    )  # fmt: skip


def test_a_run_with_nothing_to_do_succeeds_and_changes_nothing(player):
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.passed) == ("SUCCEEDED", ["Claim", "AnythingToDo", "NothingToDo"])
    assert player.store.s3.objects == {}
    assert player.committed() == NO_MANIFEST


def test_a_run_with_only_the_archive_to_hand_over_commits_without_a_report(player):
    land(player, landed())
    player.run("run-1", NOW)
    first = player.committed()
    execution = player.run("run-2", NOW + MINUTE)
    assert execution.passed == [*FIRST_STATES, *LAST_STATES]
    second = player.committed()
    assert (len(first.entries), second.entries, second.spool) == (1, [], [])
    assert player.store.list_keys("archive/") == [first.entries[0].key]
    assert (second.archived_through, run_number(second.run_id)) == (2, 2)
    assert (second.reports, second.totals, second.counts) == (first.reports, first.totals, Counts())
    assert player.run("run-3", NOW + MINUTE).passed[-1] == "NothingToDo"


def test_an_interval_that_ends_is_enough_for_a_run_while_the_spool_has_rows(player):
    interval = player.settings.archive.interval_minutes * MINUTE
    for number in range(2):
        land(player, landed(str(number)), number=number)
        player.run(f"run-{number}", NOW)
    assert len(player.committed().spool) == 1
    assert player.run("before", NOW + interval - MINUTE).passed[-1] == "NothingToDo"
    execution = player.run("after", NOW + interval)
    assert execution.passed == [*FIRST_STATES, *LAST_STATES]
    assert (len(player.committed().entries), player.committed().spool) == (1, [])


def test_a_run_with_nothing_but_damage_commits_without_a_report_and_the_next_claim_sets_it_aside(player):
    key = land(player, landed())
    player.store.put(key, b"no gzip")
    assert player.run("run-1", NOW).passed == [*FIRST_STATES, *LAST_STATES]
    manifest = player.committed()
    assert ([refused.key for refused in manifest.quarantine], manifest.landing, manifest.reports) == ([key], [], {})
    assert (manifest.counts, manifest.quarantined) == (Counts(quarantined=1), 1)
    assert player.run("run-2", NOW).passed[-1] == "NothingToDo"
    assert player.store.list_keys("landing/") == []
    assert player.store.list_keys("quarantine/") == [key.replace("landing/", "quarantine/")]
    assert player.ledger.tallies().quarantine.objects == 1


def test_a_run_leaves_the_latest_of_every_location_also_of_one_without_news(player):
    land(player, landed(temperature=20.0), landed(temperature=30.0, timestamp=NOW + MINUTE), landed("2", "b"))
    player.run("run-1", NOW)
    land(player, landed("3", "c", timestamp=NOW - 9 * HOUR), landed("2", "b", 45.0, NOW + MINUTE), number=1)
    player.run("run-2", NOW)
    content = player.store.get(player.committed().locations_summary_key)
    assert msgspec.json.decode(content, type=LocationsSummary).locations == [
        LocationLatest("a", format_time(NOW + MINUTE), 25.0),
        LocationLatest("b", format_time(NOW + MINUTE), 40.0),
        LocationLatest("c", format_time(NOW - 9 * HOUR), 35.0),
    ]


def test_a_run_that_lacks_a_locations_report_fails_and_publishes_nothing(player):
    land(player, landed(location_id="a"), landed("2", location_id="b"))
    player.order = lambda items: items[:-1]
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.error["Error"]) == ("FAILED", "ObjectNotFoundError")
    assert execution.passed[-5:] == ["Summarize", "WasOvertaken", "IsOvertaken", "NotifyFailure", "Failed"]
    assert player.committed() == NO_MANIFEST


def test_late_is_what_lies_before_the_newest_minute_that_an_earlier_run_had_of_its_own_location(player):
    land(player, landed("fast", "a", timestamp=NOW + 5 * MINUTE), landed("1", "b", timestamp=NOW))
    player.run("run-1", NOW)
    assert player.committed().counts == Counts(measurements=2)
    land(
        player,
        *(landed(f"b{seconds}", "b", timestamp=NOW + seconds * MINUTE / 60) for seconds in (-1, 0, 59, 60)),
        landed("2", "a", timestamp=NOW),
        landed("1", "new", timestamp=NOW - 9 * HOUR),
        number=1,
    )
    player.run("run-2", NOW)
    assert {location: report.late for location, report in player.reports().items()} == {"a": 1, "b": 1, "new": 0}
    assert player.committed().counts == Counts(measurements=6, late=2)
    assert player.committed().totals == Counts(measurements=8, late=2)


def test_settings_that_change_behind_the_claim_are_those_of_the_next_run(player):
    old = landed("2", timestamp=NOW - 3 * HOUR)
    land(player, landed(), old)
    execution = player.start("run-1", NOW).advance_to("Receive")
    player.settings = structs.replace(player.settings, analytics=analytics_settings(9, history_hours=6))
    execution.finish()
    report = player.reports()["a"]
    assert (report.window_minutes, len(report.minutes), report.measurements) == (5, 1, 2)
    land(player, landed(timestamp=NOW - 4 * HOUR), landed(timestamp=NOW - 7 * HOUR), number=1)
    player.run("run-2", NOW)
    report = player.reports()["a"]
    assert (report.window_minutes, len(report.minutes), report.measurements) == (9, 2, 4)


def test_what_any_earlier_run_has_counted_is_a_duplicate(player):
    for run, sensor in enumerate(["1", "2", "3", "1"]):
        land(player, landed(sensor), number=run)
        player.run(f"run-{run}", NOW + run * MINUTE)
    assert player.committed().totals == Counts(measurements=3, duplicates=1)


def test_every_repetition_is_one_duplicate_also_where_two_days_meet(player):
    for run in range(2):
        land(player, landed(timestamp=NOW), landed(timestamp=NOW - 13 * HOUR), number=run)
        player.run(f"run-{run}", NOW + run * MINUTE)
    assert player.committed().totals == Counts(measurements=2, duplicates=2)


def test_a_location_without_new_data_keeps_its_report(player):
    land(player, landed(location_id="a"), landed("2", location_id="b"))
    player.run("run-1", NOW)
    first = player.committed()
    land(player, landed(location_id="b", timestamp=NOW + MINUTE), number=1)
    player.run("run-2", NOW + MINUTE)
    second = player.committed()
    assert second.reports["a"] == first.reports["a"]
    assert second.reports["b"].startswith(run_folder(second.run_id))
    assert counts(player) == {"a": 1, "b": 2}


def test_nothing_is_visible_or_consumed_before_the_commit(player):
    key = land(player, landed())
    player.start("run-1", NOW).advance_to("Commit")
    assert player.committed() == NO_MANIFEST
    assert key in player.store.s3.objects


def test_a_run_over_the_queue_tells_how_many_sensors_broke_since_the_last_and_one_over_a_file_none(player):
    seen = []
    for run, broken in enumerate((3, 5)):
        counter = {"id": {"S": "broken-sensors-7"}, "sensors": {"N": str(broken)}}
        player.dynamodb.tables[LEDGER_TABLE]["broken-sensors-7"] = counter
        land(player, landed(str(run)), number=run)
        player.run(f"run-{run}", NOW)
        seen.append((player.committed().broken_sensors, player.committed().newly_broken_sensors))
    assert seen == [(3, 3), (5, 2)]
    player.store.put("old.csv", b"sensor_id,location_id,temperature,timestamp\n1,a,20.0,2026-03-01T10:00:00Z\n")
    key = player.run("static", NOW, {"source": "S3", "key": "old.csv"}).answer["manifest_key"]
    static = msgspec.json.decode(player.store.get(key), type=Manifest)
    assert (static.broken_sensors, static.newly_broken_sensors) == (0, 0)


def test_what_tells_of_a_run_has_its_name_by_contract():
    folder = run_folder("000000000012-0123456789abcdef")
    assert manifest_key(folder) == "runs/000000000012-0123456789abcdef/manifest.json"
    key = report_key(folder, "a", "fedcba9876543210")
    assert key == "runs/000000000012-0123456789abcdef/reports/location_id=a/fedcba9876543210.json"
    assert state_key(key) == "runs/000000000012-0123456789abcdef/state/location_id=a/fedcba9876543210.parquet"


def test_a_run_over_the_queue_names_no_reports(player):
    land(player, landed())
    assert player.run("run-1", NOW).answer["reports"] == []
