"""The routes that people and dashboards read, through the real app, on what runs have written."""

import itertools

import pytest
from msgspec import structs

from chalicelib.ledger import Counts, manifest_key, run_folder
from chalicelib.quarantine_count import QuarantineCount
from tests.contracts import LEDGER_TABLE
from tests.factories import HOUR, NOW, SETTINGS, posted
from tests.runs import commit_run, player_on, settle


@pytest.fixture
def player(stage):
    return player_on(stage)


@pytest.fixture
def run(stage):
    """A function that commits a run over the measurements given as (location, minute, temperature)."""
    numbers = itertools.count(1)
    return lambda *measurements: commit_run(stage, next(numbers), *measurements)


def test_what_arrives_long_after_it_was_measured_is_reported_like_all_else(stage, run):
    run(("a", 0, 20.0))
    run(("tardy", -60 * 48, 20.0))
    assert stage.get("/locations").json_body["locations"][1] == {
        "location_id": "tardy",
        "last_timestamp": "2026-02-27T12:00:00.000Z",
        "moving_average": 20.0,
    }


def test_the_latest_run_tells_its_books_and_those_of_all_runs(stage, run):
    first = run(("a", 0, 20.0), ("a", 0, 20.0), ("b", 0, 20.0))
    second = run(("a", 1, 20.0), ("b", 2, 20.0), ("b", -60 * 48, 20.0))
    assert stage.get("/runs/latest").json_body == {
        "run_id": second.run_id,
        "previous_run_id": first.run_id,
        "execution": "execution-2",
        "started_at": "2026-03-01T14:00:00.000Z",
        "locations": 2,
        "counts": structs.asdict(Counts(measurements=3, late=1)),
        "totals": structs.asdict(Counts(measurements=5, duplicates=1, late=1)),
        "quarantined": 0,
        "newly_broken_sensors": 0,
        "broken_sensors": 0,
        "latest_measurement": "2026-03-01T12:02:00.000Z",
        "status_below_celsius": structs.asdict(SETTINGS.status_below_celsius),
    }


def test_the_run_before_the_first_has_no_name(stage, run):
    run(("a", 0, 20.0))
    assert stage.get("/runs/latest").json_body["previous_run_id"] is None


def test_objects_in_quarantine_are_counted_when_a_run_is_summed_up_until_they_are_brought_back(stage, run):
    quarantine = QuarantineCount(LEDGER_TABLE, stage.aws("dynamodb"))
    for name in ("m1.json", "m2.json"):
        quarantine.set_aside(f"quarantine/{name}")
    quarantine.brought_back("quarantine/m1.json", rows=5)
    run(("a", 0, 20.0))
    quarantine.set_aside("quarantine/m3.json")
    assert stage.get("/runs/latest").json_body["quarantined"] == 1


def broken_in_latest_run(stage):
    run = stage.get("/runs/latest").json_body
    return run["newly_broken_sensors"], run["broken_sensors"]


def test_a_run_tells_how_many_sensors_broke_since_the_run_before(stage, run):
    for sensor in ("1", "2", "2", "2"):
        stage.post(posted(sensor_id=sensor, value=25_000))
    run(("a", 0, 20.0))
    assert broken_in_latest_run(stage) == (2, 2)
    stage.post(posted(sensor_id="1", value=30_000))
    stage.post({"readings": [posted(sensor_id=sensor, value=0) for sensor in ("3", "4", "5", "1")]})
    run(("a", 1, 20.0))
    assert broken_in_latest_run(stage) == (3, 5)
    run(("a", 2, 20.0))
    assert broken_in_latest_run(stage) == (0, 5)


def test_sensors_that_break_while_nothing_is_measured_are_told_by_the_next_run(stage, run, player):
    run(("a", 0, 20.0))
    settle(player, NOW + HOUR)
    stage.post(posted(value=25_000))
    assert player.run("nothing", NOW + HOUR).passed[-1] == "NothingToDo"
    run(("a", 1, 20.0))
    assert broken_in_latest_run(stage) == (1, 1)


def test_before_the_first_run_there_are_no_locations_and_no_reports(stage):
    assert stage.get("/locations").json_body == {"locations": []}
    assert stage.get("/runs/latest").status_code == 404
    assert stage.get("/locations/a/report").status_code == 404


def test_a_reader_whom_runs_overtake_is_given_the_new_report(stage, run, restart, monkeypatch):
    from chalicelib.ledger import Ledger

    overtaken = run(("a", 0, 20.0))
    newest = [run(("a", minute, 30.0)) for minute in (1, 2, 3)][-1]
    now, heads = Ledger.head, iter([overtaken.run_id])
    # A head of three runs ago, whose manifest is gone, then what is really there.
    monkeypatch.setattr(Ledger, "head", lambda ledger: next(heads, None) or now(ledger))
    restart()
    assert stage.get("/locations/a/report").json_body["run_id"] == newest.run_id


def test_damaged_data_of_our_own_is_no_fault_of_the_caller(stage, run, restart, subtests):
    committed = run(("a", 0, 20.0))
    damages = {
        "/locations/a/report?since=2026-03-01T12:00:00Z": committed.reports["a"],
        "/locations/a/report": manifest_key(run_folder(committed.run_id)),
    }
    for path, damaged in damages.items():
        with subtests.test(path):
            assert damaged in stage.keys(damaged)
            stage.put_object(damaged, b'{"run_id":"r"}')
            # What a process has read it does not read again.
            restart()
            assert stage.get(path).status_code == 503
