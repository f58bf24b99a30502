"""What runs make of repeated, odd and damaged input, what they refuse, and the ledger's manifests."""

import json
import sys
from types import SimpleNamespace
from uuid import UUID

import duckdb
import pytest
from msgspec import structs

from chalicelib.analytics.deduplication import write_shares
from chalicelib.analytics.workflow import ClaimRequest, ReceiveRequest
from chalicelib.errors import ObjectNotFoundError, ValidationError
from chalicelib.fields import format_time
from chalicelib.landing import encode_landing, landing_key
from chalicelib.ledger import NO_MANIFEST, NO_RUN, Counts, next_run_id, report_key, run_folder, run_number, run_of
from chalicelib.validation import convert
from tests.factories import DAY, HOUR, NOW, ODD_IDS, flip, landed
from tests.runs import counts, land, new_player


@pytest.fixture
def player():
    return new_player()


def delivered(delivery, place=0, **fields):
    return structs.replace(landed(**fields), delivery=delivery, place=place)


def test_objects_of_an_earlier_run_that_appear_again_are_not_counted_again(player):
    rows = [delivered(5), landed("2")]
    land(player, *rows)
    player.run("run-1", NOW)
    player.run("run-2", NOW)
    land(player, *rows, number=1)
    player.run("run-3", NOW)
    assert counts(player) == {"a": 2}
    assert player.committed().totals == Counts(measurements=2, duplicates=1)


MESSAGE = [delivered(5, 0), delivered(5, 1, sensor_id="2"), delivered(5, 2, sensor_id="2", value=1.0)]


@pytest.mark.parametrize("runs", [[MESSAGE + MESSAGE], [MESSAGE, MESSAGE], [MESSAGE, [], MESSAGE]])
def test_a_message_delivered_twice_is_neither_counted_twice_nor_a_duplicate(player, runs):
    for number, rows in enumerate(runs):
        if rows:
            land(player, *rows, number=number)
        player.run(f"run-{number}", NOW + number * HOUR)
    assert player.committed().totals == Counts(measurements=2, duplicates=1, conflicts=1)


def test_one_delivery_is_of_one_location(player):
    """Two messages may share the number, which has 31 bits."""

    def everywhere(delivery, **fields):
        return [delivered(delivery, location_id=one, **fields) for one in ("a", "b")]

    land(player, *everywhere(5))
    player.run("run-1", NOW)
    land(player, *everywhere(5), delivered(5, location_id="c"), number=1)
    player.run("run-2", NOW)
    assert counts(player) == {"a": 1, "b": 1, "c": 1}
    assert player.committed().totals == Counts(measurements=3)
    land(player, *everywhere(6, value=1.0), *everywhere(7, timestamp=NOW - 9 * HOUR), number=2)
    player.run("run-3", NOW)
    assert player.committed().counts == Counts(measurements=2, duplicates=2, conflicts=2, late=2)


def test_no_module_is_searched_for_more_often_the_more_objects_there_are(player, monkeypatch):
    """DuckDB tries to import pandas for what it is given."""
    searched = []
    finder = SimpleNamespace(find_spec=lambda name, path=None, target=None: searched.append(name))
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    searches = []
    for run, objects in enumerate((1, 20, 20)):
        for number in range(objects):
            land(player, landed(f"{run}-{number}"), number=100 * run + number)
        execution = player.start(f"run-{run}", NOW).advance_to("Receive")
        searched.clear()
        execution.step()
        searches.append(len(searched))
    assert searches[2] == searches[1] <= searches[0]


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


def test_no_disk_takes_the_files_of_two_locations_for_one(tmp_path):
    """A disk may not tell `A` from `a`, as those of macOS do not."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE incoming (sensor_id VARCHAR, location_id VARCHAR, measured_at TIMESTAMP, temperature DOUBLE)"
    )
    connection.execute("CREATE TABLE dropped (location_id VARCHAR, is_conflict BOOLEAN)")
    location_ids = sorted({*ODD_IDS, "a", "A", "ab", "aB", "Ab", "AB"})
    rows = [[location_id] for location_id in location_ids]
    connection.executemany("INSERT INTO incoming VALUES ('s', ?, TIMESTAMP '2026-03-01', 1.0)", rows)
    written = {one.location_id: one.file for one in write_shares(connection, tmp_path)}
    assert list(written) == location_ids
    assert len({str(file).casefold() for file in written.values()}) == len(location_ids)


def test_more_locations_than_one_copy_takes_each_get_their_report(player, monkeypatch):
    monkeypatch.setattr("chalicelib.analytics.deduplication._LOCATIONS_PER_COPY", 4)
    land(player, *(landed(str(number), f"l{number}", float(number)) for number in range(9)))
    execution = player.start("run-1", NOW).advance_to("ReportLocations")
    tasks = json.loads(player.store.get(execution.plan["locations_key"]))
    assert [task["location_id"] for task in tasks] == [f"l{number}" for number in range(9)]
    assert all(task["increments_key"] in player.store.s3.objects for task in tasks)
    execution.finish()
    assert counts(player) == {f"l{number}": 1 for number in range(9)}


def test_a_location_with_nothing_but_duplicates_gets_its_report_without_new_sums(player):
    land(player, landed(), landed(location_id="b"))
    player.run("run-1", NOW)
    land(player, landed(), number=1)
    execution = player.start("run-2", NOW).advance_to("ReportLocations")
    (task,) = json.loads(player.store.get(execution.plan["locations_key"]))
    assert (task["location_id"], task["increments_key"]) == ("a", None)
    execution.finish()
    report = player.reports()["a"]
    assert (report.measurements, report.duplicates, len(report.minutes)) == (1, 1, 1)


def test_a_damaged_landing_object_is_set_aside_whole_and_the_others_count(player):
    rows = [landed(str(number)) for number in range(3)]
    whole = encode_landing(rows)
    damaged, key = flip(whole, 8 * (len(whole) // 2)), landing_key(NOW, rows, whole, is_late=False)
    player.store.put(key, damaged)
    good = land(player, landed("good"), number=1)
    assert player.run("run-1", NOW).status == "SUCCEEDED"
    assert counts(player) == {"a": 1}
    manifest = player.committed()
    assert (manifest.counts, manifest.landing) == (Counts(measurements=1, quarantined=3), [good])
    assert [(one.key, one.rows) for one in manifest.quarantine] == [(key, 3)]
    assert key in player.store.s3.objects, "until it is committed that nobody counts it"
    player.run("run-2", NOW)
    assert player.store.list_keys("landing/") == []
    assert player.store.get(key.replace("landing/", "quarantine/")) == damaged
    assert player.committed().totals == Counts(measurements=1, quarantined=3)


@pytest.mark.parametrize("content", [b"", b"no gzip"])
def test_what_is_refused_adds_up_over_the_portions_in_which_objects_are_loaded(player, monkeypatch, content):
    monkeypatch.setattr("chalicelib.analytics.landing_input._OBJECTS_AT_A_TIME", 2)
    for number in range(5):
        player.store.put(land(player, landed(str(number)), landed("x"), number=number), content)
    land(player, landed(), number=9)
    player.run("run-1", NOW)
    assert player.committed().counts == Counts(measurements=1, quarantined=10)
    player.run("run-2", NOW)
    assert (player.ledger.tallies().quarantine.objects, player.committed().quarantined) == (5, 5)


def test_a_set_aside_object_is_counted_once_however_many_claims_set_it_aside(player):
    player.store.put(land(player, landed()), b"")
    player.run("run-1", NOW)
    late_claims = [player.start(f"late-{number}", NOW) for number in range(3)]
    for execution in late_claims:
        execution.step()
    (key,) = [refused.key for refused in player.committed().quarantine]
    player.store.put(key, b"")
    player.run("again", NOW)
    assert player.ledger.tallies().quarantine.objects == 1
    assert len(player.store.list_keys("quarantine/")) == 1


STARTED = {"execution": "r", "started_at": "2026-03-01T12:00:00Z"}


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {**STARTED, "input": {}},
        {**STARTED, "input": {"source": "FTP"}},
        {**STARTED, "input": {"source": "S3"}},
        {**STARTED, "input": {"source": "S3", "key": ""}},
        {**STARTED, "input": {"source": "SQS", "key": "x"}},
        {**STARTED, "started_at": "2026-03-01T12:00:00", "input": {"source": "SQS"}},
        {**STARTED, "execution": "a/b", "input": {"source": "SQS"}},
        {**STARTED, "execution": "", "input": {"source": "SQS"}},
        {**STARTED, "execution": "r\n", "input": {"source": "SQS"}},
    ],
)
def test_a_request_for_a_claim_that_breaks_the_contract_is_refused(request_):
    with pytest.raises(ValidationError):
        convert(request_, ClaimRequest)


@pytest.mark.parametrize("run_id", ["", "a/b", NO_RUN, "000000000001-0123456789abcdef\n", "../x"])
def test_a_request_to_the_receiver_names_an_attempt(run_id):
    with pytest.raises(ValidationError):
        convert({"run_id": run_id, "claim_key": "runs/x/claim.json"}, ReceiveRequest)


def test_a_run_with_invalid_input_fails_without_a_retry_and_notifies(player):
    execution = player.run("run-1", NOW, {"source": "FTP"})
    assert (execution.status, execution.error["Error"]) == ("FAILED", "ValidationError")
    assert execution.passed == ["Claim", "NotifyFailure", "Failed"]
    assert len(player.notifications) == 1


@pytest.mark.parametrize("location_id", ODD_IDS)
def test_a_reports_key_tells_its_run(location_id):
    run_id = next_run_id(NO_RUN, UUID(int=5 << 64))
    assert (run_id, run_number(run_id)) == ("000000000001-0000000000000005", 1)
    assert run_of(report_key(run_folder(run_id), location_id, "try")) == run_id


def test_a_manifest_that_is_missing_is_not_found(player):
    with pytest.raises(ObjectNotFoundError):
        player.ledger.read_manifest("nowhere")


def test_before_the_first_run_there_is_a_manifest_to_continue_from(player):
    assert player.ledger.head() is None
    assert player.ledger.committed() == player.ledger.read_manifest(NO_RUN) == NO_MANIFEST


def test_of_several_manifests_of_a_run_all_get_the_one_that_was_written_first(player):
    manifest = structs.replace(NO_MANIFEST, run_id="r", reports={"a": "k"}, created_at=format_time(NOW))
    assert player.ledger.write_manifest("runs/r", manifest) == manifest
    other = structs.replace(manifest, landing=["x"], created_at=format_time(NOW + DAY))
    assert player.process().ledger.write_manifest("runs/r", other) == manifest
    assert player.ledger.read_manifest("r") == manifest
