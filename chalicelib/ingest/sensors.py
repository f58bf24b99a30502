"""A sensor as the registry knows it, and the row that says so."""

import functools
from typing import Any

import msgspec
from msgspec import Struct

from chalicelib.calibration import Calibration, SensorThermistor

Row = dict[str, Any]


class Sensor(Struct, frozen=True):
    """What is known of a sensor: whether it is broken, which is for good, whether it is retired, its thermistor."""

    broken: bool = False
    retired: bool = False
    thermistor: SensorThermistor = None


WORKING = Sensor()
BROKEN = Sensor(broken=True)


def read_row(row: Row) -> Sensor:
    """Read a row of the registry."""
    if len(row) == 2:  # noqa: PLR2004 - most rows have but their key and `broken`
        return BROKEN if row["broken"]["BOOL"] else WORKING
    text = row["thermistor"]["S"] if "thermistor" in row else None
    return Sensor(row["broken"]["BOOL"], "retired" in row, None if text is None else _read_thermistor(text))


def write_change(table: str, key: str, was: Sensor | None, becomes: Sensor) -> Any:
    """Write, as a part of a transaction, that a sensor's row becomes another, or is new if there `was` none.

    Only if it still is so: retired, not retired, or not there. Whether it is broken is left to whoever latches it.
    """
    common = {"TableName": table, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    if was is None:
        item = {"sensor_id": {"S": key}, "broken": {"BOOL": False}, **_attributes(becomes)}
        return {"Put": {**common, "Item": item, "ConditionExpression": "attribute_not_exists(sensor_id)"}}
    # Nothing else, for others may have changed that meanwhile.
    old, new = _attributes(was), _attributes(becomes)
    changed = {name: value for name, value in new.items() if old.get(name) != value}
    removed = [name for name in old if name not in new]
    expressions = [f"SET {', '.join(f'{name} = :{name}' for name in changed)}"] if changed else []
    expressions += [f"REMOVE {', '.join(removed)}"] if removed else []
    retired = "attribute_exists(retired)" if was.retired else "attribute_not_exists(retired)"
    update = {
        **common,
        "Key": {"sensor_id": {"S": key}},
        "UpdateExpression": " ".join(expressions),
        "ConditionExpression": f"attribute_exists(sensor_id) AND {retired}",
    }
    values = {f":{name}": value for name, value in changed.items()}
    # DynamoDB refuses an empty map of values.
    return {"Update": update | ({"ExpressionAttributeValues": values} if values else {})}


def _attributes(sensor: Sensor) -> dict[str, Any]:
    attributes: dict[str, Any] = {"retired": {"BOOL": True}} if sensor.retired else {}
    if sensor.thermistor is not None:
        attributes["thermistor"] = {"S": msgspec.json.encode(sensor.thermistor).decode()}
    return attributes


@functools.lru_cache(maxsize=1_000)
def _read_thermistor(text: str) -> str | Calibration:
    try:
        return msgspec.json.decode(text, type=str | Calibration)
    except msgspec.DecodeError:
        # As good as a type that there is not.
        return text
