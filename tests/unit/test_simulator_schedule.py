"""What sensors measure when: laws of the plan and of the sensors' own time."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from simulator.clock import DeviceClock
from simulator.config import FleetConfig, SensorConfig, SimulatorConfig, TimerConfig
from tests.planned_fleet import planned_fleet

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MICROSECOND = 1e-6


@st.composite
def configs(draw):
    delays = sorted(draw(st.lists(st.floats(0.001, 5), min_size=2, max_size=2)))
    resistances = sorted(draw(st.lists(st.floats(0, 1e6), min_size=2, max_size=2)))
    shortest_delay = draw(st.sampled_from([0.0, delays[0]]))
    return SimulatorConfig(
        meta=FleetConfig(locations=draw(st.integers(1, 4)), sensors=draw(st.integers(1, 4))),
        sensor=SensorConfig(min_r=resistances[0], max_r=resistances[1]),
        timer=TimerConfig(
            total_runtime_seconds=draw(st.floats(0.001, 10)),
            min_delay_seconds=shortest_delay,
            max_delay_seconds=delays[1],
            time_scale=draw(st.floats(1, 1000)),
        ),
    )


ONE_SENSOR = FleetConfig(locations=1, sensors=1)


def first_readings(config, seed):
    return [list(itertools.islice(plan, 20)) for plan in planned_fleet(config, seed)]


@given(config=configs(), seed=st.integers())
def test_the_same_seed_plans_the_same_readings_in_the_same_order(config, seed):
    assert first_readings(config, seed) == first_readings(config, seed)


@given(seed=st.integers())
def test_another_seed_plans_other_readings(seed):
    config = SimulatorConfig(meta=ONE_SENSOR)
    assert first_readings(config, seed) != first_readings(config, seed + 1)


@given(config=configs(), seed=st.integers())
def test_delays_resistances_and_the_end_stay_within_their_bounds(config, seed):
    timer, (low, high) = config.timer, config.sensor.range_ohm
    for readings in first_readings(config, seed):
        due_seconds = [reading.due_us / 1e6 for reading in readings]
        delays = [later - earlier for earlier, later in itertools.pairwise(due_seconds)]
        lowest, highest = timer.min_delay_seconds - MICROSECOND, timer.max_delay_seconds + MICROSECOND
        assert all(lowest <= delay <= highest for delay in delays)
        assert all(0 <= due < timer.total_runtime_seconds + MICROSECOND for due in due_seconds)
        assert all(low <= r.resistance_ohm <= high for r in readings)


@given(config=configs(), seed=st.integers())
def test_a_sensor_plans_until_the_run_is_over(config, seed):
    readings = first_readings(config, seed)[0]
    if 0 < len(readings) < 20:
        longest_silence = config.timer.max_delay_seconds + MICROSECOND
        assert readings[-1].due_us / 1e6 + longest_silence >= config.timer.total_runtime_seconds


@given(config=configs(), seed=st.integers())
def test_no_two_timestamps_of_a_sensor_are_the_same_and_all_go_forward(config, seed):
    clock = DeviceClock(NOW, config.timer)
    for readings in first_readings(config, seed):
        timestamps = [clock.timestamp(reading.due_us) for reading in readings]
        assert timestamps == sorted(set(timestamps))


def test_a_delay_too_short_for_a_timestamp_still_moves_the_next_reading_on():
    timer = TimerConfig(total_runtime_seconds=20, min_delay_seconds=0, max_delay_seconds=0.001)
    due_us = [reading.due_us for reading in planned_fleet(SimulatorConfig(meta=ONE_SENSOR, timer=timer), 1)[0]]
    assert due_us == sorted(set(due_us))


def test_every_location_numbers_its_sensors_from_1():
    config = SimulatorConfig(
        meta=FleetConfig(locations=3, sensors=2), timer=TimerConfig(total_runtime_seconds=10, min_delay_seconds=1)
    )
    pairs = {(reading.location_id, reading.sensor_id) for reading in map(next, planned_fleet(config, seed=1))}
    assert pairs == {("1", "1"), ("1", "2"), ("2", "1"), ("2", "2"), ("3", "1"), ("3", "2")}


def test_what_a_sensor_measures_does_not_depend_on_the_size_of_the_fleet():
    small = SimulatorConfig(meta=FleetConfig(locations=1, sensors=3))
    large = SimulatorConfig(meta=FleetConfig(locations=1, sensors=30))
    planned = {tuple(readings) for readings in first_readings(large, seed=5)}
    assert {tuple(readings) for readings in first_readings(small, seed=5)} < planned


def test_delays_fill_their_range_evenly():
    timer = TimerConfig(total_runtime_seconds=20_000, min_delay_seconds=1, max_delay_seconds=3)
    (plan,) = planned_fleet(SimulatorConfig(meta=ONE_SENSOR, timer=timer), 1)
    due_seconds = [reading.due_us / 1e6 for reading in plan]
    delays = [later - earlier for earlier, later in itertools.pairwise(due_seconds)]
    for quarter in range(4):
        low = 1 + quarter / 2
        share = sum(low <= delay < low + 0.5 for delay in delays) / len(delays)
        assert abs(share - 0.25) < 0.02


def test_without_time_scale_a_reading_carries_the_time_when_it_is_due():
    clock = DeviceClock(NOW, TimerConfig(total_runtime_seconds=10))
    assert clock.timestamp(2_500_000) == "2026-03-01T12:00:02.500Z"


@given(time_scale=st.integers(1, 1000), runtime_seconds=st.integers(1, 1000))
def test_device_time_is_scaled_and_level_with_the_clock_at_the_end(time_scale, runtime_seconds):
    clock = DeviceClock(NOW, TimerConfig(total_runtime_seconds=runtime_seconds, time_scale=time_scale))
    first, last = (datetime.fromisoformat(clock.timestamp(us)) for us in (0, runtime_seconds * 10**6))
    assert last == NOW + timedelta(seconds=runtime_seconds)
    assert last - first == timedelta(seconds=runtime_seconds * time_scale)
