"""`python -m ops provision` and `sensors`: the routes take a file, whatever happens on the way, and give it back."""

import csv
import os
import signal
from types import SimpleNamespace

import pytest

from ops.__main__ import main
from ops.sensor_file import COLUMNS
from ops.tokens import mint_token
from tests.factories import SETTINGS
from tests.functional.conftest import SIGNING_KEYS
from tests.functional.sensors_stub import echo, serving

HEADER = "location_id,sensor_id,thermistor,a,b,c,min_ohm,max_ohm\n"
NO_TYPE = f"thermistor: must be one of {', '.join(sorted(SETTINGS.thermistors))}"


@pytest.fixture
def stub():
    """An API that takes everything."""
    with serving(echo) as api:
        yield api


@pytest.fixture
def api(stage):
    """The real routes."""

    def take(path, headers, body):
        answer = stage.http.post(path, headers=headers, body=body)
        return answer.status_code, {}, answer.body

    with serving(take) as api:
        yield api


@pytest.fixture
def provision(tmp_path, capsys):
    """Run the command on a file with that content; returns its exit code, what it printed, and the rows' outcomes."""

    def provision(url, content, *options, token="token"):
        file, results = tmp_path / "sensors.csv", tmp_path / "results.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        arguments = ["provision", str(file), "--url", url, "--results", str(results), *options]
        capsys.readouterr()
        code = main(arguments, {"THERMONET_TOKEN": token} if token else {"USER": "ada"})
        rows = list(csv.DictReader(results.open(newline=""))) if results.exists() else []
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err, rows=rows)

    return provision


@pytest.fixture
def export(tmp_path, capsys):
    def export(location):
        output = tmp_path / "exported.csv"
        code = main(["sensors", "dev", location, "--aws", "--output", str(output)], {})
        return code, output.read_text(), capsys.readouterr().err

    return export


def fates(done):
    return {(row["location_id"], row["sensor_id"]): row["fate"] for row in done.rows}


def get_thermistor(stage, location_id, sensor_id):
    return stage.get(f"/locations/{location_id}/sensors/{sensor_id}").json_body["thermistor"]


def test_what_a_file_says_is_what_the_routes_show(stage, api, provision):
    content = (
        HEADER.replace("min_ohm", "celsius_1,ohm_1,celsius_2,ohm_2,celsius_3,ohm_3,min_ohm")
        + "a,1,,,,,,,,,,,,\nb,1,ntc-10k,,,,,,,,,,,\n"
        + "a,2,,0.0014,0.000237,9.9e-8,,,,,,,10,5000\na,3,,,,,-40,101000,0,9796,50,1081,,\n"
    )
    done = provision(api.url, b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode(), "--aws", token=None)
    assert (done.code, done.out, done.err) == (0, "4 provisioned, 0 failed\n", "")
    assert get_thermistor(stage, "a", "1")["type"] == "default"
    assert get_thermistor(stage, "b", "1")["type"] == "ntc-10k"
    own = get_thermistor(stage, "a", "2")
    assert (own["coefficients"], own["min_ohm"]) == ({"a": 0.0014, "b": 0.000237, "c": 9.9e-8}, 10)
    assert get_thermistor(stage, "a", "3")["equation"] == "steinhart-hart"


def test_a_location_is_written_as_a_file_that_changes_nothing(stage, api, provision, export):
    given = (
        "a,1,,,,,,\na,.,ntc-10k,,,,,\nab,1,,,,,,\na,-1,,0.0014000000000000002,0.000237,0,0.1,20000\n"
        + "".join(f"a,retired{number},,,,,,\n" for number in range(2))
    )  # fmt: skip
    assert provision(api.url, HEADER + given, token=stage.token).code == 0
    bearer = {"Authorization": f"Bearer {stage.token}"}
    assert stage.http.delete("/locations/a/sensors/retired0", headers=bearer).status_code == 200
    code, exported, said = export("a")
    assert (code, said) == (0, "4 sensors of location a\n")
    assert exported == ",".join(COLUMNS) + (
        "\na,-1,,0.0014000000000000002,0.000237,0.0,,,,,,,0.1,20000.0\n"
        "a,.,ntc-10k,,,,,,,,,,,\na,1,,,,,,,,,,,,\na,retired1,,,,,,,,,,,,\n"
    )
    assert provision(api.url, exported, token=stage.token).code == 0
    assert export("a")[1] == exported


def test_a_large_registry_is_read_page_by_page(stage, export):
    # A page of DynamoDB's is 1 MB.
    ballast = {"S": "x" * 300_000}
    for number in reversed(range(8)):
        row = {"sensor_id": {"S": f"a/{number}"}, "broken": {"BOOL": False}, "ballast": ballast}
        stage.aws("dynamodb").put_item(TableName=stage.resources["registry_table"], Item=row)
    exported = export("a")[1].splitlines()
    assert [line.split(",")[1] for line in exported[1:]] == [str(number) for number in range(8)]


def test_sensors_of_an_unknown_location_are_none(stage, export):
    assert export("nowhere") == (0, ",".join(COLUMNS) + "\n", "0 sensors of location nowhere\n")


def test_a_row_that_fails_here_or_there_fails_alone_and_is_named(stage, api, provision):
    rows = "a,1,,,,,,\na,2,nosuch,,,,,\na,1,ntc-10k,,,,,\n,3,,,,,,\na,4,,,,,,\n"
    done = provision(api.url, HEADER + rows, token=stage.token)
    assert done.code == 1
    assert done.out == "2 provisioned, 3 failed\n"
    assert done.err.splitlines() == [
        f"row 3: {NO_TYPE}",
        "row 4: sensor_id: the same sensor as in row 2",
        "row 5: location_id: required, but missing",
    ]
    assert [(row["row"], row["fate"]) for row in done.rows] == [
        ("2", "provisioned"),
        ("3", "failed"),
        ("4", "failed"),
        ("5", "failed"),
        ("6", "provisioned"),
    ]
    assert done.rows[1]["reason"] == NO_TYPE


def test_what_a_location_refuses_is_told_by_row_and_stops_no_other_location(stage, api, provision):
    token = mint_token(SIGNING_KEYS, "tests", locations=["b"])
    done = provision(api.url, HEADER + "a,1,,,,,,\nb,1,,,,,,\na,2,,,,,,\n", token=token)
    assert done.code == 1
    assert fates(done) == {("a", "1"): "failed", ("a", "2"): "failed", ("b", "1"): "provisioned"}
    assert "row 2: 403: location_id: the token is not for this location" in done.err


def test_a_result_that_is_refused_names_the_column_of_its_row(stub, provision):
    refused = {"error": "sensors[1].thermistor.min_ohm: must be below max_ohm"}
    full = {"error": "sensors[2].sensor_id: no more than 2 sensors at a location"}
    taken = {"sensor_id": "1", "broken": True}
    stub.respond = lambda _: (200, {}, {"results": [taken, refused, full]})
    done = provision(stub.url, HEADER + "a,1,,,,,,\na,2,,,,,,\na,3,,,,,,\n")
    assert done.code == 1
    assert done.err.splitlines() == [
        "row 3: min_ohm: must be below max_ohm",
        "row 4: sensor_id: no more than 2 sensors at a location",
    ]
    assert [row["broken"] for row in done.rows] == ["True", "False", "False"]
    assert "1 of them have been broken before" in done.out


def test_a_token_without_the_scope_ends_it_at_once_in_one_line(stage, api, provision):
    token = mint_token(SIGNING_KEYS, "tests", scopes=["readings:write"])
    rows = "".join(f"{number},1,,,,,,\n" for number in range(50))
    done = provision(api.url, HEADER + rows, token=token)
    assert done.code == 2
    assert done.out == "0 provisioned, 0 failed, the rest not sent: the same command goes on\n"
    assert done.err.startswith(f"error: {api.url} refuses the token with 403: token: ")
    assert done.err.count("\n") == 1
    assert set(fates(done).values()) == {"not sent"}
    assert len(api.posted) < 10


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            401,
            {"Code": "UnauthorizedError", "Message": "token: it has expired"},
            "refuses the token with 401: token: it",
        ),
        (403, {"message": "Missing Authentication Token"}, "refuses the token with 403: Missing Authentication Token"),
        (403, b"", "refuses the token with 403"),
        (404, b"<html>", "is it the API's address?"),
        (405, b"", "is it the API's address?"),
    ],
)
def test_what_no_sensor_can_pass_ends_it_at_once(stub, provision, status, body, said):
    stub.respond = lambda _: (status, {}, body)
    done = provision(stub.url, HEADER + "a,1,,,,,,\n")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert said in done.err
    assert len(stub.posted) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_takes_the_token_nowhere(stub, provision, status):
    stub.respond = lambda _: (status, {"Location": f"{stub.url}/elsewhere"}, b"")
    assert provision(stub.url, HEADER + "a,1,,,,,,\n").code == 1
    assert [posted.path for posted in stub.posted] == ["/locations/a/sensors"]


def test_sensors_are_sent_a_hundred_of_a_location_at_a_time_with_what_the_rows_say(stub, provision):
    rows = [f"{location},{number},,,,,," for number in range(150) for location in "ab"]
    assert provision(stub.url, HEADER + "\n".join(rows)).code == 0
    sent = sorted((posted.path, len(posted.sensors)) for posted in stub.posted)
    assert sent == [(f"/locations/{location}/sensors", count) for location in "ab" for count in (50, 100)]
    assert {posted.headers["Authorization"] for posted in stub.posted} == {"Bearer token"}
    assert sum(len(posted.sensors) for posted in stub.posted) == 300


def test_a_file_is_read_as_it_is_sent(stub, provision, monkeypatch):
    monkeypatch.setattr("ops.provisioning._WINDOW_ROWS", 10)
    done = provision(stub.url, HEADER + "".join(f"a,{number},,,,,,\n" for number in range(95)) + "a,!,,,,,,\n")
    assert [len(posted.sensors) for posted in stub.posted] == [*[10] * 9, 5]
    assert (done.code, [int(row["row"]) for row in done.rows]) == (1, list(range(2, 98)))


def test_text_that_is_not_utf_8_spoils_its_row_alone(stub, provision):
    done = provision(stub.url, HEADER.encode() + b"a,\xe4,,,,,,\na,2,,,,,,\n")
    assert [row["fate"] for row in done.rows] == ["failed", "provisioned"]


def test_a_terminal_shows_how_far_it_is(stub, provision, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = provision(stub.url, HEADER + "a,1,,,,,,\na,2,nosuch,,,,,\n")
    assert f"row 3: {NO_TYPE}" in done.err
    assert "1 provisioned, 1 failed" in done.err
    assert done.out == "1 provisioned, 1 failed\n"


def test_a_signal_lets_what_is_under_way_end_and_tells_what_is_done(stub, provision, monkeypatch):
    monkeypatch.setattr("ops.provisioning._REQUESTS_AT_ONCE", 1)

    def interrupt(posted):
        if posted.path == "/locations/2/sensors":
            os.kill(os.getpid(), signal.SIGINT)
            # Until the main thread has seen it.
            while signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
                pass
        return ...

    stub.respond = interrupt
    before = signal.getsignal(signal.SIGINT)
    done = provision(stub.url, HEADER + "".join(f"{number},1,,,,,,\n" for number in range(5)))
    assert signal.getsignal(signal.SIGINT) is before
    assert done.code == 130
    assert list(fates(done).values()) == [*["provisioned"] * 3, *["not sent"] * 2]
    assert done.out == "3 provisioned, 0 failed, the rest not sent: the same command goes on\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["provision"], "file: say which one, such as `make provision FILE=sensors.csv`"),
        (["provision", "nosuch.csv"], "nosuch.csv: No such file or directory"),
        (["provision", __file__, "--results", __file__], "results: must be another file"),
        (["provision", __file__, "--url", "ftp://x"], "url: must look like"),
        (["provision", __file__, "--stage", "nosuch"], "no such file"),
        (["provision", __file__], "header: location_id is missing"),
        (["sensors", "dev", "a/b"], "location: "),
        (["sensors", "prod", "a", "--aws"], "parameter /thermonet/prod/resources does not exist"),
    ],
)
def test_wrong_use_is_one_line(stage, capsys, arguments, error):
    url = ["--url", "http://127.0.0.1:9"] if arguments[0] == "provision" and "--url" not in arguments else []
    assert main([*arguments, *url], {"THERMONET_TOKEN": "token"}) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert error.lower() in said.lower()
    assert said.count("\n") == 1
