"""The routes of sensors: what an operator provisions is what a sensor's readings are judged by."""

import json

import pytest
from msgspec import structs

from chalicelib.settings import LimitSettings
from tests.factories import SETTINGS, posted
from tests.functional.test_post_readings import assert_refused

DEFAULT = {
    "type": "default",
    "equation": "steinhart-hart",
    "coefficients": {"a": 1.4e-3, "b": 2.37e-4, "c": 9.9e-8},
    "min_ohm": 1.0,
    "max_ohm": 20_000.0,
}
NTC_10K = {
    "type": "ntc-10k",
    "equation": "steinhart-hart",
    "coefficients": {"a": 1.129241e-3, "b": 2.341077e-4, "c": 8.775468e-8},
    "min_ohm": 100.0,
    "max_ohm": 1_000_000.0,
}
MURATA = [[0, 28_674], [25, 10_000], [50, 4_105]]
PATH = "/locations/a/sensors/s:1"


def send(stage, method, path, body=None):
    content = body if isinstance(body, (bytes, str)) else json.dumps(body)
    return stage.http.request(method, path, headers=stage.headers, body=content)


def put(stage, body, path=PATH):
    return send(stage, "PUT", path, body)


def document(thermistor=DEFAULT, sensor_id="s:1", broken=False, retired=False):
    return {
        "location_id": "a",
        "sensor_id": sensor_id,
        "broken": broken,
        "retired": retired,
        "thermistor": thermistor,
    }


@pytest.fixture
def limited(stage, monkeypatch):
    """Set the stage's limits."""
    import app
    from chalicelib.services import Services

    def limit(locations, sensors_per_location):
        limits = LimitSettings(locations, sensors_per_location)
        settings = structs.replace(SETTINGS, limits=limits)
        monkeypatch.setattr(app, "services", Services(settings, app.services.aws, on_refused=app.count_refused))

    return limit


def test_a_sensor_is_known_once_it_has_sent_and_broken_once_it_was_out_of_range(stage):
    assert_refused(stage.get(PATH), 404, "s:1", "not known")
    stage.post(posted(sensor_id="s:1", value=2000))
    assert stage.get(PATH).json_body == document()
    assert stage.get("/locations/a/sensors/s%3A1").json_body == document()
    stage.post(posted(sensor_id="s:1", value=25_000))
    assert stage.get(PATH).json_body == document(broken=True)
    assert stage.get("/locations/b/sensors/s:1").status_code == 404


def test_a_cold_10_kohm_sensor_works_when_it_is_provisioned_as_what_it_is(stage):
    stage.post(posted(sensor_id="unprovisioned", value=97_006.9))
    assert stage.get("/locations/a/sensors/unprovisioned").json_body["broken"] is True
    answer = put(stage, {"thermistor": "ntc-10k"})
    assert (answer.status_code, answer.json_body) == (200, document(NTC_10K))
    reading = stage.post(posted(sensor_id="s:1", value=97_006.9)).json_body
    assert (reading["status"], round(reading["temperature"], 2)) == ("TEMPERATURE_TOO_LOW", -20.0)
    assert stage.get(PATH).json_body == document(NTC_10K)


@pytest.mark.parametrize(
    ("thermistor", "shown"),
    [
        ("ntc-10k", NTC_10K),
        ("default", DEFAULT),
        (None, DEFAULT),
        (
            {"a": 1e-3, "b": 2e-4, "c": 1e-7},
            {**DEFAULT, "type": None, "coefficients": {"a": 1e-3, "b": 2e-4, "c": 1e-7}},
        ),
        (
            {"a": 1e-3, "b": 2e-4, "c": 0, "min_ohm": 5, "max_ohm": 1e6},
            {
                "type": None,
                "equation": "beta",
                "coefficients": {"a": 1e-3, "b": 2e-4, "c": 0},
                "min_ohm": 5,
                "max_ohm": 1e6,
            },
        ),
    ],
)
def test_a_sensor_is_shown_as_it_was_put_and_putting_it_again_changes_nothing(stage, aws_calls, thermistor, shown):
    assert put(stage, {"thermistor": thermistor}).json_body == document(shown)
    aws_calls.made.clear()
    assert put(stage, {"thermistor": thermistor}).json_body == document(shown)
    assert aws_calls.made == ["dynamodb:GetItem"]
    assert stage.get(PATH).json_body == document(shown)


def test_three_points_are_fitted_and_what_is_fitted_is_what_readings_are_computed_by(stage):
    shown = put(stage, {"thermistor": {"points": MURATA, "min_ohm": 300, "max_ohm": 200_000}}).json_body["thermistor"]
    assert (shown["type"], shown["equation"], shown["coefficients"]["c"]) == (None, "beta", 0)
    for celsius, ohm in (MURATA[0], MURATA[2]):
        answer = stage.post(posted(sensor_id="s:1", value=ohm)).json_body
        assert answer["temperature"] == pytest.approx(celsius, abs=1e-9)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "body: not valid JSON"),
        ("{", "body: not valid JSON"),
        ([], "body: Expected `object`"),
        ({"more": 1}, "more: unknown field"),
        ({"thermistor": "ntc-3m"}, "thermistor: must be one of default, ntc-10k"),
        ({"thermistor": 5}, "thermistor: Expected `object`"),
        ({"thermistor": {}}, "thermistor.a: required, but missing"),
        ({"thermistor": {"a": 1, "b": 1, "c": -1}}, "thermistor: c >= 0 must hold"),
        ({"thermistor": {"a": 1, "b": -1, "c": 0}}, "thermistor: temperature does not fall with resistance"),
        ({"thermistor": {"a": 1, "b": 1, "c": 1, "min_ohm": 0}}, "thermistor.min_ohm: "),
        ({"thermistor": {"points": MURATA[:2]}}, "thermistor.points: "),
        ({"thermistor": {"points": [*MURATA[:2], [50, 11_000]]}}, "thermistor.points: three temperatures are needed"),
        ({"thermistor": {"points": MURATA, "min_ohm": 5, "max_ohm": 4}}, "thermistor.min_ohm: must be below max_ohm"),
    ],
)
def test_what_is_no_thermistor_is_refused_by_the_name_of_its_field_and_makes_no_sensor(stage, body, reason):
    assert_refused(put(stage, body), 400, reason)
    assert stage.get(PATH).status_code == 404


def test_several_sensors_are_provisioned_each_by_itself(stage):
    put(stage, {"thermistor": "ntc-10k"}, "/locations/a/sensors/1")
    sensors = [
        {"sensor_id": 1},
        {"sensor_id": "2", "thermistor": "ntc-10k"},
        {"sensor_id": "3", "thermistor": "unheard-of"},
        {"sensor_id": "a b"},
        {"sensor_id": "2"},
        5,
        {"thermistor": None},
        {"sensor_id": "4", "thermistor": {"points": [[0, 1], [1, 2], [2, 3]]}},
    ]
    answer = send(stage, "POST", "/locations/a/sensors", {"sensors": sensors})
    assert answer.status_code == 200
    good, errors = answer.json_body["results"][:2], [one["error"] for one in answer.json_body["results"][2:]]
    assert good == [document(sensor_id="1"), document(NTC_10K, "2")]
    for error, start in zip(
        errors,
        [
            "sensors[2].thermistor: must be one of",
            "sensors[3].sensor_id: ",
            "sensors[4].sensor_id: the sensor is given twice",
            "sensors[5]: Expected `object`",
            "sensors[6].sensor_id: required, but missing",
            "sensors[7].thermistor.points: three temperatures",
        ],
        strict=True,
    ):
        assert error.startswith(start)
    assert send(stage, "POST", "/locations/a/sensors", {"sensors": sensors}).json_body == answer.json_body


def test_a_hundred_sensors_are_provisioned_in_three_calls(stage, aws_calls):
    stage.post(posted())
    aws_calls.made.clear()
    sensors = [{"sensor_id": number, "thermistor": "ntc-10k"} for number in range(90)]
    answer = send(stage, "POST", "/locations/b/sensors", {"sensors": sensors})
    assert [one["sensor_id"] for one in answer.json_body["results"]] == [str(number) for number in range(90)]
    assert aws_calls.made == ["dynamodb:BatchGetItem", "dynamodb:TransactWriteItems"]


@pytest.mark.parametrize("sensors", [[], [{"sensor_id": number} for number in range(101)], {}, None])
def test_what_is_no_list_of_sensors_is_refused_as_a_whole(stage, sensors):
    assert_refused(send(stage, "POST", "/locations/a/sensors", {"sensors": sensors}), 400, "sensors: ")


def test_a_broken_sensor_stays_broken_whatever_is_provisioned(stage):
    stage.post(posted(sensor_id="s:1", value=25_000))
    assert put(stage, {"thermistor": "ntc-10k"}).json_body == document(NTC_10K, broken=True)
    assert send(stage, "DELETE", PATH).json_body == document(NTC_10K, broken=True, retired=True)
    assert stage.post(posted(sensor_id="s:1", value=2000)).json_body["status"] == "BROKEN"
    assert stage.get(PATH).json_body == document(NTC_10K, broken=True)


def test_a_retired_sensor_is_shown_so_until_its_next_reading_or_change(stage):
    stage.post(posted(sensor_id="s:1"))
    for come_back in (lambda: stage.post(posted(sensor_id="s:1", value=2001)), lambda: put(stage, {})):
        for _ in range(2):
            assert send(stage, "DELETE", PATH).json_body == document(retired=True)
        assert stage.get(PATH).json_body == document(retired=True)
        assert come_back().status_code == 200
        assert stage.get(PATH).json_body == document()
    assert_refused(send(stage, "DELETE", "/locations/a/sensors/unheard-of"), 404, "unheard-of")


def test_what_exceeds_a_limit_is_refused_with_its_name_and_counted(stage, limited, capsys):
    limited(locations=1, sensors_per_location=2)
    assert stage.post(posted(sensor_id=1)).status_code == 200
    assert_refused(stage.post(posted(location_id="b")), 403, "location_id: ", "1 locations", "limits.locations")
    assert_refused(put(stage, {}, "/locations/b/sensors/1"), 403, "limits.locations")
    batch = {"readings": [posted(sensor_id=number) for number in (2, 3, 1)]}
    answer = stage.post(batch).json_body
    assert [one.get("error", "taken") for one in answer["results"]] == [
        "taken",
        "readings[1].sensor_id: no more than 2 sensors at a location (limits.sensors_per_location)",
        "taken",
    ]
    assert (answer["accepted"], answer["rejected"]) == (2, 1)
    listed = send(stage, "POST", "/locations/a/sensors", {"sensors": [{"sensor_id": 1}, {"sensor_id": 4}]}).json_body
    assert listed["results"][0] == document(sensor_id="1")
    assert listed["results"][1]["error"].startswith("sensors[1].sensor_id: no more than 2 sensors")
    assert_refused(stage.post(posted(sensor_id=3)), 403, "limits.sensors_per_location")
    emitted = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"RefusedSensors":' in line]
    assert sum(sum(line["RefusedSensors"]) for line in emitted) == 5
    assert len(stage.queued()) == 3


def test_a_reading_refused_by_a_limit_is_taken_once_the_limit_is_raised(stage, limited):
    limited(locations=1, sensors_per_location=1)
    stage.post(posted(sensor_id=1))
    reading = posted(sensor_id=2, reading_id="r")
    for body in (reading, {"readings": [reading]}):
        refused = stage.post(body)
        assert refused.status_code == 403 or refused.json_body["rejected"] == 1
    limited(locations=1, sensors_per_location=2)
    for body in (reading, {"readings": [reading]}):
        assert stage.post(body).status_code == 200
    assert len(stage.queued()) == 3


def test_who_provisioned_what_is_logged(stage, log_lines):
    put(stage, {"thermistor": "ntc-10k"})
    send(stage, "POST", "/locations/a/sensors", {"sensors": [{"sensor_id": 1}, {"sensor_id": "a b"}]})
    send(stage, "DELETE", PATH)
    logged = [json.loads(line) for line in log_lines if '"subject":' in line and "sensor" in line]
    about = [(one["message"], one["subject"], one["location_id"], one["sensor_id"]) for one in logged]
    assert about == [
        ("sensor provisioned", "tests", "a", "s:1"),
        ("sensor provisioned", "tests", "a", "1"),
        ("sensor retired", "tests", "a", "s:1"),
    ]
    assert logged[0]["thermistor"] == NTC_10K
