"""Writes the sensors of a location as a file that provisions them again, from a scan of the registry."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from chalicelib.calibration import SensorThermistor
from chalicelib.fields import sensor_key, split_sensor_key
from chalicelib.ingest.sensors import read_row
from ops.progress import progress_bar
from ops.sensor_file import write_rows

Listed = tuple[str, str, SensorThermistor]


def export_sensors(table: str, dynamodb: Any, location_id: str, output: Path | None) -> int:
    """Write the sensors of a location that are not retired, by id, to a file or standard output; returns 0.

    It reads the whole table, whatever the location has: requests never need such a list, so there is no index.
    """
    console = Console(stderr=True)
    with progress_bar(console, None) as show:
        sensors = []
        for sensor in _scan(table, dynamodb, location_id):
            sensors.append(sensor)
            show(len(sensors), f"{len(sensors)} sensors")
    sensors.sort(key=lambda sensor: sensor[1])
    with output.open("w", encoding="utf-8", newline="") if output else contextlib.nullcontext(sys.stdout) as file:
        write_rows(sensors, file)
    console.print(f"{len(sensors)} sensors of location {location_id}", soft_wrap=True, markup=False, highlight=False)
    return 0


def _scan(table: str, dynamodb: Any, location_id: str) -> Iterator[Listed]:
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        # What was provisioned just before is there.
        ConsistentRead=True,
        FilterExpression="begins_with(sensor_id, :location) AND attribute_not_exists(retired)",
        ProjectionExpression="sensor_id, broken, thermistor",
        ExpressionAttributeValues={":location": {"S": sensor_key(location_id, "")}},
    )
    for page in pages:
        for row in page["Items"]:
            yield *split_sensor_key(row["sensor_id"]["S"]), read_row(row).thermistor
