"""The batches that take the most calls end before their function does, however slow each call is."""

import json
import time

import pytest

from tests.factories import posted
from tests.functional.test_failing_services import TIME, assert_unavailable, attempts_that_died_are_over
from tests.functional.test_time_limits import FUNCTION_SECONDS, Clock

NUMBERS = range(500)
POINTS = {"points": [[0, 32_650.9], [-40, 336_103.2], [-20, 97_006.9]], "max_ohm": 400_000}


def of_new_locations(stage):
    return [posted(sensor_id=number, location_id=f"new-{number}", timestamp=TIME) for number in NUMBERS]


def of_broken_sensors(stage):
    return [posted(sensor_id=number, value=25_000, timestamp=TIME) for number in NUMBERS]


def of_sensors_with_their_own_calibrations(stage):
    for start in NUMBERS[::100]:
        assert all("error" not in one for one in provision(stage, NUMBERS[start : start + 100]).json_body["results"])
    return [posted(sensor_id=number, value=97_006.9, timestamp=TIME) for number in NUMBERS]


def provision(stage, numbers):
    body = json.dumps({"sensors": [{"sensor_id": number, "thermistor": POINTS} for number in numbers]})
    return stage.http.post("/locations/a/sensors", headers=stage.headers, body=body)


BATCHES = pytest.mark.parametrize(
    "readings", [of_new_locations, of_broken_sensors, of_sensors_with_their_own_calibrations]
)


@pytest.fixture
def slow_down(stage, aws_calls, monkeypatch):
    """A function after which each call takes so many seconds, of a clock that stands still otherwise."""
    import app

    stage.post(posted(sensor_id="known", timestamp=TIME))

    def slow_down(call_seconds):
        clock = Clock(call_seconds)
        monkeypatch.setattr(aws_calls, "on_answer", clock.pass_on)
        monkeypatch.setattr("chalicelib.aws.monotonic", clock)
        now = time.time() - clock.now
        monkeypatch.setattr(app.services.ingest._alerts, "_clock", lambda: now + clock.now)
        return clock

    return slow_down


@BATCHES
def test_a_batch_of_many_calls_is_taken_when_each_is_ten_times_as_slow_as_usual(stage, slow_down, readings):
    body = {"readings": readings(stage)}
    clock = slow_down(0.2)
    began = clock.now
    response = stage.post(body)
    assert response.status_code == 200
    assert response.json_body["rejected"] == 0
    assert clock.now - began < FUNCTION_SECONDS / 2


@BATCHES
@pytest.mark.parametrize("call_seconds", [None, 2, 0.7])
def test_a_batch_of_many_calls_ends_before_its_function_however_slow_each_is(stage, slow_down, readings, call_seconds):
    body = {"readings": readings(stage)}
    clock = slow_down(call_seconds)
    began = clock.now
    response = stage.post(body)
    if response.status_code != 200:
        assert_unavailable(response)
    assert clock.calls > 0
    assert clock.now - began < FUNCTION_SECONDS


@BATCHES
def test_a_batch_of_many_calls_gets_on_with_every_repetition(stage, slow_down, readings):
    body = {"readings": readings(stage)}
    slow_down(0.7)
    statuses = []
    while 200 not in statuses:
        statuses.append(stage.post(body).status_code)
        assert len(statuses) < 10
        attempts_that_died_are_over(stage)
    assert stage.post(body).json_body["rejected"] == 0


@pytest.mark.parametrize("call_seconds", [None, 2, 0.2])
def test_a_hundred_calibrations_end_before_their_function_however_slow_each_call_is(stage, slow_down, call_seconds):
    clock = slow_down(call_seconds)
    began = clock.now
    response = provision(stage, range(100))
    assert response.status_code in ({200} if call_seconds == 0.2 else {200, 503})
    assert clock.now - began < FUNCTION_SECONDS
