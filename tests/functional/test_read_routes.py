"""The routes that people and dashboards read, through the real app, on what runs have written."""

from datetime import timedelta
from itertools import product

import pytest

from chalicelib.landing import encode_landing
from tests.factories import NOW, landed, posted
from tests.runs import player_on

ROUTES = ["/runs/latest", "/locations", "/locations/a/report"]


@pytest.fixture
def player(stage):
    return player_on(stage)


@pytest.fixture
def run(stage, player):
    """A function that commits a run over the measurements given as (location, minute, temperature)."""
    numbers = iter(range(1, 100))

    def commit(*measurements):
        number = next(numbers)
        lines = [
            landed(location, location, temperature, NOW + timedelta(minutes=minute))
            for location, minute, temperature in measurements
        ]
        stage.put_object(f"landing/{number:03}.jsonl.gz", encode_landing(lines))
        assert player.run(f"run-{number}", NOW + timedelta(hours=number)).status == "SUCCEEDED"

    return commit


def get(stage, path, **headers):
    return stage.http.get(path, headers={"Authorization": f"Bearer {stage.token}", **headers})


def test_a_report_is_served_byte_by_byte_as_the_run_wrote_it(stage, run):
    run(("a", 0, 20.0), ("a", 1, 30.0))
    answer = get(stage, "/locations/a/report")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body == stage.object("reports/location_id=a/run-1.json")
    assert [minute["moving_average"] for minute in answer.json_body["minutes"]] == [20.0, 25.0]


def test_locations_have_their_last_minute_and_moving_average(stage, run):
    run(("b", 0, 20.0), ("a", 1, 30.0))
    assert get(stage, "/locations").json_body == {
        "locations": [
            {"location_id": "a", "last_timestamp": "2026-03-01T12:01:00Z", "moving_average": 30.0},
            {"location_id": "b", "last_timestamp": "2026-03-01T12:00:00Z", "moving_average": 20.0},
        ]
    }


def test_a_location_without_new_data_keeps_its_last_average(stage, run):
    run(("a", 0, 20.0), ("b", 0, 25.0))
    run(("b", 1, 35.0))
    averages = {one["location_id"]: one["moving_average"] for one in get(stage, "/locations").json_body["locations"]}
    assert averages == {"a": 20.0, "b": 30.0}


def test_a_location_of_which_all_came_too_late_has_no_average(stage, run):
    run(("a", 0, 20.0))
    run(("tardy", -60 * 48, 20.0))
    assert get(stage, "/locations").json_body["locations"][1] == {
        "location_id": "tardy",
        "last_timestamp": None,
        "moving_average": None,
    }


def test_the_latest_run_tells_its_books_and_those_of_all_runs(stage, run):
    run(("a", 0, 20.0), ("a", 0, 20.0))
    run(("a", 1, 20.0), ("b", 2, 20.0), ("b", -60 * 48, 20.0))
    stage.put_object("quarantine/m1.json", b"{}")
    assert get(stage, "/runs/latest").json_body == {
        "run_id": "run-2",
        "previous_run_id": "run-1",
        "started_at": "2026-03-01T14:00:00Z",
        "locations": 2,
        "counts": {"measurements": 2, "duplicates": 0, "conflicts": 0, "late": 1, "invalid": 0},
        "totals": {"measurements": 3, "duplicates": 1, "conflicts": 0, "late": 1, "invalid": 0},
        "quarantined": 0,
        "newly_broken_sensors": 0,
        "broken_sensors": 0,
        "latest_measurement": "2026-03-01T12:02:00Z",
        "status_below_celsius": {"TEMPERATURE_TOO_LOW": 20.0, "OK": 100.0, "TEMPERATURE_TOO_HIGH": 250.0},
    }


def test_objects_in_quarantine_are_counted_when_a_run_is_summed_up(stage, run):
    stage.put_object("quarantine/m1.json", b"{}")
    run(("a", 0, 20.0))
    assert get(stage, "/runs/latest").json_body["quarantined"] == 1


def broken_in_latest_run(stage):
    run = get(stage, "/runs/latest").json_body
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
    stage.post(posted(value=25_000))
    assert player.run("nothing", NOW).passed[-1] == "NothingToReport"
    run(("a", 1, 20.0))
    assert broken_in_latest_run(stage) == (1, 1)


def test_a_reader_needs_at_most_three_calls(stage, run, restart, aws_calls, subtests):
    run(("a", 0, 20.0))
    for path in ROUTES:
        with subtests.test(path):
            restart()
            get(stage, "/runs/latest")  # the process has learnt its resources
            aws_calls.made.clear()
            assert get(stage, path).status_code == 200
            assert len(aws_calls.made) <= 3
            assert aws_calls.made[0] == "dynamodb:GetItem"


def test_who_has_the_run_already_is_told_so_without_a_read_of_what_it_wrote(stage, run, aws_calls, subtests):
    run(("a", 0, 20.0))
    for path in ROUTES:
        assert get(stage, path).headers["ETag"] == '"run-1"'
    for path, header in product(ROUTES, ['"run-1"', 'W/"run-1"', '"other", "run-1"', "*"]):
        with subtests.test(path, header=header):
            aws_calls.made.clear()
            answer = get(stage, path, **{"If-None-Match": header})
            assert (answer.status_code, answer.body, answer.headers["ETag"]) == (304, b"", '"run-1"')
            assert aws_calls.made == ["dynamodb:GetItem"]


def test_who_has_another_run_is_sent_the_latest(stage, run, subtests):
    run(("a", 0, 20.0))
    run(("a", 1, 30.0))
    for path in ROUTES:
        with subtests.test(path):
            answer = get(stage, path, **{"If-None-Match": '"run-1"'})
            assert (answer.status_code, answer.headers["ETag"]) == (200, '"run-2"')


def test_a_report_that_a_run_did_not_touch_keeps_its_tag(stage, run):
    run(("a", 0, 20.0), ("b", 0, 20.0))
    run(("b", 1, 30.0))
    assert get(stage, "/locations/a/report", **{"If-None-Match": '"run-1"'}).status_code == 304


def test_answers_are_kept_by_no_shared_cache(stage, run):
    run(("a", 0, 20.0))
    headers = get(stage, "/locations").headers
    assert (headers["Cache-Control"], headers["Vary"]) == ("private, no-cache", "Authorization")


MINUTES_SINCE = {
    "2026-03-01T11:00:00Z": [0, 1, 3],
    "2026-03-01T12:01:00Z": [1, 3],
    "2026-03-01T12:01:01Z": [3],
    "2026-03-01T13:03:00%2B01:00": [3],
    "2026-03-01T12:04:00Z": [],
}


def test_a_report_since_a_time_has_only_minutes_that_begin_then_or_later(stage, run, subtests):
    run(("a", 0, 20.0), ("a", 1, 30.0), ("a", 3, 40.0))
    for since, minutes in MINUTES_SINCE.items():
        with subtests.test(since):
            report = get(stage, f"/locations/a/report?since={since}").json_body
            assert [int(minute["timestamp"][14:16]) for minute in report["minutes"]] == minutes
            assert report["measurements"] == 3


WRONG_OR_MISSING = {
    "/locations/a/report?since=yesterday": (400, "since: "),
    "/locations/a/report?since=2026-03-01T12:00:00": (400, "since: "),
    "/locations/a/report?sinse=2026-03-01T12:00:00Z": (400, "sinse: unknown field"),
    "/locations/a%20b/report": (400, "location_id: "),
    "/locations/nowhere/report": (404, "location nowhere has no report yet"),
    "/sensors/unheard-of": (404, "sensor unheard-of has sent nothing yet"),
    f"/sensors/{'x' * 65}": (400, "sensor_id: "),
    "/assets/index.html": (404, "no such file"),
    "/assets/..%2Fsettings.py": (404, "no such file"),
}


def test_what_is_wrong_or_missing_is_said_in_the_shape_of_all_errors(stage, run, subtests):
    run(("a", 0, 20.0))
    for path, (status, named) in WRONG_OR_MISSING.items():
        with subtests.test(path):
            answer = get(stage, path)
            assert answer.status_code == status
            assert answer.json_body["Code"] == {400: "BadRequestError", 404: "NotFoundError"}[status]
            assert named in answer.json_body["Message"]


def test_before_the_first_run_there_are_no_locations_and_no_reports(stage):
    assert get(stage, "/locations").json_body == {"locations": []}
    assert get(stage, "/runs/latest").status_code == 404
    assert get(stage, "/locations/a/report").status_code == 404


def test_a_sensor_is_known_once_it_has_sent_and_broken_once_it_was_out_of_range(stage):
    stage.post(posted(sensor_id="s:1", value=2000))
    assert get(stage, "/sensors/s:1").json_body == {"sensor_id": "s:1", "broken": False}
    assert get(stage, "/sensors/s%3A1").json_body == {"sensor_id": "s:1", "broken": False}
    stage.post(posted(sensor_id="s:1", value=25_000))
    assert get(stage, "/sensors/s:1").json_body == {"sensor_id": "s:1", "broken": True}


def test_a_reader_whom_a_run_overtakes_is_given_the_new_report(stage, run, monkeypatch):
    from chalicelib.ledger import Ledger

    run(("a", 0, 20.0))
    run(("a", 1, 30.0))
    run(("b", 2, 30.0))
    heads = iter(["run-1"])
    now = Ledger.head
    # The head of two runs ago, whose reports are gone, then what is really there.
    monkeypatch.setattr(Ledger, "head", lambda ledger: next(heads, None) or now(ledger))
    assert get(stage, "/locations/a/report").json_body["run_id"] == "run-2"


@pytest.mark.parametrize(
    ("path", "damaged"),
    [
        ("/locations/a/report", "runs/run-1/manifest.json"),
        ("/locations/a/report?since=2026-03-01T12:00:00Z", "reports/location_id=a/run-1.json"),
    ],
)
def test_damaged_data_of_our_own_is_no_fault_of_the_caller(stage, run, path, damaged):
    run(("a", 0, 20.0))
    assert damaged in stage.keys(damaged)
    stage.put_object(damaged, b'{"run_id":"r"}')
    assert get(stage, path).status_code == 503


def test_the_page_forbids_everything_that_does_not_come_with_it(stage):
    page = get(stage, "/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"<script>" not in page.body
    assert b"style=" not in page.body


def test_the_page_names_its_files_relative_to_itself_and_by_their_content(stage):
    import re

    names = re.findall(rb'(?:src|href)="(assets/[^"]+)"', get(stage, "/").body)
    assert len(names) == 6
    for name in names:
        asset = get(stage, f"/{name.decode()}")
        assert asset.status_code == 200
        assert "immutable" in asset.headers["Cache-Control"]
        assert b"?v=" in name


def test_the_page_asked_for_without_its_last_slash_is_found_from_there(stage):
    import app as app_module

    event = {
        "requestContext": {"httpMethod": "GET", "resourcePath": "/", "path": "/dev"},
        "headers": {}, "multiValueHeaders": {}, "pathParameters": {}, "stageVariables": {},
        "multiValueQueryStringParameters": None, "body": None, "isBase64Encoded": False,
    }  # fmt: skip
    answer = app_module.app(event, None)
    assert (answer["statusCode"], answer["headers"]["Location"]) == (307, "dev/")
