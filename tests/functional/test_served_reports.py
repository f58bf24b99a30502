"""What two runs have written, as the routes serve it to whom has none, an older or the latest of it; and the page."""

import base64
import hashlib
import json
import re
from itertools import product

import pytest

from ops.tokens import mint_token
from tests.functional.conftest import SIGNING_KEYS, running_stage
from tests.runs import commit_run, player_on


@pytest.fixture(scope="module")
def stage():
    """A stage after two runs, of which the second knows nothing new of location a; only to be read."""
    with pytest.MonkeyPatch.context() as monkeypatch, running_stage(monkeypatch) as stage:
        commit_run(stage, 1, ("a", 0, 20.0), ("a", 1, 30.0), ("a", 3, 40.0), ("b", 0, 25.0))
        commit_run(stage, 2, ("b", 1, 35.0))
        yield stage


@pytest.fixture(scope="module")
def manifests(stage):
    """The manifests of the two runs."""
    ledger = player_on(stage).ledger
    second = ledger.committed()
    return ledger.read_manifest(second.previous_run_id), second


@pytest.fixture(scope="module")
def runs(manifests):
    """The routes, each with the run whose work it shows."""
    first, second = (manifest.run_id for manifest in manifests)
    return dict(zip(ROUTES, (second, second, first, second), strict=True))


ROUTES = ["/runs/latest", "/locations", "/locations/a/report", "/locations/b/report"]


def test_a_report_is_served_byte_by_byte_as_the_run_wrote_it(stage, manifests):
    answer = stage.get("/locations/a/report")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body == stage.object(manifests[0].reports["a"])
    assert [minute["moving_average"] for minute in answer.json_body["minutes"]] == [20.0, 25.0, 30.0]


def test_locations_have_their_last_minute_and_moving_average_with_new_data_and_without(stage):
    assert stage.get("/locations").json_body == {
        "locations": [
            {"location_id": "a", "last_timestamp": "2026-03-01T12:03:00.000Z", "moving_average": 30.0},
            {"location_id": "b", "last_timestamp": "2026-03-01T12:01:00.000Z", "moving_average": 30.0},
        ]
    }


def test_a_reader_needs_at_most_three_calls(stage, restart, aws_calls, subtests):
    for path in ROUTES:
        with subtests.test(path):
            restart()
            stage.get("/runs/latest")  # the process has learnt its resources
            aws_calls.made.clear()
            assert stage.get(path).status_code == 200
            assert len(aws_calls.made) <= 3
            assert aws_calls.made[0] == "dynamodb:GetItem"


def test_who_has_the_run_already_is_told_so_without_a_read_of_what_it_wrote(stage, runs, aws_calls, subtests):
    for path, run_id in runs.items():
        assert stage.get(path).headers["ETag"] == f'"{run_id}"'
    for (path, run_id), header in product(runs.items(), ['"{}"', 'W/"{}"', '"other", "{}"', "*"]):
        with subtests.test(path, header=header):
            aws_calls.made.clear()
            answer = stage.get(path, **{"If-None-Match": header.format(run_id)})
            assert (answer.status_code, answer.body, answer.headers["ETag"]) == (304, b"", f'"{run_id}"')
            assert aws_calls.made == ["dynamodb:GetItem"]


def test_who_has_another_run_is_sent_the_latest(stage, runs, subtests):
    first = runs["/locations/a/report"]
    for path, run_id in runs.items():
        if run_id != first:
            with subtests.test(path):
                answer = stage.get(path, **{"If-None-Match": f'"{first}"'})
                assert (answer.status_code, answer.headers["ETag"]) == (200, f'"{run_id}"')


def asked_by_a(stage, path, method="GET", **headers):
    """What a token for location a alone is answered: status, tag and body."""
    token = mint_token(SIGNING_KEYS, "a's", locations=["a"])
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    answer = stage.http.request(method, path, headers=headers, body=b"" if method == "GET" else b"{}")
    return answer.status_code, answer.headers.get("ETag"), answer.body


def test_who_may_see_some_locations_is_told_the_runs_name_and_time_and_no_figures(stage, runs):
    status, tag, body = asked_by_a(stage, "/runs/latest")
    assert (status, tag) == (200, f'"{runs["/runs/latest"]}"')
    everything = stage.get("/runs/latest").json_body
    told = {"run_id", "previous_run_id", "started_at", "status_below_celsius"}
    assert json.loads(body) == {name: everything[name] for name in told}
    assert asked_by_a(stage, "/runs/latest", **{"If-None-Match": tag}) == (304, tag, b"")


def test_who_may_see_some_locations_learns_nothing_of_any_other(stage, runs, subtests):
    import app

    paths = [path for path in app.app.routes if "{location_id}" in path]
    assert "/locations/{location_id}/report" in paths
    tag = f'"{runs["/locations/b/report"]}"'
    for path, headers in product(paths, [{}, {"If-None-Match": "*"}, {"If-None-Match": tag}]):
        for method in app.app.routes[path]:
            with subtests.test(f"{method} {path}", headers=headers):
                answers = {}
                for other in ("b", "nowhere"):
                    asked = re.sub(r"\{\w+\}", "1", path.replace("{location_id}", other))
                    answers[other] = asked_by_a(stage, asked, method, **headers)
                assert answers["b"][0] == 403
                assert answers["b"] == answers["nowhere"]


def test_what_a_limited_reader_is_given_and_told_of_is_its_own(stage, runs):
    first, second = (f'"{runs[path]}"' for path in ("/locations/a/report", "/locations"))
    assert (
        asked_by_a(stage, "/locations")[2]
        == json.dumps(
            {"locations": [one for one in stage.get("/locations").json_body["locations"] if one["location_id"] == "a"]},
            separators=(",", ":"),
        ).encode()
    )
    assert asked_by_a(stage, "/locations", **{"If-None-Match": second}) == (304, second, b"")
    status, tag, body = asked_by_a(stage, "/locations/a/report")
    assert (status, tag) == (200, first)
    assert body == stage.get("/locations/a/report").body
    # What another reader was given is not what this one has.
    assert asked_by_a(stage, "/locations/a/report", **{"If-None-Match": second})[0] == 200


def test_answers_are_kept_by_no_shared_cache(stage):
    headers = stage.get("/locations").headers
    assert (headers["Cache-Control"], headers["Vary"]) == ("private, no-cache", "Authorization")


MINUTES_SINCE = {
    "2026-03-01T11:00:00Z": [0, 1, 3],
    "2026-03-01T12:01:00Z": [1, 3],
    "2026-03-01T12:01:00.001Z": [3],
    "2026-03-01T12:01:01Z": [3],
    "2026-03-01T13:03:00%2B01:00": [3],
    "2026-03-01T12:04:00Z": [],
    "0001-01-01T00:00:00%2B23:59": [0, 1, 3],
    "9999-12-31T23:59:59-23:59": [],
}


def test_a_report_since_a_time_has_only_minutes_that_begin_then_or_later(stage, subtests):
    for since, minutes in MINUTES_SINCE.items():
        with subtests.test(since):
            report = stage.get(f"/locations/a/report?since={since}").json_body
            assert [int(minute["timestamp"][14:16]) for minute in report["minutes"]] == minutes
            assert report["measurements"] == 3


WRONG_OR_MISSING = {
    "/locations/a/report?since=yesterday": (400, "since: "),
    "/locations/a/report?since=2026-03-01T12:00:00": (400, "since: "),
    "/locations/a/report?sinse=2026-03-01T12:00:00Z": (400, "sinse: unknown field"),
    "/locations/a%20b/report": (400, "location_id: "),
    "/locations/nowhere/report": (404, "location nowhere has no report yet"),
    "/locations/a/sensors/unheard-of": (404, "sensor unheard-of at a is not known"),
    f"/locations/a/sensors/{'x' * 65}": (400, "sensor_id: "),
    "/assets/index.html": (404, "no such file"),
    "/assets/..%2Fsettings.py": (404, "no such file"),
}


def test_what_is_wrong_or_missing_is_said_in_the_shape_of_all_errors(stage, subtests):
    for path, (status, named) in WRONG_OR_MISSING.items():
        with subtests.test(path):
            answer = stage.get(path)
            assert answer.status_code == status
            assert answer.json_body["Code"] == {400: "BadRequestError", 404: "NotFoundError"}[status]
            assert named in answer.json_body["Message"]


def test_the_page_forbids_everything_that_does_not_come_with_it(stage):
    page = stage.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Content-Type"].startswith("text/html")
    # Of the page itself one script is allowed, as it is: it adds a slash to the address.
    (script,) = re.findall(rb"<script>(.*?)</script>", page.body)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
    assert b"style=" not in page.body


def test_the_page_names_its_files_relative_to_itself_and_each_by_its_own_content(stage):
    names = re.findall(rb'(?:src|href)="(assets/[^"]+)"', stage.get("/").body)
    assert len(names) == 6
    for name in names:
        path, _, fingerprint = name.decode().partition("?v=")
        asset = stage.get(f"/{path}?v={fingerprint}")
        assert asset.status_code == 200
        assert "immutable" in asset.headers["Cache-Control"]
        assert fingerprint == hashlib.sha256(asset.body).hexdigest()[:16]


def test_what_the_files_load_themselves_would_be_named_by_its_content_too(stage):
    for name in re.findall(rb"assets/([^?]+)", stage.get("/").body):
        assert not re.search(
            rb"url\(|@import|importScripts|\bimport\b|assets/", stage.get(f"/assets/{name.decode()}").body
        )


def test_a_file_is_kept_for_good_only_under_the_address_of_its_own_content(stage, subtests):
    fingerprints = re.findall(r"\?v=(\w+)", stage.get("/").body.decode())
    other = stage.get("/").body.decode().partition("icon.svg?v=")[2][:16]
    assert other in fingerprints
    for query in ("", "?v=", "?v=1", f"?v={other}", f"?w={other}", f"?v={'0' * 16}", f"?v={'x' * 5_000}"):
        with subtests.test(query[:30]):
            asset = stage.get(f"/assets/api.js{query}")
            assert (asset.status_code, asset.headers["Cache-Control"]) == (200, "no-cache")
            assert asset.body == stage.get("/assets/api.js").body
