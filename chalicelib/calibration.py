"""Which thermistor a sensor is: a type of the settings, or one with a calibration of its own."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, cast

from msgspec import UNSET, Meta, Struct, UnsetType

from chalicelib.errors import ValidationError
from chalicelib.thermistor import ZERO_CELSIUS_KELVIN, Coefficients, ResistanceRange, Thermistor
from chalicelib.validation import convert, shorten, within

DEFAULT_TYPE = "default"

Celsius = Annotated[float, Meta(gt=-ZERO_CELSIUS_KELVIN, lt=1e4)]
Ohm = Annotated[float, Meta(gt=1e-12, lt=1e12)]
ThreePoints = tuple[tuple[Celsius, Ohm], tuple[Celsius, Ohm], tuple[Celsius, Ohm]]


class ThermistorType(Struct, frozen=True, forbid_unknown_fields=True):
    """A type of thermistor in the settings: its curve, by coefficients or by three points, and its range."""

    title: Annotated[str, Meta(min_length=1, max_length=100)]
    accepted_resistance_ohm: ResistanceRange
    coefficients: Coefficients | UnsetType = UNSET
    points: ThreePoints | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.coefficients is UNSET) == (self.points is UNSET):
            raise ValueError("either coefficients or points must be given")
        # So that settings without a usable curve are refused when they are read.
        _ = self.thermistor

    @property
    def thermistor(self) -> Thermistor:
        """The curve and its range."""
        if isinstance(self.coefficients, Coefficients):
            return Thermistor(self.coefficients, self.accepted_resistance_ohm)
        return fit(cast("ThreePoints", self.points), self.accepted_resistance_ohm)


class Calibration(Struct, frozen=True, forbid_unknown_fields=True):
    """A calibration of a sensor's own: Steinhart–Hart coefficients, and between which resistances in ohm they hold."""

    a: float
    b: float
    c: float
    min_ohm: float
    max_ohm: float

    @property
    def thermistor(self) -> Thermistor:
        """The curve and its range; raises ValueError when they break a rule."""
        return Thermistor(Coefficients(self.a, self.b, self.c), ResistanceRange(self.min_ohm, self.max_ohm))


def fit(points: ThreePoints, accepted_resistance_ohm: ResistanceRange) -> Thermistor:
    """Return the curve through three points of (°C, ohm), in any order: Steinhart–Hart's, or the Beta equation's.

    Beta, through the outer points, is for points whose Steinhart–Hart curve would have c < 0 or would not fall
    over the accepted range.
    Source: Steinhart & Hart 1968, solved for three points as in https://en.wikipedia.org/wiki/Steinhart–Hart_equation.
    Raises ValueError when neither gives temperatures that fall with resistance over the accepted range.
    """
    cold, middle, hot = sorted(
        ((math.log(ohm), 1.0 / (celsius + ZERO_CELSIUS_KELVIN)) for celsius, ohm in points), reverse=True
    )
    if not (cold[0] > middle[0] > hot[0] and cold[1] > middle[1] > hot[1]):
        raise ValueError("three temperatures are needed, each with a lower resistance than the colder ones")
    try:
        return Thermistor(_steinhart_hart(cold, middle, hot), accepted_resistance_ohm)
    except (ValueError, ZeroDivisionError):
        # Zero is what the logarithms may sum up to; then a curve with c = 0 is as good as any.
        return Thermistor(_beta(cold, hot), accepted_resistance_ohm)


# ln R and 1/T.
_Point = tuple[float, float]


def _steinhart_hart(cold: _Point, middle: _Point, hot: _Point) -> Coefficients:
    (l1, y1), (l2, y2), (l3, y3) = cold, middle, hot
    g2, g3 = (y2 - y1) / (l2 - l1), (y3 - y1) / (l3 - l1)
    c = (g3 - g2) / (l3 - l2) / (l1 + l2 + l3)
    b = g2 - c * (l1 * l1 + l1 * l2 + l2 * l2)
    return Coefficients(y1 - (b + l1 * l1 * c) * l1, b, c)


def _beta(cold: _Point, hot: _Point) -> Coefficients:
    """Return 1/T = 1/T₀ + 1/B·ln(R/R₀) as Steinhart–Hart coefficients, of which c is 0."""
    b = (cold[1] - hot[1]) / (cold[0] - hot[0])
    return Coefficients(cold[1] - b * cold[0], b, 0.0)


class _GivenCoefficients(Struct, frozen=True, forbid_unknown_fields=True):
    a: float
    b: float
    c: float
    min_ohm: Ohm | None = None
    max_ohm: Ohm | None = None


class _GivenPoints(Struct, frozen=True, forbid_unknown_fields=True):
    points: ThreePoints
    min_ohm: Ohm | None = None
    max_ohm: Ohm | None = None


# As the registry holds it: a type's name, a calibration, or None for the default type.
SensorThermistor = str | Calibration | None


class Thermistors:
    """The types of the stage, and the curves of sensors that have a type or a calibration of their own."""

    def __init__(self, types: Mapping[str, ThermistorType]) -> None:
        self._types = {name: type_.thermistor for name, type_ in types.items()}

    @property
    def default(self) -> Thermistor:
        """The curve of a sensor of which nothing else is known."""
        return self._types[DEFAULT_TYPE]

    def curve_of(self, given: SensorThermistor) -> Thermistor | None:
        """Return a sensor's curve, None for a type that the settings have no longer, or coefficients of no curve."""
        if isinstance(given, Calibration):
            try:
                return given.thermistor
            except ValueError:
                return None
        return self._types.get(DEFAULT_TYPE if given is None else given)

    def parse(self, given: Any) -> SensorThermistor:
        """Check what a caller gives as a sensor's `thermistor`; raises ValidationError naming the field."""
        try:
            return self._parse(given)
        except ValidationError as error:
            raise ValidationError(within("thermistor", error)) from None

    def _parse(self, given: Any) -> SensorThermistor:
        if given is None:
            return None
        if isinstance(given, str):
            if given not in self._types:
                raise ValidationError(f"body: must be one of {shorten(', '.join(sorted(self._types)))}")
            return None if given == DEFAULT_TYPE else given
        if isinstance(given, dict) and "points" in given:
            return self._calibrate(convert(given, _GivenPoints))
        return self._calibrate(convert(given, _GivenCoefficients))

    def _calibrate(self, given: _GivenCoefficients | _GivenPoints) -> Calibration:
        usual = self.default.accepted_resistance_ohm
        min_ohm, max_ohm = given.min_ohm or usual.min, given.max_ohm or usual.max
        try:
            accepted = ResistanceRange(min_ohm, max_ohm)
        except ValueError:
            raise ValidationError(f"min_ohm: must be below max_ohm ({min_ohm} and {max_ohm} ohm)") from None
        try:
            if isinstance(given, _GivenPoints):
                used = fit(given.points, accepted).coefficients
            else:
                used = Thermistor(Coefficients(given.a, given.b, given.c), accepted).coefficients
        except ValueError as error:
            field = "points" if isinstance(given, _GivenPoints) else "body"
            raise ValidationError(f"{field}: {error}") from None
        return Calibration(used.a, used.b, used.c, min_ohm, max_ohm)
