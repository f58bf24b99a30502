"""Curves of thermistors from makers' tables, and through three points: they hold, or are refused."""

import math
from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.calibration import Thermistors, fit
from chalicelib.thermistor import ZERO_CELSIUS_KELVIN, Coefficients, ResistanceRange, Thermistor
from tests.factories import SETTINGS
from tests.strategies import outcome

THERMISTORS = Thermistors(SETTINGS.thermistors)
WIDE = ResistanceRange(1.0, 1e7)
EPSILON = 2.0**-52

# Of each maker: its coefficients, its points of (°C, ohm), and how well both agree, in °C.
YSI_44005 = (
    (1.4051e-3, 2.369e-4, 1.019e-7),
    [
        (-50, 201_100), (-40, 101_000), (-30, 53_100), (0, 9_796), (10, 5_971), (32, 2_221), (50, 1_081),
        (80, 376.9), (120, 116.8),
    ],
    0.13,
)  # fmt: skip
CAMPBELL_109SS = (
    (1.129241e-3, 2.341077e-4, 8.775468e-8),
    [(-40, 336_103.2), (-30, 176_804.8), (-20, 97_006.9), (-10, 55_303.9), (0, 32_650.9), (1, 31_030.8)],
    0.003,
)
MAKERS = pytest.mark.parametrize(("coefficients", "table", "scatter"), [YSI_44005, CAMPBELL_109SS])
NCP15XH103 = ((0, 28_674), (25, 10_000), (50, 4_105))


def reciprocal(celsius):
    return 1 / (celsius + ZERO_CELSIUS_KELVIN)


def value(coefficients, ohm):
    """1/T, wherever the curve is accepted."""
    log = math.log(ohm)
    return coefficients.a + coefficients.b * log + coefficients.c * log**3


def rounding(coefficients, ohm):
    """What some roundings make of 1/T, whose terms may be far greater than it is."""
    log = abs(math.log(ohm))
    return 16 * EPSILON * (abs(coefficients.a) + abs(coefficients.b) * log + coefficients.c * log**3)


def amplification(points, ohm):
    """How many times an error of 1/T at the points may come back at a resistance of the curve through them.

    The curve is the sum of the points' 1/T, each times a polynomial that is 1 there and 0 at the other two. Without a
    square in it, that one's third root is where the three roots sum up to 0.
    """
    logs, log = [math.log(point[1]) for point in points], math.log(ohm)
    total = 0.0
    for one in logs:
        two, three = (other for other in logs if other != one)
        total += abs((log - two) * (log - three) * (log + two + three) / (one - two) / (one - three) / sum(logs))
    return total


@MAKERS
def test_the_makers_coefficients_give_the_makers_table(coefficients, table, scatter):
    curve = Thermistor(Coefficients(*coefficients), WIDE)
    for celsius, ohm in table:
        assert curve.temperature_celsius(ohm) == pytest.approx(celsius, abs=scatter)


@MAKERS
def test_three_points_well_apart_give_the_others_back_as_the_makers_coefficients_do(coefficients, table, scatter):
    apart = (table[-1][0] - table[0][0]) / 4
    chosen = [three for three in combinations(table, 3) if all(b[0] - a[0] >= apart for a, b in pairwise(three))]
    assert len(chosen) > 1
    for three in chosen:
        curve = fit(three, WIDE)
        for celsius, ohm in table:
            assert curve.temperature_celsius(ohm) == pytest.approx(celsius, abs=scatter), three


@MAKERS
def test_any_three_points_give_the_others_back_as_well_as_their_own_scatter_allows(coefficients, table, scatter):
    # The maker's curve is one of the kind that is fitted, so the fit differs from it by the three points' errors.
    makers = Coefficients(*coefficients)
    error = max(abs(value(makers, ohm) - reciprocal(celsius)) for celsius, ohm in table)
    for three in combinations(table, 3):
        fitted = fit(three, WIDE).coefficients
        for celsius, ohm in table:
            allowed = error * (1 + amplification(three, ohm)) + rounding(fitted, ohm)
            assert abs(value(fitted, ohm) - reciprocal(celsius)) <= allowed, three


def test_points_whose_curve_would_have_c_below_0_give_the_beta_equation():
    curve = fit(NCP15XH103, ResistanceRange(100.0, 200_000.0))
    assert curve.coefficients.c == 0
    beta = math.log(28_674 / 4_105) / (1 / 273.15 - 1 / 323.15)
    assert 1 / curve.coefficients.b == pytest.approx(beta, rel=1e-12)
    assert curve.temperature_celsius(28_674) == pytest.approx(0, abs=1e-10)
    assert curve.temperature_celsius(4_105) == pytest.approx(50, abs=1e-10)
    # The part is nearly a Beta one.
    assert curve.temperature_celsius(10_000) == pytest.approx(25, abs=0.001)


def test_points_whose_curve_does_not_fall_over_the_range_give_the_beta_equation_too():
    # c is above 0, but b below: hot at 1 ohm, hotter above it.
    steep = Coefficients(3e-3, -1e-5, 3e-6)
    points = tuple((1 / value(steep, ohm) - ZERO_CELSIUS_KELVIN, ohm) for ohm in (20.0, 200.0, 2_000.0))
    assert fit(points, ResistanceRange(10.0, 20_000.0)).coefficients.b == pytest.approx(-1e-5)
    curve = fit(points, ResistanceRange(1.0, 20_000.0))
    assert curve.coefficients.c == 0
    assert curve.temperature_celsius(2_000.0) == pytest.approx(points[2][0], abs=1e-9)


def test_points_are_taken_in_any_order():
    for table in (YSI_44005[1][:9:4], NCP15XH103):
        assert len({fit(points, WIDE).coefficients for points in permutations(table)}) == 1


@st.composite
def real_thermistors(draw):
    """Coefficients as they are sold: from 100 ohm to 1 MΩ at 25 °C, 1/T as steep as from B = 2,900 to 6,700."""
    at_25 = draw(st.floats(math.log(100), math.log(1e6)))
    b, c = draw(st.floats(1.5e-4, 3.5e-4)), draw(st.just(0.0) | st.floats(1e-9, 3e-7))
    coefficients = Coefficients(reciprocal(25) - b * at_25 - c * at_25**3, b, c)
    return Thermistor(coefficients, ResistanceRange(math.exp(at_25 - 3.5), math.exp(at_25 + 4.5)))


@given(real_thermistors(), st.lists(st.integers(0, 16), min_size=3, max_size=3, unique=True), st.data())
def test_three_points_of_a_curve_give_the_curve_back(curve, places, data):
    accepted = curve.accepted_resistance_ohm
    lowest, highest = math.log(accepted.min * (1 + 1e-9)), math.log(accepted.max * (1 - 1e-9))
    ohms = [math.exp(lowest + (highest - lowest) * place / 16) for place in places]
    points = tuple((curve.temperature_celsius(ohm), ohm) for ohm in ohms)
    fitted = fit(points, accepted)
    ohm = data.draw(st.floats(min(ohms), max(ohms)))
    # Each point's temperature is rounded, and 1/T with it.
    error = 8 * EPSILON * max(map(reciprocal, (celsius for celsius, _ in points)))
    allowed = error * (1 + amplification(points, ohm)) + rounding(fitted.coefficients, ohm)
    assert abs(value(fitted.coefficients, ohm) - value(curve.coefficients, ohm)) <= allowed
    assert abs(fitted.temperature_celsius(ohm) - curve.temperature_celsius(ohm)) < 1e-8


def nearly_equal(low, high):
    """Three numbers, any or all of them equal, neighbours, or as little apart as one likes."""
    alone = st.floats(low, high, exclude_min=True, exclude_max=True)
    steps = st.just(0.0) | st.floats(1e-16, 1e-2)
    nearby = st.builds(lambda one, two, three: [one, one * (1 + two), one * (1 - three)], alone, steps, steps)
    within = nearby.filter(lambda numbers: all(low < number < high for number in numbers))
    return st.lists(alone, min_size=3, max_size=3) | within


@st.composite
def any_points(draw):
    """Points of which each colder one has a higher resistance, unless two are equal; near or far apart, in any order.

    Of some the product of the resistances is about 1, where no curve or any with c = 0 goes through them.
    """
    celsius = sorted(draw(nearly_equal(-ZERO_CELSIUS_KELVIN, 1e4)))
    ohms = draw(nearly_equal(1e-12, 1e12))
    if draw(st.booleans()) and 1e-12 < (third := 1 / ohms[0] / ohms[1]) < 1e12:
        ohms[2] = third
    return draw(st.permutations(list(zip(celsius, sorted(ohms, reverse=True), strict=True))))


# Few curves are of use.
MANY = settings(max_examples=300)
OHMS = st.floats(1e-12, 1e12, exclude_min=True, exclude_max=True)


def accepted_or_refused(given):
    """The calibration, None when it is refused by an error as it should be, and nothing else."""
    calibration, error = outcome(THERMISTORS.parse, given)
    if error is None:
        return calibration
    assert error.startswith("thermistor")
    assert ": " in error
    assert len(error) <= 200
    return None


@MANY
@given(any_points(), st.data())
@example([(0.0, 2.0), (25.0, 1.0), (50.0, 0.5)], None)
@example([(0.0, 1000.0), (1.0, math.nextafter(1000.0, 0.0)), (2.0, math.nextafter(999.9999999999999, 0.0))], None)
@example([(0.0, 1000.0), (5e-324, 999.0), (1e-323, 998.0)], None)
def test_a_curve_goes_through_the_points_that_it_was_fitted_to_or_is_refused(points, data):
    cold, middle, hot = sorted(points)
    limits = {"min_ohm": hot[1], "max_ohm": cold[1]}
    if data and data.draw(st.booleans()):
        limits = {"min_ohm": data.draw(OHMS), "max_ohm": data.draw(OHMS)}
    calibration = accepted_or_refused({"points": points, **limits})
    if calibration is None:
        return
    for celsius, ohm in (cold, middle, hot) if calibration.c else (cold, hot):
        assert abs(value(calibration, ohm) - reciprocal(celsius)) <= rounding(calibration, ohm) + EPSILON


FIGURES = st.floats() | st.floats(-1, 1) | st.floats(-1e-2, 1e-2) | st.integers()


@MANY
@given(
    any_points().map(lambda points: {"points": points})
    | st.fixed_dictionaries({"a": FIGURES, "b": FIGURES, "c": FIGURES | st.floats(0, 1e-6)}),
    st.fixed_dictionaries({}, optional={"min_ohm": OHMS, "max_ohm": OHMS}),
    st.floats(0, 1),
    st.floats(0, 1),
)
@example({"a": 0.0, "b": -1e307, "c": 1e308}, {"min_ohm": 1.5, "max_ohm": 9e11}, 0.0, 1.0)
@example({"a": -1e10, "b": 1e10, "c": 0.0}, {"min_ohm": 2.718281828459046, "max_ohm": 2.8}, 0.0, 1e-12)
def test_what_is_accepted_falls_with_resistance_and_gives_temperatures_over_its_whole_range(curve, limits, one, other):
    calibration = accepted_or_refused({**curve, **limits})
    if calibration is None:
        return
    thermistor = calibration.thermistor
    assert THERMISTORS.curve_of(calibration) == thermistor
    lowest, highest = thermistor.accepted_resistance_ohm.min, thermistor.accepted_resistance_ohm.max
    low, high = sorted(min(lowest * (highest / lowest) ** part, highest) for part in (one, other))
    hot, cold = thermistor.temperature_celsius(low), thermistor.temperature_celsius(high)
    assert -ZERO_CELSIUS_KELVIN <= cold <= 1e6
    slack = rounding(thermistor.coefficients, low) + rounding(thermistor.coefficients, high)
    assert reciprocal(hot) <= reciprocal(cold) * (1 + 4 * EPSILON) + slack
