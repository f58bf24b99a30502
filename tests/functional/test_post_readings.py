"""POST /readings through the real app: what sensors rely on."""

import json
import math
from datetime import UTC, datetime, timedelta

import pytest

from tests.factories import posted


def ago(**age):
    return (datetime.now(UTC) - timedelta(**age)).isoformat().replace("+00:00", "Z")


def assert_refused(response, status, *words):
    """The answer has Chalice's shape, says the words, and tells nothing of the program behind it."""
    assert response.status_code == status
    assert response.json_body.keys() == {"Code", "Message"}
    assert all(word in response.json_body["Message"] for word in words)
    assert b"Traceback" not in response.body
    assert b".py" not in response.body


def test_a_reading_is_answered_with_its_temperature_and_status(stage):
    response = stage.post(posted(value=2000, timestamp=(timestamp := ago(minutes=3))))
    assert response.status_code == 200
    answer = response.json_body
    assert math.isclose(answer.pop("temperature"), 35.027047412120, abs_tol=1e-9)
    assert answer == {"sensor_id": "1", "location_id": "a", "status": "OK", "timestamp": timestamp}


def test_every_status_of_a_working_sensor_is_answered_and_queued(stage):
    statuses = {1: "TEMPERATURE_CRITICAL", 20: "TEMPERATURE_TOO_HIGH", 2000: "OK", 20_000: "TEMPERATURE_TOO_LOW"}
    for value, status in statuses.items():
        assert stage.post(posted(value=value)).json_body["status"] == status
    assert {message["value"]: message["status"] for message in stage.queued()} == statuses


def test_a_measurement_is_queued_as_it_was_answered(stage):
    answer = stage.post(posted(sensor_id="s:1", location_id=7, value=1234.5)).json_body
    assert stage.queued() == [{**answer, "value": 1234.5}]


def test_without_a_timestamp_the_server_says_when(stage):
    before = datetime.now(UTC)
    timestamp = stage.post(posted()).json_body["timestamp"]
    assert timestamp.endswith("Z")
    assert before <= datetime.fromisoformat(timestamp) <= datetime.now(UTC)


def test_a_broken_sensor_is_answered_broken_then_and_ever_after(stage):
    for sensor, value in enumerate([25_000, 0.99, 0, -1, 20_000.001]):
        assert stage.post(posted(sensor_id=sensor, reading_id="before")).json_body["status"] == "OK"
        assert len(stage.queued()) == 1
        for number, later in enumerate([value, 2000, 2001]):
            answer = stage.post(posted(sensor_id=sensor, value=later, reading_id=str(number))).json_body
            identity = {"sensor_id": str(sensor), "location_id": "a", "timestamp": answer["timestamp"]}
            assert answer == {**identity, "status": "BROKEN", "temperature": None}
        assert stage.queued() == []


def test_a_sensor_broken_by_its_first_reading_stays_broken_in_another_process(stage, restart):
    stage.post(posted(value=25_000))
    restart()
    assert stage.post(posted(value=2000)).json_body["status"] == "BROKEN"


def test_a_reading_of_before_the_break_is_answered_as_it_was(stage):
    good = posted(timestamp=ago(minutes=1))
    before = stage.post(good).json_body
    stage.post(posted(value=25_000))
    assert stage.post(good).json_body == before


def test_sensors_1_and_text_1_are_the_same_sensor(stage):
    stage.post(posted(sensor_id=1, value=25_000))
    assert stage.post(posted(sensor_id="1")).json_body["status"] == "BROKEN"
    assert stage.post(posted(sensor_id="01")).json_body["status"] == "OK"


@pytest.mark.parametrize("identity", [{}, {"reading_id": "r"}, {"timestamp": ...}])
def test_the_same_reading_twice_is_one_queue_message_and_one_answer(stage, identity):
    identity = {name: ago(minutes=1) if value is ... else value for name, value in identity.items()}
    first = stage.post(posted(**identity))
    again = stage.post(posted(sensor_id="1", value=2000.0, **identity))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.body == again.body
    assert len(stage.queued()) == 1


def test_the_same_moment_in_another_offset_is_the_same_reading(stage):
    moment = datetime.now(UTC).replace(microsecond=0)
    answers = [
        stage.post(posted(timestamp=moment.astimezone(tz).isoformat())).json_body
        for tz in (UTC, datetime.now().astimezone().tzinfo)
    ]
    assert answers[0] == answers[1]
    assert len(stage.queued()) == 1


@pytest.mark.parametrize("change", [{"value": 2001}, {"location_id": "b"}])
def test_the_same_reading_with_other_content_is_a_conflict(stage, change):
    for identity in ({"reading_id": "r"}, {"timestamp": ago(minutes=1)}):
        assert stage.post(posted(**identity)).status_code == 200
        assert_refused(stage.post(posted(**{**identity, **change})), 409, "another value")
    assert len(stage.queued()) == 2


def test_a_reading_that_breaks_a_rule_is_refused_with_the_name_of_the_field(stage):
    for field, value in {"value": "2000", "timestamp": ago(hours=25)}.items():
        response = stage.post(posted(**{field: value}))
        assert_refused(response, 400, f"{field}: ")
        assert response.json_body["Code"] == "BadRequestError"
    assert stage.queued() == []


def test_no_body_at_all_is_refused(stage):
    assert_refused(stage.http.post("/readings", headers=stage.headers), 400, "body: ")


def test_a_body_of_a_mebibyte_is_taken_and_one_more_byte_is_too_large(stage):
    body = json.dumps(posted()).encode()
    assert stage.post(body + b" " * (1024 * 1024 - len(body))).status_code == 200
    assert_refused(stage.post(body + b" " * (1024 * 1024 + 1 - len(body))), 413, "body: ")


@pytest.mark.parametrize(
    ("status", "content_types"),
    [
        (200, ["application/json", "application/json; charset=utf-8", "Application/JSON"]),
        (200, ["application/x-www-form-urlencoded"]),
        (415, ["text/plain", "multipart/form-data", "application/xml", "nonsense"]),
    ],
    ids=["JSON", "what curl says", "others"],
)
def test_a_body_is_taken_under_the_types_that_clients_give_json_and_no_others(stage, status, content_types):
    for content_type in content_types:
        response = stage.post(posted(), **{"Content-Type": content_type})
        assert response.status_code == status, content_type


def test_other_methods_are_refused(stage):
    assert_refused(stage.http.get("/readings"), 405)


def test_health_is_open_and_shows_no_data(stage, aws_calls):
    response = stage.http.get("/health")
    assert (response.status_code, response.json_body) == (200, {"status": "OK"})
    assert aws_calls.made == []
