"""The command `run` with types of thermistor against a stub: sensors are made before any of them posts."""

import functools
from collections import Counter

import pytest

from tests.functional.simulator_stub import CONFIG, SETTINGS, read_dump

TYPES = CONFIG.replace("sensors: 10}", "sensors: 250, thermistors: {default: 0.7, ntc-10k: 0.3}}")


@pytest.fixture
def run(run):
    """The command with a token, without which no sensor can be made."""
    return functools.partial(run, "--seed", "1", environment={"THERMONET_TOKEN": "xyz"})


@pytest.fixture
def asked(api):
    """The requests for sensors, each the location and how many."""
    requests = []

    def remember(location_id, sensors):
        assert not api.received
        requests.append((location_id, len(sensors)))
        return api.make_sensors(location_id, sensors)

    api.respond_to_sensors = remember
    return requests


def test_every_sensor_is_made_in_groups_of_a_hundred_before_the_first_reading(api, run, asked):
    code, output = run(config=TYPES)
    assert code == 0
    assert asked == [(location, size) for location in "12" for size in (100, 100, 50)]
    assert Counter(api.types.values()) == {"default": 349, "ntc-10k": 151}
    assert "every answer is the expected one" in output.out


def test_both_types_measure_and_are_checked(api, run, tmp_path):
    run(config=TYPES)
    limit = SETTINGS.thermistors["default"].accepted_resistance_ohm.max * 1.025
    working = [row for row in read_dump(tmp_path / "dump.csv") if row["temperature"]]
    by_type = {name: [] for name in set(api.types.values())}
    for row in working:
        by_type[api.types[row["location_id"], row["sensor_id"]]].append(float(row["value"]))
    assert max(by_type["default"]) <= limit < max(by_type["ntc-10k"])


def test_an_api_that_forgets_what_it_made_of_a_sensor_is_found_out(api, run):
    def forget(location_id, sensors):
        made = api.make_sensors(location_id, sensors)
        api.types.clear()
        return made

    api.respond_to_sensors = forget
    code, output = run(config=TYPES)
    assert code == 1
    assert "NOT AS EXPECTED" in output.out


def test_without_types_no_sensor_is_made(run, asked):
    run()
    assert asked == []


def test_without_a_token_the_run_ends_in_a_line_that_says_what_it_is_for(run, asked):
    code, output = run(config=TYPES, environment={})
    assert (code, asked) == (2, [])
    assert output.err == "error: token: meta.thermistors needs one with the scope sensors:write\n"


FORBIDDEN = (403, {"Code": "ForbiddenError", "Message": "token: it lacks the scope sensors:write"})
ALL_REFUSED = (200, {"results": [{"error": "sensors[0].thermistor: no such type"}] * 100})
REFUSALS = [
    (FORBIDDEN, "refuses the token with 403: token: it lacks the scope sensors:write"),
    (ALL_REFUSED, "the sensors of location 1 were not made: sensors[0].thermistor: no such type"),
    ((200, b"no JSON"), "the sensors of location 1 were not made: the answer cannot be read: "),
]


@pytest.mark.parametrize(("answer", "reason"), REFUSALS)
def test_a_refusal_ends_the_run_in_one_line_before_any_reading(api, run, answer, reason):
    api.respond_to_sensors = lambda *_: answer
    code, output = run(config=TYPES)
    assert code == 2
    assert output.err.startswith("error: ")
    assert reason in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert api.received == []


def test_a_type_that_the_stage_lacks_ends_the_run_before_anything_is_sent(run, asked):
    code, output = run(config=TYPES.replace("ntc-10k", "ptc"))
    assert code == 2
    assert output.err.startswith("error: meta.thermistors.ptc: ")
    assert asked == []
