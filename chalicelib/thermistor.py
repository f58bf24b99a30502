"""The physics: resistance to temperature by the Steinhart–Hart equation, and what a temperature means."""

import math
from enum import StrEnum
from itertools import pairwise

import msgspec
from msgspec import structs

ZERO_CELSIUS_KELVIN = 273.15

# The analytics sum temperatures as exact decimals of 18 digits, 12 of them behind the point.
TEMPERATURE_MAX_CELSIUS = 1e6


class Status(StrEnum):
    """The judgement on a reading's temperature, or on its sensor."""

    OK = "OK"
    TEMPERATURE_TOO_LOW = "TEMPERATURE_TOO_LOW"
    TEMPERATURE_TOO_HIGH = "TEMPERATURE_TOO_HIGH"
    TEMPERATURE_CRITICAL = "TEMPERATURE_CRITICAL"
    BROKEN = "BROKEN"


class StatusLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Temperatures in °C below which each status holds, from cold to hot; CRITICAL from the last one up."""

    TEMPERATURE_TOO_LOW: float
    OK: float
    TEMPERATURE_TOO_HIGH: float

    def __post_init__(self) -> None:
        if not all(lower < higher for lower, higher in pairwise(structs.astuple(self))):
            raise ValueError(f"{' < '.join(self.__struct_fields__)} must hold")

    def status_of(self, temperature_celsius: float) -> Status:
        """Judge a temperature in °C."""
        for status, limit in zip(_LIMITED, structs.astuple(self), strict=True):
            if temperature_celsius < limit:
                return status
        return Status.TEMPERATURE_CRITICAL


_LIMITED = tuple(Status(name) for name in StatusLimits.__struct_fields__)


class Coefficients(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steinhart–Hart coefficients of a thermistor, for kelvin and ohm; with c = 0 they are the Beta equation's."""

    a: float
    b: float
    c: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and math.isfinite(self.b) and 0 <= self.c < math.inf):
            raise ValueError("c >= 0 must hold, and all must be finite")
        # A thousand times what any thermistor has; beyond it, rounding would be felt, and sums end as no number.
        if max(abs(self.a), abs(self.b), self.c) > 1:
            raise ValueError("none may be above 1 or below -1")


class ResistanceRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Resistances of a working sensor in ohm, both ends included."""

    min: float
    max: float

    def __post_init__(self) -> None:
        if not 0 < self.min < self.max < math.inf:
            raise ValueError("0 < min < max must hold")


class Thermistor(msgspec.Struct, frozen=True):
    """The curve of a thermistor, and the range in which it is valid."""

    coefficients: Coefficients
    accepted_resistance_ohm: ResistanceRange

    def __post_init__(self) -> None:
        accepted = self.accepted_resistance_ohm
        # The slope b + 3·c·(ln R)² is least where ln R is nearest to 0.
        flattest_log = math.log(min(max(1.0, accepted.min), accepted.max))
        if not self.coefficients.b + 3 * self.coefficients.c * flattest_log**2 > 0:
            raise ValueError(f"temperature does not fall with resistance from {accepted.min} to {accepted.max} ohm")
        if not self._reciprocal_kelvin(accepted.min) > 1.0 / TEMPERATURE_MAX_CELSIUS:
            raise ValueError(f"coefficients give no temperature at {accepted.min} ohm")

    def accepts(self, resistance_ohm: float) -> bool:
        """Return whether the resistance is one of a working sensor; NaN is not."""
        return self.accepted_resistance_ohm.min <= resistance_ohm <= self.accepted_resistance_ohm.max

    def temperature_celsius(self, resistance_ohm: float) -> float:
        """Compute the temperature in °C at a resistance in ohm, valid where `accepts` holds.

        1/T = a + b·ln R + c·(ln R)³, T in kelvin.
        Source: J. S. Steinhart, S. R. Hart, Calibration curves for thermistors, Deep-Sea Research 15 (1968), 497–503.
        Raises ValueError for a resistance outside the accepted range.
        """
        if not self.accepts(resistance_ohm):
            raise ValueError(f"{resistance_ohm} ohm is outside the accepted range")
        return 1.0 / self._reciprocal_kelvin(resistance_ohm) - ZERO_CELSIUS_KELVIN

    def _reciprocal_kelvin(self, resistance_ohm: float) -> float:
        log_resistance = math.log(resistance_ohm)
        a, b, c = self.coefficients.a, self.coefficients.b, self.coefficients.c
        return a + b * log_resistance + c * log_resistance**3
