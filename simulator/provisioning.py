"""Makes a fleet's sensors what its configuration says, over the API, before they post."""

from collections.abc import Iterator
from itertools import groupby
from threading import Event

from rich.console import Console

from chalicelib.errors import ValidationError
from chalicelib.ingest.provisioning import SENSORS_MAX
from chalicelib.settings import Settings
from ops.progress import progress_bar
from ops.sensors_client import ApiError, SensorsApi
from simulator.config import FleetConfig
from simulator.sensors import Sensor, curves_of, list_sensors


def provision_fleet(fleet: FleetConfig, settings: Settings, url: str, token: str | None, console: Console) -> None:
    """Give each sensor its type of thermistor, whatever it had; nothing when the configuration names no types.

    Raises ValidationError for a type that the stage lacks and for a wrong URL or token, ApiError for a refusal.
    """
    curves_of(fleet, settings)
    if fleet.thermistors is None:
        return
    if token is None:
        raise ValidationError("token: meta.thermistors needs one with the scope sensors:write")
    api = SensorsApi(url, token, wait=Event().wait)
    done = 0
    with progress_bar(console, fleet.sensors_in_all) as show:
        for group in _groups(fleet):
            location_id = group[0].location_id
            given = [{"sensor_id": sensor.sensor_id, "thermistor": sensor.thermistor} for sensor in group]
            for result in api.provision(location_id, given):
                if result.error is not None:
                    raise ApiError(f"the sensors of location {location_id} were not made: {result.error}")
            done += len(group)
            show(done, f"{done} sensors made")


def _groups(fleet: FleetConfig) -> Iterator[list[Sensor]]:
    """Yield sensors of one location each, as many as a request may have."""
    for _, of_location in groupby(list_sensors(fleet), lambda sensor: sensor.location_id):
        sensors = list(of_location)
        for start in range(0, len(sensors), SENSORS_MAX):
            yield sensors[start : start + SENSORS_MAX]
