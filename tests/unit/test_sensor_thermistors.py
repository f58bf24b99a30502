"""What a sensor's thermistor may be, a type of the settings or a calibration of its own, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from chalicelib.calibration import Calibration, Thermistors, ThermistorType
from chalicelib.errors import ValidationError
from chalicelib.ingest.sensors import read_row
from chalicelib.thermistor import Coefficients, ResistanceRange, Thermistor
from chalicelib.validation import convert
from tests.factories import SETTINGS
from tests.strategies import JSON_VALUES, outcome

THERMISTORS = Thermistors(SETTINGS.thermistors)
MEMBERS = st.sampled_from(["a", "b", "c", "points", "min_ohm", "max_ohm", "type"])


@given(JSON_VALUES | st.dictionaries(MEMBERS, JSON_VALUES | st.lists(st.tuples(st.floats(), st.floats()), max_size=4)))
def test_whatever_is_given_is_a_curve_or_refused(given):
    used, error = outcome(THERMISTORS.parse, given)
    if error is None:
        assert isinstance(THERMISTORS.curve_of(used), Thermistor)
    else:
        assert error.startswith("thermistor")
        assert ": " in error
        assert len(error) <= 200


POINTS = [[0, 9796], [10, 5971], [32, 2221]]
DOES_NOT_FALL = "temperature does not fall with resistance from 1.0 to 20000.0 ohm"
THREE = "three temperatures are needed, each with a lower resistance than the colder ones"
NO_TYPE = f"thermistor: must be one of {', '.join(sorted(SETTINGS.thermistors))}"
REFUSED = {
    "an unknown type": ("ptc", NO_TYPE),
    "an empty name": ("", NO_TYPE),
    "a number": (5, "thermistor: Expected `object`, got `int`"),
    "nothing in it": ({}, "thermistor.a: required, but missing"),
    "no c": ({"a": 1e-3, "b": 2e-4}, "thermistor.c: required, but missing"),
    "both": ({"points": POINTS, "a": 1e-3}, "thermistor.a: unknown field"),
    "text": ({"a": "1e-3", "b": 2e-4, "c": 0}, "thermistor.a: Expected `float`, got `str`"),
    "not a number": ({"a": math.nan, "b": 2e-4, "c": 0}, "thermistor: c >= 0 must hold, and all must be finite"),
    "infinite": ({"a": 1e-3, "b": math.inf, "c": 0}, "thermistor: c >= 0 must hold, and all must be finite"),
    "c below 0": ({"a": 1e-3, "b": 2e-4, "c": -1e-9}, "thermistor: c >= 0 must hold, and all must be finite"),
    "too great": ({"a": 1e-3, "b": 2.5, "c": 0}, "thermistor: none may be above 1 or below -1"),
    "too great to be a float": ({"a": 10**400, "b": 1, "c": 0}, "thermistor.a: Number out of range"),
    "b below 0": ({"a": 1e-3, "b": -2e-4, "c": 0}, f"thermistor: {DOES_NOT_FALL}"),
    "no temperature": ({"a": -1e-3, "b": 2e-4, "c": 0}, "thermistor: coefficients give no temperature at 1.0 ohm"),
    "two points": ({"points": POINTS[:2]}, "thermistor.points: Expected `array` of length 3, got 2"),
    "a point of one": ({"points": [*POINTS[:2], [32]]}, "thermistor.points[2]: Expected `array` of length 2, got 1"),
    "absolute zero": ({"points": [*POINTS[:2], [-273.15, 9]]}, "thermistor.points[2][0]: Expected `float` > -273.15"),
    "no resistance": ({"points": [*POINTS[:2], [32, 0]]}, "thermistor.points[2][1]: Expected `float` > 1e-12"),
    "a point that is no number": (
        {"points": [*POINTS[:2], [32, math.nan]]}, "thermistor.points[2][1]: Expected `float` > 1e-12"
    ),
    "a point twice": ({"points": [*POINTS[:2], POINTS[1]]}, f"thermistor.points: {THREE}"),
    "two of one temperature": ({"points": [*POINTS[:2], [10, 2221]]}, f"thermistor.points: {THREE}"),
    "two of one resistance": ({"points": [*POINTS[:2], [32, 5971]]}, f"thermistor.points: {THREE}"),
    "resistance that rises": ({"points": [[0, 2221], [10, 5971], [32, 9796]]}, f"thermistor.points: {THREE}"),
    "points that no thermistor has": (
        {"points": [[0, 1_000], [200, 999], [400, 998]]},
        "thermistor.points: none may be above 1 or below -1",
    ),
    "an impossible range": (
        {"points": POINTS, "min_ohm": 5, "max_ohm": 5}, "thermistor.min_ohm: must be below max_ohm (5.0 and 5.0 ohm)"
    ),
    "a range below the usual one": (
        {"points": POINTS, "max_ohm": 0.5}, "thermistor.min_ohm: must be below max_ohm (1.0 and 0.5 ohm)"
    ),
    "a negative limit": ({"points": POINTS, "min_ohm": -1}, "thermistor.min_ohm: Expected `float` > 1e-12"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "error"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_field_and_the_rule(given, error):
    with pytest.raises(ValidationError) as refusal:
        THERMISTORS.parse(given)
    assert str(refusal.value) == error


def test_the_default_type_has_one_name_in_the_registry():
    assert THERMISTORS.parse(None) is None
    assert THERMISTORS.parse("default") is None
    assert THERMISTORS.parse("ntc-10k") == "ntc-10k"


def test_limits_that_are_not_given_are_those_of_the_default_type():
    usual = THERMISTORS.default.accepted_resistance_ohm
    for curve in ({"points": POINTS}, {"a": 1.4e-3, "b": 2.37e-4, "c": 9.9e-8}):
        for limits in ({}, {"min_ohm": None, "max_ohm": None}):
            calibration = THERMISTORS.parse({**curve, **limits})
            assert (calibration.min_ohm, calibration.max_ohm) == (usual.min, usual.max)
        calibration = THERMISTORS.parse({**curve, "max_ohm": 5_000})
        assert (calibration.min_ohm, calibration.max_ohm) == (usual.min, 5_000)
        calibration = THERMISTORS.parse({**curve, "min_ohm": 100, "max_ohm": 50_000})
        assert (calibration.min_ohm, calibration.max_ohm) == (100, 50_000)


def test_a_sensors_curve_is_that_of_its_type_or_its_own():
    assert THERMISTORS.curve_of(None) == THERMISTORS.curve_of("default") == THERMISTORS.default
    assert THERMISTORS.curve_of("ntc-10k") == SETTINGS.thermistors["ntc-10k"].thermistor
    own = THERMISTORS.parse({"a": 1.4e-3, "b": 2.37e-4, "c": 9.9e-8, "max_ohm": 5_000})
    curve = THERMISTORS.curve_of(own)
    assert curve.coefficients == Coefficients(1.4e-3, 2.37e-4, 9.9e-8)
    assert curve.accepted_resistance_ohm == ResistanceRange(1.0, 5_000)


OWN = Calibration(1.4e-3, 2.37e-4, 9.9e-8, 1.0, 20_000.0)


@pytest.mark.parametrize(
    "gone",
    [
        "a-type-that-was",
        *(structs.replace(OWN, **{name: wrong}) for name in OWN.__struct_fields__ for wrong in (math.nan, math.inf)),
        structs.replace(OWN, c=-1e-9),
        structs.replace(OWN, min_ohm=0.0),
    ],
)
def test_a_sensor_whose_row_names_no_curve_has_none(gone):
    assert THERMISTORS.curve_of(OWN)
    assert THERMISTORS.curve_of(gone) is None


@pytest.mark.parametrize("text", ["", '{"a": 1}', "5", "null", '{"a":1,"b":1,"c":"x","min_ohm":1,"max_ohm":2}'])
def test_a_row_that_somebody_has_edited_to_nonsense_names_no_curve(text):
    row = {"sensor_id": {"S": "a/1"}, "broken": {"BOOL": False}, "thermistor": {"S": text}}
    assert THERMISTORS.curve_of(read_row(row).thermistor) is None


TYPE = {"title": "a", "accepted_resistance_ohm": {"min": 1, "max": 20_000}}
ADJACENT = [[0, 1000.0], [1, math.nextafter(1000.0, 0)], [2, math.nextafter(math.nextafter(1000.0, 0), 0)]]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"coefficients": {"a": math.nan, "b": 2e-4, "c": 0}}, "coefficients: c >= 0 must hold, and all"),
        ({"coefficients": {"a": 1e-3, "b": math.inf, "c": 0}}, "coefficients: c >= 0 must hold, and all"),
        ({"points": [*POINTS[:2], [math.nan, 2221]]}, r"points\[2\]\[0\]: Expected `float`"),
        ({"points": [*POINTS[:2], [32, math.inf]]}, r"points\[2\]\[1\]: Expected `float`"),
        ({"points": ADJACENT}, f"body: {THREE}"),
        ({"points": POINTS, "accepted_resistance_ohm": {"min": 1, "max": math.nan}}, "accepted_resistance_ohm: 0 <"),
    ],
)
def test_a_type_of_the_settings_with_figures_that_no_curve_has_is_refused(given, error):
    with pytest.raises(ValidationError, match=f"^{error}"):
        convert({**TYPE, **given}, ThermistorType)
