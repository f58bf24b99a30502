"""The Steinhart–Hart equation against values of higher precision, and what temperatures mean."""

import math
from itertools import permutations

import mpmath
import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import structs

from chalicelib.thermistor import Coefficients, ResistanceRange, Status, StatusLimits, Thermistor
from tests.factories import SETTINGS, thermistor

RESISTANCES = st.floats(1.0, 20_000.0)


def reference_celsius(resistance_ohm, a, b, c):
    """The equation in 40 digits."""
    with mpmath.workdps(40):
        log_r = mpmath.log(mpmath.mpf(resistance_ohm))
        return 1 / (mpmath.mpf(a) + mpmath.mpf(b) * log_r + mpmath.mpf(c) * log_r**3) - mpmath.mpf("273.15")


@pytest.mark.parametrize(
    ("resistance_ohm", "celsius"),
    [
        (1, 441.13571428571428571),
        (10, 240.48145361863449419),
        (100, 126.67501630177699833),
        (1000, 52.607285575886294983),
        (2000, 35.027047412120043204),
        (5000, 14.227557725477833435),
        (10000, 0.05903890202605449353),
        (20000, -12.956104420444635072),
    ],
)
def test_the_default_thermistor_gives_the_reference_temperatures(resistance_ohm, celsius):
    assert thermistor().temperature_celsius(resistance_ohm) == pytest.approx(celsius, abs=1e-10)


@given(RESISTANCES)
def test_the_equation_agrees_with_40_digits(resistance_ohm):
    expected = reference_celsius(resistance_ohm, 1.40e-3, 2.37e-4, 9.90e-8)
    assert abs(thermistor().temperature_celsius(resistance_ohm) - expected) < 1e-10


@given(st.floats(1e-4, 5e-3), st.floats(1e-5, 1e-3), st.floats(0, 1e-6), st.floats(1.0, 1e6))
def test_other_coefficients_agree_with_40_digits_too(a, b, c, resistance_ohm):
    sensor = thermistor(a=a, b=b, c=c, highest=1e6)
    expected = reference_celsius(resistance_ohm, a, b, c)
    assert abs(sensor.temperature_celsius(resistance_ohm) - expected) < 1e-11 * abs(expected + 273.15)


@given(RESISTANCES, RESISTANCES)
def test_a_higher_resistance_never_means_a_higher_temperature(one, other):
    low, high = sorted([one, other])
    assert thermistor().temperature_celsius(low) >= thermistor().temperature_celsius(high)


@given(st.integers(1, 19_999))
def test_an_ohm_more_is_measurably_colder(resistance_ohm):
    sensor = thermistor()
    assert sensor.temperature_celsius(resistance_ohm) > sensor.temperature_celsius(resistance_ohm + 1)


@pytest.mark.parametrize("resistance_ohm", [1.0, 20_000.0, 1, 20_000, math.nextafter(1, 2), 19_999.999])
def test_both_ends_of_the_range_belong_to_a_working_sensor(resistance_ohm):
    assert thermistor().accepts(resistance_ohm)


@pytest.mark.parametrize(
    "resistance_ohm",
    [math.nextafter(1, 0), math.nextafter(20_000, math.inf), 0.0, -0.0, -5.0, 1e308, math.inf, -math.inf, math.nan],
)
def test_a_resistance_outside_the_range_is_refused(resistance_ohm):
    assert not thermistor().accepts(resistance_ohm)
    with pytest.raises(ValueError, match="outside the accepted range"):
        thermistor().temperature_celsius(resistance_ohm)


LIMITS = structs.asdict(SETTINGS.status_below_celsius)


def test_every_status_has_a_limit_but_the_hottest_and_the_broken_one():
    assert LIMITS.keys() | {"TEMPERATURE_CRITICAL", "BROKEN"} == set(Status)


@pytest.mark.parametrize(
    ("colder", "limit", "warmer"),
    list(zip(LIMITS, LIMITS.values(), [*LIMITS, "TEMPERATURE_CRITICAL"][1:], strict=True)),
)
def test_a_limit_belongs_to_the_warmer_status(colder, limit, warmer):
    assert SETTINGS.status_below_celsius.status_of(math.nextafter(limit, -math.inf)) is Status(colder)
    assert SETTINGS.status_below_celsius.status_of(limit) is Status(warmer)


def test_the_coldest_and_the_hottest_status_have_no_end():
    assert SETTINGS.status_below_celsius.status_of(-273.15) is Status(next(iter(LIMITS)))
    assert SETTINGS.status_below_celsius.status_of(1e5) is Status.TEMPERATURE_CRITICAL


@pytest.mark.parametrize(("b", "c"), [(2.37e-4, -1e-9), (math.nan, 9.9e-8), (2.37e-4, math.nan)])
def test_coefficients_that_no_curve_has_are_refused(b, c):
    with pytest.raises(ValueError, match=r"^c >= 0 must hold, and all must be finite$"):
        Coefficients(1.4e-3, b, c)


@pytest.mark.parametrize(("b", "c"), [(0.0, 9.9e-8), (-1e-4, 9.9e-8), (0.0, 0.0), (-1e-7, 0.0)])
def test_a_curve_that_does_not_fall_over_the_whole_range_is_refused(b, c):
    with pytest.raises(ValueError, match=r"^temperature does not fall with resistance from 0\.5 to 20000\.0 ohm$"):
        thermistor(b=b, c=c, lowest=0.5)


@given(st.floats(-1e-5, 1e-5), st.floats(0, 1e-6), st.floats(0.1, 1e6), st.floats(1.1, 1e3))
def test_a_curve_is_accepted_exactly_when_every_higher_resistance_is_colder(b, c, lowest, ratio):
    highest = lowest * ratio
    logs = [math.log(lowest) + step / 100 * math.log(ratio) for step in range(101)]
    slopes = [b + 3 * c * log**2 for log in (*logs, *([0.0] if lowest <= 1 <= highest else []))]
    assume(abs(min(slopes)) > 1e-9)
    try:
        thermistor(a=1.0, b=b, c=c, lowest=lowest, highest=highest)
    except ValueError:
        assert min(slopes) < 0
    else:
        assert min(slopes) > 0


@pytest.mark.parametrize("coefficients", [(math.inf, 1, 1), (math.nan, 1, 1), (1, math.inf, 1), (1, 1, math.inf)])
def test_coefficients_that_are_not_finite_are_refused(coefficients):
    with pytest.raises(ValueError, match="finite"):
        Coefficients(*coefficients)


@pytest.mark.parametrize("coefficients", [(-1.5, 1, 1), (1, 1.5, 1), (1, 1, 1e308)])
def test_coefficients_that_rounding_would_make_useless_are_refused(coefficients):
    with pytest.raises(ValueError, match=r"^none may be above 1 or below -1$"):
        Coefficients(*coefficients)


@pytest.mark.parametrize(("lowest", "highest"), [(0, 1), (-1, 1), (2, 1), (1, 1), (1, math.inf), (math.nan, 1)])
def test_an_impossible_range_is_refused(lowest, highest):
    with pytest.raises(ValueError, match=r"^0 < min < max must hold$"):
        ResistanceRange(lowest, highest)


@pytest.mark.parametrize(("name", "like"), list(permutations(LIMITS, 2)))
def test_limits_that_do_not_rise_are_refused(name, like):
    for wrong in (LIMITS[like], math.nan):
        with pytest.raises(ValueError, match=f"^{' < '.join(LIMITS)} must hold$"):
            StatusLimits(**{**LIMITS, name: wrong})


@pytest.mark.parametrize("a", [-1.0, -2.37e-4 * math.log(2)])
def test_coefficients_that_give_no_temperature_in_the_range_are_refused(a):
    with pytest.raises(ValueError, match=r"give no temperature at 1\.5 ohm"):
        thermistor(a=a, lowest=1.5)


def test_a_curve_may_be_as_hot_as_a_temperature_may_be():
    assert thermistor(a=1.25e-6, b=1e-9, c=0.0).temperature_celsius(1.0) == pytest.approx(800_000 - 273.15)


def test_a_thermistor_is_read_from_its_settings_and_names_a_broken_rule():
    settings = msgspec.to_builtins(thermistor())
    assert msgspec.convert(settings, Thermistor) == thermistor()
    settings["coefficients"]["b"] = -1.0
    with pytest.raises(msgspec.ValidationError, match=r"^temperature does not fall with resistance"):
        msgspec.convert(settings, Thermistor)
