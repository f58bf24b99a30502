"""A file as the workflow's input: formats, bad rows beside good ones, and errors that name what is wrong."""

import gzip
import json
import re

import duckdb
import msgspec
import pytest

from chalicelib.ledger import NO_MANIFEST, NO_RUN, Counts, Manifest
from tests.factories import MINUTE, NOW, landed
from tests.runs import land, new_player

COLUMNS = ["sensor_id", "location_id", "temperature", "timestamp"]
ROWS = [
    ["1", "a", 20.5, "2026-03-01T11:58:00Z"],
    ["2", "a", 21.5, "2026-03-01T11:58:30Z"],
    ["3", "b:c", -4.0, "2026-03-01T11:59:00Z"],
]


@pytest.fixture
def player():
    return new_player(history_hours=24)


def csv(rows=ROWS, columns=COLUMNS, separator=","):
    return "".join(separator.join(map(str, row)) + "\n" for row in [columns, *rows]).encode()


def json_lines(rows=ROWS):
    return "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows).encode()


def parquet(tmp_path, rows=ROWS, types=("VARCHAR", "VARCHAR", "DOUBLE", "VARCHAR")):
    file = tmp_path / "input.parquet"
    columns = ", ".join(f"unnest(?::{type_}[]) AS {column}" for column, type_ in zip(COLUMNS, types, strict=True))
    duckdb.connect().execute(
        f"COPY (SELECT {columns}) TO '{file}'", [list(column) for column in zip(*rows, strict=True)]
    )
    return file.read_bytes()


def play(player, key, content):
    player.store.put(key, content)
    return player.run("static", NOW, {"source": "S3", "key": key})


def prepared(player, content, key="input/readings.csv"):
    """The counts of a run over the file, and its number of rows in each location."""
    player.store.put(key, content)
    plan = player.start("static", NOW, {"source": "S3", "key": key}).advance_to("ReportLocations").plan
    tasks = json.loads(player.store.get(plan["locations_key"]))
    counts = Counts(**plan["counts"])
    return counts, {task["location_id"]: task["counts"]["measurements"] for task in tasks}


def failure(player, content, key="input/readings.csv"):
    execution = play(player, key, content)
    assert execution.status == "FAILED"
    return execution.error


def report(player, execution, location):
    """The report that the execution's answer names."""
    (key,) = [one["report_key"] for one in execution.answer["reports"] if one["location_id"] == location]
    return json.loads(player.store.get(key))


def manifest_of(player, execution):
    return msgspec.json.decode(player.store.get(execution.answer["manifest_key"]), type=Manifest)


def test_reports_are_written_and_ledger_and_landing_stay_untouched(player):
    key = land(player, landed())
    execution = play(player, "input/readings.csv", csv())
    assert (execution.status, execution.passed[-2:]) == ("SUCCEEDED", ["Committable", "Reported"])
    assert player.committed() == NO_MANIFEST
    assert player.store.list_keys("landing/") == [key]
    (minute,) = report(player, execution, "a")["minutes"]
    assert (minute["timestamp"], minute["count"], minute["mean"]) == ("2026-03-01T11:58:00.000Z", 2, 21.0)
    assert report(player, execution, "b:c")["minutes"][0]["mean"] == -4.0


def test_all_that_a_static_run_writes_is_below_a_folder_of_its_own(player):
    land(player, landed())
    assert player.run("run-1", NOW).status == "SUCCEEDED"
    player.store.put("old.csv", csv())
    before = dict(player.store.s3.objects)
    folders = []
    for _ in range(2):
        answer = player.run("static", NOW, {"source": "S3", "key": "old.csv"}).answer
        assert re.fullmatch("[0-9a-f]{16}", answer["run_id"])
        folders.append((f"static/{answer['run_id']}/", f"scratch/{answer['run_id']}/"))
    new = player.store.s3.objects.keys() - before.keys()
    assert {folder for folder in sum(folders, ()) if any(key.startswith(folder) for key in new)} == {*sum(folders, ())}
    assert [key for key in new if not key.startswith(sum(folders, ()))] == []
    assert {key: player.store.s3.objects[key] for key in before} == before
    assert len(set(folders)) == 2


def test_the_manifest_of_a_static_run_says_nothing_of_ledger_archive_and_quarantine(player):
    player.store.put(land(player, landed("damaged")), b"")
    land(player, landed("1"), landed("1"), number=1)
    player.run("run-1", NOW)
    player.run("run-2", NOW + MINUTE)
    assert player.ledger.tallies().quarantine.objects == 1
    manifest = manifest_of(player, play(player, "input/readings.csv", csv([*ROWS, ROWS[0]])))
    assert (manifest.counts, manifest.previous_run_id) == (Counts(measurements=3, duplicates=1), NO_RUN)
    kept = ("landing", "quarantine", "spool", "entries", "duplicates", "archived_through", "quarantined",
            "swept_at", "handed_over_at", "late_handed_over_at", "locations_summary_key")  # fmt: skip
    assert {name: getattr(manifest, name) for name in kept} == {name: getattr(NO_MANIFEST, name) for name in kept}
    assert {key for key in manifest.reports.values() if key not in player.store.s3.objects} == set()


def test_a_static_run_does_not_see_what_was_reported_before_and_does_not_disturb_it(player):
    land(player, landed("1", timestamp=NOW))
    player.run("run-1", NOW)
    execution = play(player, "input/readings.csv", csv())
    assert report(player, execution, "a")["measurements"] == 2
    land(player, landed("2", timestamp=NOW), number=1)
    player.run("run-2", NOW)
    assert player.reports()["a"].measurements == 2


def test_a_static_run_counts_again_what_runs_over_the_queue_have_counted(player):
    land(player, landed("1", timestamp=NOW))
    player.run("run-1", NOW)
    counts, _ = prepared(player, csv([["1", "a", 35.0, "2026-03-01T12:00:00Z"]]))
    assert counts == Counts(measurements=1)


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("a.csv", csv()),
        ("a.csv.gz", gzip.compress(csv())),
        ("a.jsonl", json_lines()),
        ("a.jsonl.gz", gzip.compress(json_lines())),
        ("semicolons.csv", csv(separator=";")),
        ("tabs.csv", csv(separator="\t")),
        ("more columns.csv", csv([[*row, "x"] for row in ROWS], [*COLUMNS, "note"])),
        ("other order.csv", csv([row[::-1] for row in ROWS], COLUMNS[::-1])),
        ("dos lines.csv", csv().replace(b"\n", b"\r\n")),
        ("odd [name]*?'.csv", csv()),
        ("deep/er/a.b.csv", csv()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_format_gives_the_same_measurements(player, key, content):
    assert prepared(player, content, key) == (Counts(measurements=3), {"a": 2, "b:c": 1})


@pytest.mark.parametrize(
    "types",
    [("VARCHAR", "VARCHAR", "DOUBLE", "VARCHAR"), ("INTEGER", "VARCHAR", "DECIMAL(9, 3)", "TIMESTAMPTZ"),
     ("BIGINT", "VARCHAR", "FLOAT", "TIMESTAMP")],
)  # fmt: skip
def test_parquet_is_read_whatever_fitting_types_it_has(player, tmp_path, types):
    content = parquet(tmp_path, types=types)
    assert prepared(player, content, "a.parquet") == (Counts(measurements=3), {"a": 2, "b:c": 1})


BAD_ROWS = {
    "sensor_id": ["a b", "a", 20.5, "2026-03-01T11:58:00Z"],
    "sensor_id empty": ["", "a", 20.5, "2026-03-01T11:58:00Z"],
    "sensor_id too long": ["x" * 65, "a", 20.5, "2026-03-01T11:58:00Z"],
    "location_id": ["1", "a/b", 20.5, "2026-03-01T11:58:00Z"],
    "temperature text": ["1", "a", "hot", "2026-03-01T11:58:00Z"],
    "temperature nan": ["1", "a", "nan", "2026-03-01T11:58:00Z"],
    "temperature inf": ["1", "a", "-inf", "2026-03-01T11:58:00Z"],
    "temperature impossible": ["1", "a", 1e6, "2026-03-01T11:58:00Z"],
    "temperature empty": ["1", "a", "", "2026-03-01T11:58:00Z"],
    "timestamp": ["1", "a", 20.5, "yesterday"],
    "timestamp empty": ["1", "a", 20.5, ""],
    "timestamp infinite": ["1", "a", 20.5, "infinity"],
    "timestamp of another age": ["1", "a", 20.5, "20260-03-01T11:58:00Z"],
    "timestamp of the last year": ["1", "a", 20.5, "9999-12-31T23:59:59Z"],
    "timestamp in the future": ["1", "a", 20.5, "2026-03-01T12:05:01Z"],
    "timestamp before 1970": ["1", "a", 20.5, "1969-12-31T23:59:59Z"],
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS)
@pytest.mark.parametrize(("key", "encode"), [("a.csv", csv), ("a.jsonl", json_lines)])
def test_a_bad_row_is_counted_as_invalid_and_its_neighbours_are_measured(player, key, encode, bad):
    counts, locations = prepared(player, encode([ROWS[0], bad, *ROWS[1:]]), key)
    assert counts == Counts(measurements=3, invalid=1)
    assert locations == {"a": 2, "b:c": 1}


def test_lines_that_are_no_json_are_counted_as_invalid(player):
    content = json_lines() + b'{"sensor_id": \n[]\n5\n"text"\n{}\n' + json_lines([["4", "a", 1.0, ROWS[0][3]]])
    counts, locations = prepared(player, content, "a.jsonl")
    assert counts == Counts(measurements=4, invalid=5)
    assert locations == {"a": 3, "b:c": 1}


def test_a_csv_row_that_is_cut_short_is_counted_as_invalid(player):
    counts, _ = prepared(player, csv() + b"4,a,1.0\n" + b"5,a,1.0,2026-03-01T11:58:00Z\n")
    assert counts == Counts(measurements=4, invalid=1)


def test_an_offset_is_taken_off_and_a_time_without_one_is_utc(player):
    rows = [
        ["1", "a", 1.0, "2026-03-01T13:58:00+02:00"],
        ["1", "a", 1.0, "2026-03-01T11:58:00Z"],
        ["1", "a", 1.0, "2026-03-01 11:58:00"],
        ["1", "a", 1.0, "2026-03-01T06:58:00.000-05:00"],
    ]
    counts, _ = prepared(player, csv(rows))
    assert (counts.measurements, counts.duplicates) == (1, 3)


FURTHER_DIGITS = ["2026-03-01T11:58:59.999Z", "2026-03-01T11:58:59.9999Z", "2026-03-01T11:58:59.999999999Z"]


@pytest.mark.parametrize("type_", ["VARCHAR", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMPTZ"])
def test_times_are_cut_to_the_millisecond_and_never_rounded(player, tmp_path, type_):
    rows = [["1", "a", 1.0, time] for time in (*FURTHER_DIGITS, "1970-01-01T00:00:00.0009Z")]
    for key, content in (
        ("a.csv", csv(rows)),
        ("a.parquet", parquet(tmp_path, rows, ("VARCHAR", "VARCHAR", "DOUBLE", type_))),
    ):
        counts, _ = prepared(player, content, key)
        assert counts == Counts(measurements=2, duplicates=2), key
        shown = report(player, play(player, key, content), "a")["minutes"]
        assert [minute["timestamp"] for minute in shown] == ["2026-03-01T11:58:00.000Z"]


def test_sensors_of_two_locations_that_have_the_same_ids_are_counted_apart(player):
    rows = [["1", location, temperature, ROWS[0][3]] for location in ("a", "b") for temperature in (1.0, 1.0, 2.0)]
    counts, locations = prepared(player, csv(rows))
    assert counts == Counts(measurements=2, duplicates=4, conflicts=2)
    assert locations == {"a": 1, "b": 1}


@pytest.mark.parametrize("missing", COLUMNS)
def test_a_missing_column_is_named(player, tmp_path, missing):
    keep = [index for index, column in enumerate(COLUMNS) if column != missing]
    columns = [COLUMNS[index] for index in keep]
    rows = [[row[index] for index in keep] for row in ROWS]
    lines = "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows).encode()
    for key, content in (("a.csv", csv(rows, columns)), ("a.jsonl", lines)):
        error = failure(player, content, key)
        assert error == {"Error": "ValidationError", "Cause": f"{missing}: the input has no such column"}


@pytest.mark.parametrize("key", ["a.txt", "a", "a.csv.zip", "csv", "a.json"])
def test_an_unknown_format_is_an_error_that_lists_the_known_ones(player, key):
    error = failure(player, csv(), key)
    assert error["Error"] == "ValidationError"
    assert error["Cause"].startswith("key: must end with one of .csv, .csv.gz, .jsonl, .jsonl.gz, .parquet")


@pytest.mark.parametrize("key", ["a.csv.gz", "a.jsonl.gz", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says_is_an_error_that_names_the_format(player, key):
    error = failure(player, b"neither gzip nor parquet", key)
    assert error["Error"] == "ValidationError"
    assert key.removeprefix("a") in error["Cause"]


def test_a_file_that_does_not_exist_is_an_error_that_names_it(player):
    execution = player.run("static", NOW, {"source": "S3", "key": "nowhere.csv"})
    assert execution.error == {"Error": "ObjectNotFoundError", "Cause": "no object nowhere.csv"}


def test_a_key_as_long_as_s3_allows_is_read(player):
    assert prepared(player, csv(), "x" * 1_020 + ".csv")[0] == Counts(measurements=3)


@pytest.mark.parametrize(("key", "content"), [("a.csv", csv([])), ("a.jsonl", b"")])
def test_a_file_without_rows_is_a_successful_run_without_reports(player, key, content):
    execution = play(player, key, content)
    assert execution.passed == [
        "Claim", "AnythingToDo", "Receive", "AnythingToReport", "Summarize", "Committable", "Reported",
    ]  # fmt: skip
    assert (execution.answer["locations"], execution.answer["reports"]) == (0, [])
    assert [key for key in player.store.s3.objects if "/reports/" in key] == []


def test_duplicates_and_old_rows_are_counted_as_in_a_first_run(player):
    rows = [*ROWS, ROWS[0], ["1", "a", 1.0, "2026-02-27T12:00:00Z"]]
    counts, locations = prepared(player, csv(rows))
    assert counts == Counts(measurements=4, duplicates=1)
    assert locations == {"a": 3, "b:c": 1}


def test_the_answer_tells_where_the_first_hundred_reports_are(player):
    rows = [[str(number), f"{number:03}", 20.0, "2026-03-01T11:58:00Z"] for number in range(101)]
    execution = play(player, "input.csv", csv(rows))
    answer = execution.answer
    manifest = manifest_of(player, execution)
    assert (answer["previous_run_id"], answer["locations"]) == (NO_RUN, 101)
    assert Counts(**answer["counts"]) == manifest.counts == Counts(measurements=101)
    assert answer["reports"] == [
        {"location_id": f"{number:03}", "report_key": manifest.reports[f"{number:03}"]} for number in range(100)
    ]
