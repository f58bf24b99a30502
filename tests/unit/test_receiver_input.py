"""What the receiver makes of repeated, odd, damaged and invalid input, and of its own manifest."""

import gzip
import json
import sys
from types import SimpleNamespace
from uuid import UUID

import duckdb
import msgspec
import pytest

from chalicelib.analytics.deduplication import write_partitions
from chalicelib.analytics.workflow import RunAnswer, RunRequest, SqsInput
from chalicelib.errors import ObjectNotFoundError, ValidationError
from chalicelib.fields import format_time
from chalicelib.landing import encode_landing, landing_key
from chalicelib.ledger import NO_MANIFEST, Counts, Ledger, report_key, run_of_report
from chalicelib.validation import convert
from tests.contracts import LEDGER_TABLE
from tests.factories import HOUR, NOW, ODD_IDS, landed
from tests.runs import counts, land, new_player


@pytest.fixture
def player():
    return new_player()


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


def test_one_delivery_is_of_one_location(player):
    """Two messages may share the number, which has 32 bits."""

    def everywhere(delivery, **fields):
        return [msgspec.structs.replace(landed(location_id=one, **fields), delivery=delivery) for one in ("a", "b")]

    land(player, *everywhere(5))
    player.run("run-1", NOW)
    land(player, *everywhere(5), msgspec.structs.replace(landed(location_id="c"), delivery=5), number=1)
    player.run("run-2", NOW)
    assert counts(player) == {"a": 1, "b": 1, "c": 1}
    assert player.committed().totals == Counts(measurements=3)
    land(player, *everywhere(6, temperature=1.0), *everywhere(7, timestamp=NOW - 9 * HOUR), number=2)
    player.run("run-3", NOW)
    assert player.committed().counts == Counts(duplicates=2, conflicts=2, late=2)


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
        searched.clear()
        player.process().receiver.receive(RunRequest(f"run-{run}", NOW, SqsInput()))
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
    connection.execute("CREATE TABLE fresh (sensor_id VARCHAR, location_id VARCHAR, delivery VARCHAR)")
    connection.execute("CREATE TABLE dropped (location_id VARCHAR, outcome VARCHAR)")
    location_ids = sorted({*ODD_IDS, "a", "A", "ab", "aB", "Ab", "AB"})
    connection.executemany("INSERT INTO fresh VALUES ('s', ?, NULL)", [[location_id] for location_id in location_ids])
    written = {one.location_id: one.file for one in write_partitions(connection, tmp_path)}
    assert list(written) == location_ids
    assert len({str(file).casefold() for file in written.values()}) == len(location_ids)


def test_more_locations_than_one_copy_takes_each_get_their_report(player, monkeypatch):
    monkeypatch.setattr("chalicelib.analytics.deduplication._LOCATIONS_PER_COPY", 4)
    land(player, *(landed(str(number), f"l{number}", float(number)) for number in range(9)))
    answer = player.start("run-1", NOW).advance_to("ReportLocations").answer
    tasks = json.loads(player.store.get(answer["locations_key"]))
    assert [task["location_id"] for task in tasks] == [f"l{number}" for number in range(9)]
    assert all(task["measurements_key"] in player.store.s3.objects for task in tasks)


def test_a_damaged_landing_object_does_not_stop_the_run_and_its_good_lines_count(player):
    lines = gzip.decompress(encode_landing([landed(str(number)) for number in range(3)])).splitlines()
    lines[1] = b'{"sensor_id": "1", "temper'
    damaged_key, damaged = landing_key(NOW, UUID(int=9)), gzip.compress(b"\n".join(lines))
    player.store.put(damaged_key, damaged)
    land(player, landed("good"), number=1)
    assert player.run("run-1", NOW).status == "SUCCEEDED"
    assert counts(player) == {"a": 3}
    assert player.committed().counts.invalid == 1
    (quarantined_key,) = player.store.list_keys("quarantine/")
    assert quarantined_key == damaged_key.replace("landing/", "quarantine/")
    assert player.store.get(quarantined_key) == damaged


def test_a_run_with_nothing_to_do_names_the_run_before_and_no_files(player):
    land(player, landed())
    player.run("run-1", NOW)
    answer = player.start("run-2", NOW).advance_to("NothingToReport").answer
    assert convert(answer, RunAnswer) == RunAnswer("run-2", False, "run-1", "", "", 0, Counts())


def test_every_object_that_a_run_claims_is_in_the_log(player, monkeypatch, caplog):
    monkeypatch.setattr("chalicelib.analytics.receiver._KEYS_PER_LOG_LINE", 2)
    keys = [land(player, landed(str(number)), number=number) for number in range(5)]
    with caplog.at_level("INFO", logger="chalicelib.analytics.receiver"):
        player.run("run-1", NOW)
    logged = [record.landing_keys for record in caplog.records if record.message == "claimed"]
    assert logged == [keys[:2], keys[2:4], keys[4:]]


def test_what_is_invalid_adds_up_over_the_portions_in_which_objects_are_loaded(player, monkeypatch):
    monkeypatch.setattr("chalicelib.analytics.receiver._OBJECTS_AT_A_TIME", 2)
    for number in range(5):
        player.store.put(landing_key(NOW, UUID(int=number)), gzip.compress(b"{}\n"))
    land(player, landed(), number=9)
    player.run("run-1", NOW)
    assert player.committed().counts == Counts(measurements=1, invalid=5)


def test_a_run_over_the_queue_tells_how_many_sensors_broke_since_the_last_and_one_over_a_file_none(player):
    ledger = player.dynamodb.tables[LEDGER_TABLE]
    seen = []
    for run_id, broken in (("run-1", 3), ("run-2", 5)):
        ledger["broken-sensors-7"] = {"id": {"S": "broken-sensors-7"}, "sensors": {"N": str(broken)}}
        land(player, landed(run_id), number=broken)
        player.run(run_id, NOW)
        seen.append((player.committed().broken_sensors, player.committed().newly_broken_sensors))
    assert seen == [(3, 3), (5, 2)]
    player.store.put("old.csv", b"sensor_id,location_id,temperature,timestamp\n1,a,20.0,2026-03-01T10:00:00Z\n")
    assert player.run("static-1", NOW, {"source": "S3", "key": "old.csv"}).status == "SUCCEEDED"
    static = player.ledger.read_manifest("static-1")
    assert (static.broken_sensors, static.newly_broken_sensors) == (0, 0)


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
    assert (execution.status, execution.error["Error"]) == ("FAILED", "ValidationError")
    assert len(player.notifications) == 1


def test_no_run_may_have_the_name_that_stands_for_no_run():
    with pytest.raises(ValidationError):
        convert(
            {"run_id": NO_MANIFEST.run_id, "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS"}}, RunRequest
        )


@pytest.mark.parametrize("location_id", ODD_IDS)
def test_a_reports_key_tells_its_run(location_id):
    assert run_of_report(report_key(location_id, "run.1")) == "run.1"


def test_a_manifest_that_is_missing_is_not_found(player):
    with pytest.raises(ObjectNotFoundError):
        player.ledger.read_manifest("nowhere")


def test_a_manifest_is_written_once_and_read_as_it_was_written(player):
    manifest = msgspec.structs.replace(NO_MANIFEST, run_id="r", reports={"a": "k"}, watermark=format_time(NOW))
    ledger = Ledger(LEDGER_TABLE, player.dynamodb, player.store)
    assert ledger.write_manifest(manifest) is True
    assert ledger.write_manifest(msgspec.structs.replace(manifest, landing=["x"])) is False
    assert ledger.read_manifest("r") == manifest
