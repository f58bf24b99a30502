"""What a sensor measures over time: any resistance of a range, or the temperatures of days."""

import math
import random
from collections.abc import Callable
from datetime import datetime, timedelta

from chalicelib.thermistor import Thermistor
from simulator.config import SimulatorConfig
from simulator.sensors import Sensor

# The resistance in ohm that a sensor measures at a time of its own; its random source gives what is chance.
Pattern = Callable[[random.Random, datetime], float]

_DAY = timedelta(days=1)
# So that the ends of the range for resistance are exact enough for any double in between.
_BISECTIONS = 50


def pattern_of(config: SimulatorConfig, seed: int, sensor: Sensor, curve: Thermistor) -> Pattern:
    """Return the configured pattern of a sensor with such a curve."""
    if config.sensor.pattern == "daily":
        return Daily(seed, sensor, curve).measure
    low, high = config.sensor.range_ohm
    if config.meta.thermistors is not None:
        # Beyond what is accepted as far as the defaults are beyond the default type's, so about one in forty breaks.
        accepted = curve.accepted_resistance_ohm
        low, high = accepted.min * 0.1, accepted.max * 1.025
    return lambda source, _: source.uniform(low, high)


class Daily:
    """A location's own level and daily wave, a sensor's own offset, and noise; never out of the accepted range."""

    def __init__(self, seed: int, sensor: Sensor, curve: Thermistor) -> None:
        self._curve = curve
        of_location = random.Random(f"{seed}/{sensor.location_id}")
        self._level = of_location.uniform(16, 32)
        self._amplitude = of_location.uniform(2, 7)
        self._warmest = of_location.uniform(13, 17) / 24
        self._level += random.Random(f"{seed}/{sensor.location_id}/{sensor.sensor_id}/offset").gauss(0, 0.5)

    def temperature_celsius(self, time: datetime) -> float:
        """Compute the temperature in °C at a UTC time, without noise."""
        midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
        return self._level + self._amplitude * math.cos(2 * math.pi * ((time - midnight) / _DAY - self._warmest))

    def measure(self, source: random.Random, time: datetime) -> float:
        """Return the resistance in ohm at a UTC time, with noise."""
        return resistance_ohm(self._curve, self.temperature_celsius(time) + source.gauss(0, 0.3))


def resistance_ohm(curve: Thermistor, temperature_celsius: float) -> float:
    """Return the accepted resistance in ohm that is nearest to a temperature in °C, by bisection.

    Over the accepted range every curve falls, which a closed formula would have to know case by case.
    """
    low, high = curve.accepted_resistance_ohm.min, curve.accepted_resistance_ohm.max
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        if curve.temperature_celsius(middle) > temperature_celsius:
            low = middle
        else:
            high = middle
    return low
