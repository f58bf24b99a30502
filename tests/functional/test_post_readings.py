"""POST /readings through the real app: what sensors rely on."""

import json
import math
import re
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.fields import format_time, to_milliseconds
from tests.factories import posted, queued
from tests.strategies import JSON_VALUES


def ago(**age):
    return format_time(datetime.now(UTC) - timedelta(**age))


def assert_refused(response, status, *words):
    """The answer has Chalice's shape, says the words, and tells nothing of the program behind it."""
    assert response.status_code == status
    assert response.json_body.keys() == {"Code", "Message"}
    assert all(word in response.json_body["Message"] for word in words)
    assert b"Traceback" not in response.body
    assert b".py" not in response.body


def test_a_reading_is_answered_with_its_temperature_and_status_and_queued_so(stage):
    response = stage.post(posted(sensor_id="s:1", location_id=7, value=2000, timestamp=(timestamp := ago(minutes=3))))
    assert response.status_code == 200
    answer = response.json_body
    assert stage.queued() == [queued(answer, 2000)]
    assert math.isclose(answer.pop("temperature"), 35.027047412120, abs_tol=1e-9)
    assert answer == {"sensor_id": "s:1", "location_id": "7", "status": "OK", "timestamp": timestamp}


def test_without_a_timestamp_the_server_says_when(stage):
    before = datetime.now(UTC)
    timestamp = stage.post(posted()).json_body["timestamp"]
    assert re.fullmatch(r".*:\d\d\.\d{3}Z", timestamp)
    assert to_milliseconds(before) <= datetime.fromisoformat(timestamp) <= datetime.now(UTC)


def test_a_sensor_broken_by_its_first_reading_stays_broken_in_another_process(stage, restart):
    stage.post(posted(value=25_000))
    restart()
    assert stage.post(posted(value=2000)).json_body["status"] == "BROKEN"


def test_the_same_reading_twice_is_one_queue_message_and_one_answer(stage, subtests):
    for sensor, identity in enumerate([{}, {"reading_id": "r"}, {"timestamp": ago(minutes=1)}]):
        with subtests.test(**identity):
            first = stage.post(posted(sensor_id=sensor, **identity))
            again = stage.post(posted(sensor_id=str(sensor), value=2000.0, **identity))
            assert (first.status_code, again.status_code) == (200, 200)
            assert first.body == again.body
            assert len(stage.queued()) == 1


def test_the_same_reading_with_another_value_is_a_conflict(stage, subtests):
    for sensor, identity in enumerate([{"reading_id": "r"}, {"timestamp": ago(minutes=1)}]):
        with subtests.test(**identity):
            reading = posted(sensor_id=sensor, **identity)
            assert stage.post(reading).status_code == 200
            assert_refused(stage.post({**reading, "value": 2001}), 409, "value: ", "same reading")
            assert len(stage.queued()) == 1


def test_a_sensor_of_another_location_has_readings_of_its_own_whatever_its_id(stage):
    reading = posted(sensor_id=1, reading_id="r", timestamp=ago(minutes=1))
    first = stage.post(reading)
    stage.post({**reading, "value": 25_000, "timestamp": ago(minutes=2)})
    other = stage.post({**reading, "location_id": "b", "value": 3000})
    assert (first.json_body["status"], other.json_body["status"]) == ("OK", "OK")
    assert [one["location_id"] for one in stage.queued()] == ["a", "b"]


def test_a_reading_that_breaks_a_rule_is_refused_with_the_name_of_the_field(stage):
    for field, value in {"value": "2000", "timestamp": ago(hours=168, seconds=1)}.items():
        response = stage.post(posted(**{field: value}))
        assert_refused(response, 400, f"{field}: ")
        assert response.json_body["Code"] == "BadRequestError"
    assert stage.queued() == []


def test_a_reading_of_a_week_ago_is_taken_and_an_older_one_refused(stage):
    assert stage.post(posted(timestamp=ago(hours=167, minutes=59))).status_code == 200
    assert_refused(stage.post(posted(timestamp=ago(hours=169))), 400, "timestamp: more than 168 hours old")
    assert len(stage.queued()) == 1


def test_no_body_at_all_is_refused(stage):
    assert_refused(stage.http.post("/readings", headers=stage.headers), 400, "body: ")


def test_a_body_of_a_mebibyte_is_taken_and_one_more_byte_is_too_large(stage):
    body = json.dumps(posted()).encode()
    assert stage.post(body + b" " * (1024 * 1024 - len(body))).status_code == 200
    assert_refused(stage.post(body + b" " * (1024 * 1024 + 1 - len(body))), 413, "body: ")


CONTENT_TYPES = {
    200: [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x-www-form-urlencoded",
    ],
    415: ["text/plain", "multipart/form-data", "application/xml", "nonsense"],
}


def test_a_body_is_taken_under_the_types_that_clients_give_json_and_no_others(stage):
    for status, content_types in CONTENT_TYPES.items():
        for content_type in content_types:
            assert stage.post(posted(), **{"Content-Type": content_type}).status_code == status, content_type


def test_other_methods_are_refused(stage):
    assert_refused(stage.http.get("/readings"), 405)


def test_health_is_open_and_shows_no_data(stage, aws_calls):
    response = stage.http.get("/health")
    assert (response.status_code, response.json_body) == (200, {"status": "OK"})
    assert aws_calls.made == []


FIELDS = st.sampled_from(["sensor_id", "location_id", "value", "timestamp", "reading_id"])
ANY_READING = (
    JSON_VALUES
    | st.dictionaries(FIELDS, JSON_VALUES)
    | st.tuples(FIELDS, JSON_VALUES).map(lambda change: posted(**{change[0]: change[1]}))
)


@settings(max_examples=200)
@given(st.binary(max_size=50) | ANY_READING | st.lists(ANY_READING, max_size=5).map(lambda items: {"readings": items}))
def test_no_body_whatever_is_answered_with_a_server_error(stage, body):
    response = stage.post(body if isinstance(body, bytes) else json.dumps(body))
    readings = body.get("readings") if isinstance(body, dict) else None
    if response.status_code != 200:
        # What a reading of a batch has wrong fails no other one.
        assert response.status_code in ({409} if readings else {400, 409})
        assert_refused(response, response.status_code, ": ")
    elif readings:
        answer = response.json_body
        assert len(answer["results"]) == len(readings) == answer["accepted"] + answer["broken"] + answer["rejected"]
        for index, result in enumerate(answer["results"]):
            assert result.get("error", f"readings[{index}]").startswith(f"readings[{index}]")
