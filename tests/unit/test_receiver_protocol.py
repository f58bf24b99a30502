"""Exactly once: what the workflow promises when tasks repeat, runs overlap, and processes die at any point."""

import gzip
import json
import os
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import ObjectNotFoundError, ServiceUnavailableError, ValidationError
from chalicelib.landing import encode_landing, landing_key
from chalicelib.ledger import NO_MANIFEST, Counts, Ledger, manifest_key, report_key, state_key
from chalicelib.validation import convert
from chalicelib.workflow import RunRequest
from tests.factories import MINUTE, NOW, ODD_IDS, analytics_settings, landed
from tests.fakes import FakeDynamoDb, FakeObjectStore, service_error
from tests.workflow_player import LEDGER_TABLE, TaskFailedError, WorkflowPlayer

# Each example plays whole runs; THERMONET_EXAMPLES=500 looks harder than a quick suite can.
EXAMPLES = int(os.environ.get("THERMONET_EXAMPLES", "12"))


@pytest.fixture
def player():
    return new_player()


def new_player():
    return WorkflowPlayer(analytics_settings(history_hours=2), FakeObjectStore(), FakeDynamoDb({LEDGER_TABLE: "id"}))


def land(player, *measurements, number=0):
    key = landing_key(NOW + number * MINUTE, UUID(int=number))
    player.store.put(key, encode_landing(list(measurements)))
    return key


def counts(player):
    return {location: report.measurements for location, report in player.reports().items()}


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
    assert (report.location_id, report.run_id, report.generated_at, report.window_minutes) == ("a", "run-1", NOW, 5)


def test_a_run_without_anything_landed_succeeds_and_changes_nothing(player):
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.passed[-1]) == ("SUCCEEDED", "NothingToReport")
    assert player.store.objects == {}
    assert player.committed() == NO_MANIFEST


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
    assert key in player.store.objects


def test_the_next_run_deletes_what_the_committed_one_consumed_and_superseded(player):
    first = land(player, landed(location_id="a"), landed("2", location_id="b"))
    player.run("run-1", NOW)
    second = land(player, landed(location_id="a", timestamp=NOW + MINUTE), number=1)
    player.run("run-2", NOW)
    assert first not in player.store.objects
    old, kept = report_key("a", "run-1"), report_key("b", "run-1")
    assert {old, state_key(old)} <= player.store.objects.keys(), "a reader may still be on the way to it"
    player.run("run-3", NOW)
    assert second not in player.store.objects
    assert not {old, state_key(old)} & player.store.objects.keys()
    assert {kept, state_key(kept)} <= player.store.objects.keys()
    assert counts(player) == {"a": 2, "b": 1}


def test_the_manifests_of_the_last_two_runs_are_kept_and_older_ones_deleted(player):
    for run in range(6):
        land(player, landed(str(run)), number=run)
        assert player.run(f"run-{run}", NOW).status == "SUCCEEDED"
    player.run("idle", NOW)
    kept = [key for key in player.store.list_keys("runs/") if key.endswith("manifest.json")]
    assert kept == [manifest_key("run-4"), manifest_key("run-5")]


def test_a_receiver_claims_nothing_that_the_committed_run_has_counted(player):
    """Asked directly, since the workflow would try again and find the counted object deleted."""
    land(player, landed())
    player.run("run-1", NOW)
    new = land(player, landed("2"), number=1)
    request = convert({"run_id": "r", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS"}}, RunRequest)
    player.receiver.receive(request)
    assert player.ledger.read_manifest("r").landing == [new]


def test_seen_files_of_hours_that_can_no_longer_matter_are_deleted(player, monkeypatch):
    monkeypatch.setattr("chalicelib.receiver._REDELIVERY_MAX", 60 * MINUTE)
    for run in range(12):
        land(player, landed(timestamp=NOW + run * 60 * MINUTE), number=run)
        player.run(f"run-{run}", NOW)
    named = {key for keys in player.committed().seen.values() for key in keys}
    assert len(named) < 12
    land(player, landed(timestamp=NOW + 11 * 60 * MINUTE), number=99)
    player.start("run-99", NOW).advance_to("AnythingToReport")
    stored = [key for key in player.store.list_keys("state/seen/") if "/run-99/" not in key]
    assert set(stored) == named


def test_a_repeated_receiver_gives_the_same_answer_and_the_same_manifest(player):
    land(player, landed())
    request = convert({"run_id": "r", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS"}}, RunRequest)
    first = player.receiver.receive(request)
    manifest = player.store.get(manifest_key("r"))
    land(player, landed("2"), number=1)
    assert player.receiver.receive(request) == first
    assert player.store.get(manifest_key("r")) == manifest


def test_of_two_overlapping_attempts_at_a_run_the_first_manifest_decides(player):
    land(player, landed())
    request = convert({"run_id": "r", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS"}}, RunRequest)
    first = []

    def other_attempt(operation, key):
        if operation == "put_first" and not first:
            first.append(None)
            land(player, landed("2"), number=1)
            first[0] = player.receiver.receive(request)

    player.store.before = other_attempt
    second = player.receiver.receive(request)
    assert second == first[0]
    assert second.counts.measurements == 2


def test_a_repeated_reporter_writes_the_same_bytes(player):
    land(player, landed(), landed("2", location_id="b"))
    player.start("run-1", NOW).advance_to("Commit")
    before = dict(player.store.objects)
    player.order = lambda items: [*items, *reversed(items)]
    again = player.start("run-1", NOW)
    again.advance_to("Commit")
    assert {key for key in before if before[key] != player.store.objects[key]} == set()


def test_a_repeated_commit_changes_nothing(player):
    land(player, landed())
    execution = player.run("run-1", NOW)
    again = player.start("run-1", NOW).finish()
    assert (execution.status, again.status) == ("SUCCEEDED", "SUCCEEDED")
    assert again.passed[-1] == "Reported"
    assert counts(player) == {"a": 1}


def test_of_two_overlapping_runs_the_second_to_commit_has_no_effect(player):
    land(player, landed())
    slow, fast = player.start("slow", NOW), player.start("fast", NOW)
    slow.advance_to("Commit")
    fast.advance_to("Commit")
    assert fast.finish().passed[-1] == "Reported"
    committed = player.committed()
    assert slow.finish().passed[-1] == "Overtaken"
    assert player.committed() == committed
    assert player.notifications == []


def test_what_an_overtaken_run_had_and_the_other_had_not_is_counted_by_the_next(player):
    land(player, landed())
    fast = player.start("fast", NOW).advance_to("Commit")
    land(player, landed("2"), number=1)
    slow = player.start("slow", NOW).advance_to("Commit")
    fast.finish()
    slow.finish()
    assert counts(player) == {"a": 1}
    player.run("next", NOW + MINUTE)
    assert counts(player) == {"a": 2}
    assert player.committed().totals.duplicates == 0


def test_a_receiver_whose_input_was_consumed_meanwhile_tries_again_from_the_start(player):
    key = land(player, landed())

    def consumed_meanwhile(operation, accessed):
        if (operation, accessed) == ("get", key):
            player.store.before = lambda operation, key: None
            player.run("other", NOW)
            land(player, landed("2"), number=1)
            player.run("another", NOW + MINUTE)
            land(player, landed("3"), number=2)

    player.store.before = consumed_meanwhile
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.passed[-1]) == ("SUCCEEDED", "Reported")
    assert counts(player) == {"a": 3}


@pytest.mark.parametrize("when", ["get", "put", "put_first", "list_keys"])
def test_a_run_whose_storage_fails_notifies_publishes_nothing_and_loses_nothing(player, when):
    land(player, landed())

    def fail(operation, key):
        if operation == when:
            raise ServiceUnavailableError("no storage today")

    player.store.before = fail
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.error) == ("FAILED", "ServiceUnavailableError")
    assert execution.passed[-2:] == ["NotifyFailure", "Failed"]
    (notification,) = player.notifications
    assert notification["Message"]["run_id"] == "run-1"
    player.store.before = lambda operation, key: None
    assert player.committed() == NO_MANIFEST
    player.run("run-2", NOW + MINUTE)
    assert counts(player) == {"a": 1}


def test_a_commit_that_fails_for_good_notifies_and_the_next_run_counts_everything(player):
    land(player, landed())
    player.dynamodb.failing["update_item"] = service_error()
    execution = player.run("run-1", NOW)
    assert (execution.status, execution.error) == ("FAILED", "DynamoDB.InternalServerError")
    assert len(player.notifications) == 1
    player.dynamodb.failing.clear()
    player.run("run-2", NOW + MINUTE)
    assert counts(player) == {"a": 1}


def test_a_commit_whose_answer_was_lost_is_not_taken_for_a_lost_race(player):
    land(player, landed())
    lost = []

    def lose_the_first_answer(resource):
        if resource.endswith("updateItem") and not lost:
            lost.append(resource)
            player.dynamodb.update_item(
                TableName=LEDGER_TABLE,
                Key={"id": {"S": "head"}},
                UpdateExpression="SET run_id = :run_id",
                ExpressionAttributeValues={":run_id": {"S": "run-1"}},
            )
            raise TaskFailedError("States.TaskFailed", "the connection broke")

    player.before = lose_the_first_answer
    assert player.run("run-1", NOW).passed[-1] == "Reported"


def test_clean_up_that_failed_in_the_middle_is_repeated_by_the_next_run(player):
    keys = [land(player, landed(str(number)), number=number) for number in range(3)]
    player.run("run-1", NOW)

    def fail_at_the_last(operation, key):
        if (operation, key) == ("delete", keys[-1]):
            raise ServiceUnavailableError("no more")

    player.store.before = fail_at_the_last
    assert player.run("run-2", NOW).status == "FAILED"
    player.store.before = lambda operation, key: None
    assert player.run("run-3", NOW).passed[-1] == "NothingToReport"
    assert player.store.list_keys("landing/") == []
    assert counts(player) == {"a": 3}


def test_objects_of_an_earlier_run_that_appear_again_are_not_counted_again(player):
    key = land(player, landed())
    content = player.store.get(key)
    player.run("run-1", NOW)
    player.run("run-2", NOW)
    player.store.put(landing_key(NOW, UUID(int=77)), content)
    player.run("run-3", NOW)
    assert counts(player) == {"a": 1}


def test_a_message_delivered_twice_is_neither_counted_twice_nor_a_duplicate(player):
    delivered = msgspec.structs.replace(landed(), delivery=5)
    land(player, delivered, delivered)
    player.run("run-1", NOW)
    land(player, delivered, number=1)
    player.run("run-2", NOW)
    assert player.committed().totals == Counts(measurements=1)


def test_locations_with_odd_but_legal_ids_each_get_their_own_report(player):
    assert len(ODD_IDS) >= 20
    sensors = {location: landed(f"s{number}", location, float(number)) for number, location in enumerate(ODD_IDS)}
    land(player, *sensors.values())
    player.run("run-1", NOW)
    reports = player.reports()
    assert {location: report.minutes[0].mean for location, report in reports.items()} == {
        location: one.temperature for location, one in sensors.items()
    }
    assert all(report.location_id == location for location, report in reports.items())
    assert counts(player) == dict.fromkeys(ODD_IDS, 1)


def test_more_locations_than_one_copy_takes_each_get_their_report(player, monkeypatch):
    monkeypatch.setattr("chalicelib.grouping._LOCATIONS_PER_COPY", 4)
    land(player, *(landed(str(number), f"l{number}", float(number)) for number in range(9)))
    answer = player.start("run-1", NOW).advance_to("ReportLocations").answer
    tasks = json.loads(player.store.get(answer["locations_key"]))
    assert [task["location_id"] for task in tasks] == [f"l{number}" for number in range(9)]
    assert all(task["measurements_key"] in player.store.objects for task in tasks)


def test_a_damaged_landing_object_does_not_stop_the_run_and_its_good_lines_count(player):
    lines = gzip.decompress(encode_landing([landed(str(number)) for number in range(3)])).splitlines()
    lines[1] = b'{"sensor_id": "1", "temper'
    player.store.put(landing_key(NOW, UUID(int=9)), gzip.compress(b"\n".join(lines)))
    land(player, landed("good"), number=1)
    assert player.run("run-1", NOW).status == "SUCCEEDED"
    assert counts(player) == {"a": 3}
    assert player.committed().counts.invalid == 1
    assert len(player.store.list_keys("quarantine/")) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b""), gzip.compress(b"\x00\xff\n{}\n")],
    ids=["empty", "no gzip", "gzip of nothing", "gzip of no JSON"],
)
def test_a_landing_object_without_any_good_line_does_not_stop_the_run(player, content):
    player.store.put(landing_key(NOW, UUID(int=9)), content)
    land(player, landed(), number=1)
    assert player.run("run-1", NOW).status == "SUCCEEDED"
    assert counts(player) == {"a": 1}


def test_a_run_of_nothing_but_damage_succeeds_and_consumes_it(player):
    player.store.put(landing_key(NOW, UUID(int=9)), b"no gzip")
    assert player.run("run-1", NOW).status == "SUCCEEDED"
    assert player.run("run-2", NOW).passed[-1] == "NothingToReport"
    assert player.store.list_keys("landing/") == []


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"run_id": "r", "started_at": "2026-03-01T12:00:00Z", "input": {}},
        {"run_id": "r", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "FTP"}},
        {"run_id": "r", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "S3"}},
        {"run_id": "r", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "S3", "key": ""}},
        {"run_id": "r", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS", "key": "x"}},
        {"run_id": "r", "started_at": "2026-03-01T12:00:00", "input": {"source": "SQS"}},
        {"run_id": "a/b", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS"}},
        {"run_id": "", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS"}},
        {"run_id": "r\n", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS"}},
    ],
)
def test_a_request_that_breaks_the_contract_is_refused(request_):
    with pytest.raises(ValidationError):
        convert(request_, RunRequest)


def test_a_run_with_invalid_input_fails_without_a_retry_and_notifies(player):
    execution = player.run("run-1", NOW, {"source": "FTP"})
    assert (execution.status, execution.error) == ("FAILED", "ValidationError")
    assert len(player.notifications) == 1


def test_no_run_may_have_the_name_that_stands_for_no_run():
    with pytest.raises(ValidationError):
        convert(
            {"run_id": NO_MANIFEST.run_id, "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS"}}, RunRequest
        )


def test_a_manifest_that_is_missing_is_not_found(player):
    with pytest.raises(ObjectNotFoundError):
        player.ledger.read_manifest("nowhere")


def test_a_manifest_is_written_once_and_read_as_it_was_written(player):
    manifest = msgspec.structs.replace(NO_MANIFEST, run_id="r", reports={"a": "k"}, watermark=NOW)
    ledger = Ledger(LEDGER_TABLE, player.dynamodb, player.store)
    assert ledger.write_manifest(manifest) is True
    assert ledger.write_manifest(msgspec.structs.replace(manifest, landing=["x"])) is False
    assert ledger.read_manifest("r") == manifest


@settings(max_examples=EXAMPLES)
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
                next(execution.states, None)
            else:
                execution.finish()
        seen_now = counts(player) if player.committed() != NO_MANIFEST else {}
        assert sum(seen_now.values()) <= landed_count
    assert player.run("last", NOW).status == "SUCCEEDED"
    assert sum(counts(player).values()) == landed_count if landed_count else player.committed() == NO_MANIFEST
    totals = player.committed().totals
    assert totals == Counts(measurements=landed_count)
