"""The use case behind the routes of sensors: which there are, what their thermistors are, and that they are retired."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from chalicelib.calibration import DEFAULT_TYPE, Calibration, Thermistors
from chalicelib.errors import ForbiddenError, NotFoundError, ValidationError
from chalicelib.fields import IdText, id_text, sensor_key, split_sensor_key
from chalicelib.ingest.readings import Rejection, decode_request
from chalicelib.ingest.registration import RETIRED, Refused, Wish
from chalicelib.ingest.registry import SensorRegistry
from chalicelib.ingest.sensors import Sensor
from chalicelib.thermistor import Coefficients
from chalicelib.validation import convert, within

SENSORS_MAX = 100


class ThermistorInUse(Struct, frozen=True):
    """The type, None for a calibration of its own, and the curve in use, None for a type that is no more."""

    type: str | None
    equation: str | None
    coefficients: Coefficients | None
    min_ohm: float | None
    max_ohm: float | None


class SensorAnswer(Struct, frozen=True):
    """A sensor as its routes show it."""

    location_id: str
    sensor_id: str
    broken: bool
    retired: bool
    thermistor: ThermistorInUse


class SensorsAnswer(Struct, frozen=True):
    """A result for each sensor that was given, in order."""

    results: list[SensorAnswer | Rejection]


class _GivenSensor(Struct, frozen=True, forbid_unknown_fields=True):
    thermistor: Any = None


class _ListedSensor(Struct, frozen=True, forbid_unknown_fields=True):
    sensor_id: int | IdText
    thermistor: Any = None


class _ListedSensors(Struct, frozen=True, forbid_unknown_fields=True):
    sensors: Annotated[list[Any], Meta(min_length=1, max_length=SENSORS_MAX)]


class Provisioning:
    """Shows, makes, changes and retires sensors of a location; it un-breaks none."""

    def __init__(self, thermistors: Thermistors, registry: SensorRegistry) -> None:
        self._thermistors = thermistors
        self._registry = registry

    def find(self, location_id: str, sensor_id: str) -> SensorAnswer:
        """Return the sensor; raises NotFoundError."""
        key = sensor_key(location_id, sensor_id)
        sensor = self._registry.find(key)
        if sensor is None:
            raise _unknown(location_id, sensor_id)
        return self._answer(key, sensor)

    def put(self, location_id: str, sensor_id: str, body: bytes) -> SensorAnswer:
        """Make the sensor what the JSON says; raises ValidationError naming the field, ForbiddenError for a limit."""
        given = convert(decode_request(body), _GivenSensor)
        return self._change(sensor_key(location_id, sensor_id), Wish(self._thermistors.parse(given.thermistor)))

    def put_all(self, location_id: str, body: bytes) -> SensorsAnswer:
        """Make several sensors what the JSON says, each by itself; raises ValidationError when it is no such list."""
        listed = convert(decode_request(body), _ListedSensors).sensors
        keys: list[str | Rejection] = []
        wishes: dict[str, Wish] = {}
        for index, item in enumerate(listed):
            try:
                key, wish = self._parse_listed(location_id, item)
                if key in wishes:
                    raise ValidationError("sensor_id: the sensor is given twice")
                wishes[key] = wish
                keys.append(key)
            except ValidationError as error:
                keys.append(Rejection(within(f"sensors[{index}]", error)))
        outcomes = self._registry.change(wishes)
        return SensorsAnswer(
            [
                key if isinstance(key, Rejection) else self._answer_listed(index, key, outcomes[key])
                for index, key in enumerate(keys)
            ]
        )

    def retire(self, location_id: str, sensor_id: str) -> SensorAnswer:
        """Take the sensor out of service, until its next reading or change; raises NotFoundError."""
        key = sensor_key(location_id, sensor_id)
        rows = self._registry.find_all([key])
        if not rows:
            raise _unknown(location_id, sensor_id)
        return self._change(key, RETIRED, rows)

    def _change(self, key: str, wish: Wish, rows: Mapping[str, Sensor] | None = None) -> SensorAnswer:
        outcome = self._registry.change({key: wish}, rows)[key]
        if isinstance(outcome, Refused):
            raise ForbiddenError(outcome.reason)
        return self._answer(key, outcome)

    def _parse_listed(self, location_id: str, item: Any) -> tuple[str, Wish]:
        listed = convert(item, _ListedSensor)
        sensor_id = id_text("sensor_id", listed.sensor_id)
        return sensor_key(location_id, sensor_id), Wish(self._thermistors.parse(listed.thermistor))

    def _answer_listed(self, index: int, key: str, outcome: Sensor | Refused) -> SensorAnswer | Rejection:
        if isinstance(outcome, Refused):
            return Rejection(f"sensors[{index}].{outcome.reason}")
        return self._answer(key, outcome)

    def _answer(self, key: str, sensor: Sensor) -> SensorAnswer:
        return SensorAnswer(*split_sensor_key(key), sensor.broken, sensor.retired, self._in_use(sensor))

    def _in_use(self, sensor: Sensor) -> ThermistorInUse:
        given = sensor.thermistor
        type_name = None if isinstance(given, Calibration) else given or DEFAULT_TYPE
        curve = self._thermistors.curve_of(given)
        if curve is None:
            return ThermistorInUse(type_name, None, None, None, None)
        equation = "steinhart-hart" if curve.coefficients.c else "beta"
        accepted = curve.accepted_resistance_ohm
        return ThermistorInUse(type_name, equation, curve.coefficients, accepted.min, accepted.max)


def _unknown(location_id: str, sensor_id: str) -> NotFoundError:
    return NotFoundError(
        f"sensor {sensor_id} at {location_id} is not known: it has neither sent anything nor been provisioned"
    )
