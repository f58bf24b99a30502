"""Makes a fleet's sensors what its configuration says, by the API, before they post."""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec
from msgspec import Struct
from rich.console import Console

from chalicelib.errors import ThermonetError
from chalicelib.settings import Settings
from chalicelib.validation import shorten
from simulator.client import ApiClient, Endpoint, Reply, parse_endpoint
from simulator.config import FleetConfig
from simulator.messages import error_message
from simulator.progress import show_count
from simulator.sensors import Sensor, curves_of, list_sensors

# The API takes no more in a request.
GROUP_SIZE = 100


class ProvisioningError(ThermonetError):
    """The API has not made the sensors what they should be."""


class _Thermistor(Struct):
    type: str | None


class _Result(Struct):
    error: str | None = None
    sensor_id: str | None = None
    thermistor: _Thermistor | None = None


class _Answer(Struct):
    results: list[_Result]


def provision_fleet(fleet: FleetConfig, settings: Settings, url: str, token: str | None, console: Console) -> None:
    """Make the fleet's sensors, with progress on the console, unless its configuration names no types of thermistor.

    Raises ValidationError for a type that the stage lacks, a wrong URL or token, ProvisioningError for a refusal.
    """
    curves_of(fleet, settings)
    endpoint = parse_endpoint(url, token)
    if fleet.thermistors is not None:
        with show_count("Making sensors", fleet.sensors_in_all, console) as update:
            provision(list_sensors(fleet), endpoint, update)


def provision(sensors: Sequence[Sensor], endpoint: Endpoint, on_progress: Callable[[int], None]) -> None:
    """Give each sensor its type of thermistor, whatever it had; `on_progress` is told how many have theirs.

    Raises ProvisioningError at the first refusal.
    """
    done = 0
    with contextlib.closing(ApiClient(endpoint)) as client:
        for location_id, group in _groups(sensors):
            wanted = [{"sensor_id": sensor.sensor_id, "thermistor": sensor.thermistor} for sensor in group]
            reply = client.post(f"/locations/{location_id}/sensors", msgspec.json.encode({"sensors": wanted}))
            if (complaint := _complaint(group, reply)) is not None:
                raise ProvisioningError(f"the sensors of location {location_id} were not made: {complaint}")
            done += len(group)
            on_progress(done)


def _groups(sensors: Sequence[Sensor]) -> list[tuple[str, list[Sensor]]]:
    """Split the sensors into those of one location each, as many as a request may have."""
    locations = [(name, list(group)) for name, group in itertools.groupby(sensors, lambda sensor: sensor.location_id)]
    return [
        (name, group[start : start + GROUP_SIZE])
        for name, group in locations
        for start in range(0, len(group), GROUP_SIZE)
    ]


def _complaint(group: Sequence[Sensor], reply: Reply) -> str | None:
    """Return what is wrong with the reply to a group, None when nothing is."""
    if reply.http_status != HTTPStatus.OK:
        return reply.error or f"HTTP {reply.http_status}: {error_message(reply.body)}"
    try:
        results = msgspec.json.decode(reply.body, type=_Answer).results
        pairs = list(zip(group, results, strict=True))
    except ValueError as error:
        return f"unreadable answer: {shorten(str(error))}"
    for sensor, result in pairs:
        if result.error is not None:
            return shorten(result.error)
        if (result.sensor_id, result.thermistor) != (sensor.sensor_id, _Thermistor(sensor.thermistor)):
            answered = msgspec.json.encode(result).decode()
            return f"sensor {sensor.sensor_id} should have become {sensor.thermistor}, but the answer was {answered}"
    return None
