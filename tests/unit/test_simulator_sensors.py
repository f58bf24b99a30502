"""A fleet's sensors: numbered by location, with types of thermistor in the configured shares."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import ValidationError
from simulator.config import FleetConfig
from simulator.sensors import Sensor, curves_of, list_sensors
from tests.factories import SETTINGS

SHARES = {"default": 0.7, "ntc-10k": 0.3}


def test_without_types_every_sensor_is_of_the_default_type():
    assert {sensor.thermistor for sensor in list_sensors(FleetConfig())} == {"default"}


@given(st.integers(1, 20), st.sampled_from([{"a": 0.7, "b": 0.3}, {"a": 0.5, "b": 0.5, "c": 0.0}, {"a": 1.0}]))
def test_types_have_their_shares_in_every_location(locations, shares):
    sensors = list_sensors(FleetConfig(locations, 100, shares))
    counts = Counter((sensor.location_id, sensor.thermistor) for sensor in sensors)
    for location in range(1, locations + 1):
        assert {name: counts[str(location), name] for name in shares} == pytest.approx(
            {name: 100 * share for name, share in shares.items()}, abs=2
        )


def test_a_sensors_type_is_the_same_in_a_larger_fleet():
    assert set(list_sensors(FleetConfig(3, 10, SHARES))) < set(list_sensors(FleetConfig(5, 30, SHARES)))


def test_the_same_number_may_be_another_type_in_another_location():
    sensors = list_sensors(FleetConfig(8, 25, SHARES))
    assert {Sensor("1", "4", "ntc-10k"), Sensor("2", "4", "default")} <= set(sensors)


def test_each_type_has_the_curve_of_the_stage():
    curves = curves_of(FleetConfig(thermistors=SHARES), SETTINGS)
    assert curves == {name: SETTINGS.thermistors[name].thermistor for name in SHARES}


def test_a_type_that_the_stage_lacks_is_an_error_that_names_it_and_those_there_are():
    with pytest.raises(ValidationError, match=rf"^meta.thermistors.ptc: .* {', '.join(SETTINGS.thermistors)}$"):
        curves_of(FleetConfig(thermistors={"ptc": 1.0}), SETTINGS)
