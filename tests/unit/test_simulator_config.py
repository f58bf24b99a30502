"""The simulator's configuration: defaults, bounds, and errors that name file and key."""

import re
from pathlib import Path

import pytest

from chalicelib.errors import ValidationError
from chalicelib.validation import load_yaml
from simulator.config import SimulatorConfig
from simulator.sensors import curves_of, list_sensors
from tests.factories import SETTINGS
from tests.planned_fleet import planned_fleet

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "shipped", ["simulator/config.yaml", "simulator/faulty.yaml", "localcloud/run.yaml", "localcloud/demo.yaml"]
)
def test_what_is_shipped_asks_no_more_of_the_local_cloud_than_two_busy_cores_and_8_gb_carry(shipped):
    config = load_yaml(PROJECT / shipped, SimulatorConfig)
    mean_delay_seconds = (config.timer.min_delay_seconds + config.timer.max_delay_seconds) / 2
    readings_per_second = config.meta.locations * config.meta.sensors / mean_delay_seconds
    assert readings_per_second <= 300
    assert readings_per_second / config.load.batch_size <= 5
    assert config.load.workers <= 4


def test_the_shipped_configuration_is_the_fleet_of_the_defaults():
    config = load_yaml(PROJECT / "simulator" / "config.yaml", SimulatorConfig)
    assert (config.meta, config.sensor.range_ohm) == (SimulatorConfig().meta, SimulatorConfig().sensor.range_ohm)


def test_the_locations_of_the_readme_are_none_of_the_simulated():
    tour = (PROJECT / "README.md").read_text()
    shown = set(re.findall(r'"location_id":"?([^",}]+)', tour))
    simulated = {sensor.location_id for sensor in list_sensors(SimulatorConfig().meta)}
    assert shown
    assert not shown & simulated


def test_the_defaults_are_8000_sensors_for_ten_seconds():
    config = SimulatorConfig()
    assert (config.meta.locations, config.meta.sensors) == (8, 1000)
    assert config.sensor.range_ohm == (0.1, 20_500)
    timer = config.timer
    assert (timer.total_runtime_seconds, timer.min_delay_seconds, timer.max_delay_seconds) == (10, 1, 10)
    assert timer.time_scale == 1


def test_what_make_run_and_make_demo_simulate_has_two_types_of_thermistor_of_the_stage():
    for name in ("run", "demo"):
        fleet = load_yaml(PROJECT / "localcloud" / f"{name}.yaml", SimulatorConfig).meta
        assert len(curves_of(fleet, SETTINGS)) == 2


def test_without_being_told_readings_go_one_by_one_and_nothing_goes_wrong():
    config = SimulatorConfig()
    assert config.load.batch_size == 1
    assert config.faults.are_none


@pytest.mark.parametrize("seed", range(10))
def test_the_demo_has_2000_readings_of_all_eight_locations_over_a_quarter_of_an_hour(seed):
    config = load_yaml(PROJECT / "localcloud" / "run.yaml", SimulatorConfig)
    readings = [reading for sensor in planned_fleet(config, seed) for reading in sensor]
    assert len(readings) >= 2_000
    assert {reading.location_id for reading in readings} == {str(number) for number in range(1, 9)}
    measured_us = [reading.measured_us for reading in readings]
    assert (max(measured_us) - min(measured_us)) / 1e6 * config.timer.time_scale >= 15 * 60


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("meta: {locations: 0}", "meta.locations"),
        ("meta: {sensors: -1}", "meta.sensors"),
        ("meta: {sensors: 2.5}", "meta.sensors"),
        ("meta: {sensors: yes}", "meta.sensors"),
        ("meta: {sensors: many}", "meta.sensors"),
        ("meta: {locations: 1000, sensors: 1000}", "meta: locations times sensors"),
        ("sensor: {min_r: -1}", "sensor.min_r"),
        ("sensor: {max_r: .inf}", "sensor.max_r"),
        ("sensor: {max_r: .nan}", "sensor.max_r"),
        ("sensor: {min_r: 2, max_r: 1}", "sensor: min_r"),
        ("sensor: {max_r: 0.05}", "sensor: min_r"),
        ("sensor: {pattern: weekly}", "sensor.pattern"),
        ("sensor: {pattern: daily, min_r: 1}", "sensor: min_r and max_r must be absent"),
        ("meta: {thermistors: {default: 0.7, ntc-10k: 0.2}}", "meta: thermistors must have shares that add up to 1"),
        ("meta: {thermistors: {}}", "meta: thermistors"),
        ("meta: {thermistors: {default: 1.5, ntc-10k: -0.5}}", "meta.thermistors"),
        (
            "{meta: {thermistors: {default: 1}}, sensor: {max_r: 9}}",
            "body: sensor.min_r and sensor.max_r must be absent",
        ),
        ("timer: {total_runtime_seconds: 0}", "timer.total_runtime_seconds"),
        ("timer: {total_runtime_seconds: ten}", "timer.total_runtime_seconds"),
        ("timer: {min_delay_seconds: -0.1}", "timer.min_delay_seconds"),
        ("timer: {min_delay_seconds: 0, max_delay_seconds: 0}", "timer.max_delay_seconds"),
        ("timer: {min_delay_seconds: 3, max_delay_seconds: 2}", "timer: min_delay_seconds"),
        ("timer: {time_scale: 0.5}", "timer.time_scale"),
        ("load: {workers: 0}", "load.workers"),
        ("load: {threads: 3}", "load.threads"),
        ("load: {batch_size: 0}", "load.batch_size"),
        ("load: {batch_size: 501}", "load.batch_size"),
        ("load: {batch_size: 2.5}", "load.batch_size"),
        ("faults: {duplicate_rate: -0.1}", "faults.duplicate_rate"),
        ("faults: {malformed_rate: 1.1}", "faults.malformed_rate"),
        ("faults: {late_rate: .nan}", "faults.late_rate"),
        ("faults: {late_rate: often}", "faults.late_rate"),
        ("faults: {out_of_order_rate: 0.6}", "faults.out_of_order_rate"),
        ("faults: {lost_rate: 0.1}", "faults.lost_rate"),
        ("timers: {}", "timers"),
        ("meta: [8, 1000]", "meta"),
    ],
)
def test_a_wrong_configuration_is_an_error_that_names_file_and_key(tmp_path, text, key):
    path = tmp_path / "sensors.yaml"
    path.write_text(text)
    with pytest.raises(ValidationError) as error:
        load_yaml(path, SimulatorConfig)
    assert str(error.value).startswith(f"{path}: {key}")
