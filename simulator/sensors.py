"""The sensors of a fleet: where each is, which thermistor it has, and that thermistor's curve."""

import bisect
import itertools
from collections.abc import Mapping

from msgspec import Struct

from chalicelib.calibration import DEFAULT_TYPE
from chalicelib.errors import ValidationError
from chalicelib.settings import Settings
from chalicelib.thermistor import Thermistor
from simulator.config import FleetConfig

# Multiples of it, less their whole part, fill the range from 0 to 1 evenly, however many there are.
_GOLDEN_RATIO = 0.6180339887498949


class Sensor(Struct, frozen=True):
    """A sensor of a location, and the type of its thermistor."""

    location_id: str
    sensor_id: str
    thermistor: str = DEFAULT_TYPE


def list_sensors(fleet: FleetConfig) -> list[Sensor]:
    """Return the sensors, location by location, numbered from 1 in each.

    A sensor's type depends on its numbers alone, so that no other seed or size of the fleet makes it another's.
    """
    types = list(fleet.type_shares)
    bounds = list(itertools.accumulate(fleet.type_shares.values()))[:-1]
    return [
        Sensor(str(location), str(number), types[bisect.bisect(bounds, (number + location / 2) * _GOLDEN_RATIO % 1)])
        for location in range(1, fleet.locations + 1)
        for number in range(1, fleet.sensors + 1)
    ]


def curves_of(fleet: FleetConfig, settings: Settings) -> Mapping[str, Thermistor]:
    """Return the curve of each type of thermistor in the fleet; raises ValidationError for one the stage lacks."""
    known = settings.thermistors
    for name in fleet.type_shares:
        if name not in known:
            raise ValidationError(f"meta.thermistors.{name}: the stage has no such type, but {', '.join(known)}")
    return {name: known[name].thermistor for name in fleet.type_shares}
