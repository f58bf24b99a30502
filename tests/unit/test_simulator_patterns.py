"""What sensors measure: ranges of resistance by type, and days that look like days."""

import itertools
import random
import statistics
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from localcloud.demo import history_of
from simulator.config import FleetConfig, SensorConfig, SimulatorConfig, TimerConfig
from simulator.patterns import Daily, pattern_of, resistance_ohm
from simulator.sensors import Sensor
from tests.factories import DAY, HOUR, MINUTE, NOW, SETTINGS, thermistor
from tests.planned_fleet import planned_fleet

CURVES = {name: type_.thermistor for name, type_ in SETTINGS.thermistors.items()}
SHARES = {"default": 0.7, "ntc-10k": 0.3}
TYPES = st.sampled_from(sorted(CURVES))
# Curves of which a closed formula would need a case each: c = 0, and b < 0.
STRANGE = [thermistor(b=2.5e-4, c=0.0), thermistor(lowest=1e3, highest=1e6, a=2e-3, b=-1e-5, c=1e-6)]
DAILY = SimulatorConfig(
    meta=FleetConfig(locations=3, sensors=4, thermistors=SHARES),
    sensor=SensorConfig(pattern="daily"),
    timer=TimerConfig(total_runtime_seconds=86_400, min_delay_seconds=3_000, max_delay_seconds=4_000),
)


@given(st.sampled_from([*CURVES.values(), *STRANGE]), st.floats(0, 1))
def test_the_resistance_of_a_temperature_gives_that_temperature_back(curve, share):
    accepted = curve.accepted_resistance_ohm
    temperature = curve.temperature_celsius(accepted.min ** (1 - share) * accepted.max**share * (1 - 1e-15 * share))
    assert curve.temperature_celsius(resistance_ohm(curve, temperature)) == pytest.approx(temperature, abs=1e-6)


@given(TYPES, st.sampled_from([-1e3, 1e5]))
def test_a_temperature_beyond_the_range_has_the_resistance_at_its_end(name, temperature):
    accepted = CURVES[name].accepted_resistance_ohm
    end = accepted.max if temperature < 0 else accepted.min
    assert resistance_ohm(CURVES[name], temperature) == pytest.approx(end)


@pytest.mark.parametrize("name", CURVES)
def test_a_type_measures_over_its_own_range_and_about_one_in_forty_beyond_it(name):
    config = SimulatorConfig(meta=FleetConfig(thermistors=SHARES))
    pattern, source = pattern_of(config, 1, Sensor("1", "1", name), CURVES[name]), random.Random(1)
    accepted = CURVES[name].accepted_resistance_ohm
    measured = [pattern(source, NOW) for _ in range(20_000)]
    beyond = sum(not CURVES[name].accepts(ohm) for ohm in measured) / len(measured)
    assert beyond == pytest.approx(0.0245, abs=0.005)
    assert min(measured) < accepted.min + accepted.max / 100
    assert accepted.max < max(measured) <= accepted.max * 1.025


def test_the_default_type_when_it_is_named_measures_over_the_range_of_the_defaults():
    class Ends(random.Random):
        def uniform(self, a, b):
            return (a, b)

    config = SimulatorConfig(meta=FleetConfig(thermistors={"default": 1.0}))
    pattern = pattern_of(config, 1, Sensor("1", "1"), CURVES["default"])
    assert pattern(Ends(), NOW) == SensorConfig().range_ohm


@given(st.integers())
def test_a_day_never_breaks_a_sensor_of_any_type(seed):
    for readings in planned_fleet(DAILY, seed):
        assert all(CURVES[one.thermistor].accepts(one.resistance_ohm) for one in readings)


@given(st.integers(), TYPES)
def test_a_day_is_warm_in_the_afternoon_cold_before_dawn_and_like_the_next(seed, name):
    of_sensor = Daily(seed, Sensor("1", "1", name), CURVES[name])
    midnight = NOW - 12 * HOUR
    by_hour = {hour: of_sensor.temperature_celsius(midnight + hour * HOUR) for hour in range(24)}
    assert max(by_hour, key=by_hour.get) in range(13, 18)
    assert min(by_hour, key=by_hour.get) in range(1, 6)
    assert 4 <= max(by_hour.values()) - min(by_hour.values()) <= 14
    assert of_sensor.temperature_celsius(midnight + DAY) == pytest.approx(by_hour[0])


def test_locations_have_levels_of_their_own_and_sensors_stay_near_their_locations():
    levels = {
        place: [
            statistics.mean(Daily(3, Sensor(place, str(n)), CURVES["default"]).temperature_celsius(NOW + HOUR * hour)
            for hour in range(24))
            for n in range(25)
        ]
        for place in "1234"
    }  # fmt: skip
    means = list(map(statistics.mean, levels.values()))
    assert max(means) - min(means) > 2
    assert all(0 < statistics.stdev(sensors) < 1 for sensors in levels.values())


def test_the_same_seed_gives_the_same_days_at_the_same_time():
    assert list(map(list, planned_fleet(DAILY, 5))) == list(map(list, planned_fleet(DAILY, 5)))
    assert list(map(list, planned_fleet(DAILY, 5))) != list(map(list, planned_fleet(DAILY, 5, NOW + HOUR)))


def temperatures_by_time(config, started_at):
    """Return the location's mean temperatures by hour of device time."""
    timer = config.timer
    device_started = started_at - timedelta(seconds=timer.total_runtime_seconds * (timer.time_scale - 1))
    readings = itertools.chain.from_iterable(planned_fleet(config, 7, started_at))
    by_hour = {}
    for one in readings:
        time = device_started + timedelta(microseconds=one.measured_us * timer.time_scale)
        hour = time.replace(minute=0, second=0, microsecond=0)
        by_hour.setdefault(hour, []).append(CURVES[one.thermistor].temperature_celsius(one.resistance_ohm))
    return {hour: statistics.mean(temperatures) for hour, temperatures in by_hour.items()}


DEMO = structs.replace(DAILY, meta=FleetConfig(locations=1, sensors=25, thermistors=SHARES))


def test_the_history_of_a_demo_is_what_the_same_sensors_would_have_measured_live():
    live = structs.replace(DEMO, timer=TimerConfig(86_400, 60, 600))
    before, after = temperatures_by_time(history_of(DEMO), NOW + DAY), temperatures_by_time(live, NOW)
    shared = before.keys() & after.keys()
    assert len(shared) >= 22
    assert all(before[hour] == pytest.approx(after[hour], abs=0.5) for hour in shared)


def test_the_history_of_a_demo_has_every_sensor_in_every_window_of_23_hours_that_the_api_takes():
    config = history_of(DEMO)
    started_at = NOW - timedelta(seconds=config.timer.total_runtime_seconds * (config.timer.time_scale - 1))
    sensors_in_window = {}
    for one in itertools.chain.from_iterable(planned_fleet(config, 7)):
        minutes = (started_at + timedelta(microseconds=one.measured_us * config.timer.time_scale) - NOW) // MINUTE
        sensors_in_window.setdefault(minutes // SETTINGS.analytics.window_minutes, set()).add(one.sensor_id)
    windows = sorted(sensors_in_window)
    assert windows == list(range(windows[0], windows[-1] + 1))
    assert -24 * 12 < windows[0] <= -23 * 12 <= windows[0] + 1
    assert windows[-1] >= -1
    assert all(len(sensors_in_window[window]) >= 20 for window in windows[1:-1])
