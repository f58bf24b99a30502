"""The commands that keep a local cloud up until Ctrl-C, and serve the routes against it."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console

from chalicelib.errors import ThermonetError
from localcloud.cloud import Cloud, LocalCloudError, local_cloud
from ops.project import LOCAL_FOLDER, PROJECT
from ops.running_cloud import CloudFile, find_cloud
from simulator.signals import signals_as_interrupt


def serve_cloud(
    stage: str, local_folder: Path = LOCAL_FOLDER, when_up: Callable[[Cloud], None] = lambda _: None
) -> int:
    """Run a local cloud until SIGINT or SIGTERM, announced in `cloud.json`; returns the exit code.

    `when_up` is called with the cloud first; it must end when the emulator does.
    """
    console = Console()
    with signals_as_interrupt():
        try:
            _serve_until_interrupted(stage, local_folder, console, when_up)
        except KeyboardInterrupt:
            console.print("The local cloud is gone.")
            return 0
        except ThermonetError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


def serve_local(stage: str, port: int, local_folder: Path = LOCAL_FOLDER) -> int:
    """Become `chalice local` on a port, against the running local cloud; returns 1 when there is none."""
    cloud = find_cloud(local_folder)
    if cloud is None:
        print("error: no local cloud is running: start one with `make cloud`", file=sys.stderr)
        return 1
    if cloud.stage != stage:
        print(f"error: the running local cloud has stage {cloud.stage}, not {stage}", file=sys.stderr)
        return 1
    return _become_chalice_local(stage, port, cloud.environment)


def _serve_until_interrupted(
    stage: str, local_folder: Path, console: Console, when_up: Callable[[Cloud], None]
) -> NoReturn:
    with contextlib.ExitStack() as stack:
        local_folder.mkdir(exist_ok=True)
        cloud_file = local_folder / "cloud.json"
        stack.enter_context(_only_one_at_a_time(cloud_file))
        with _steps_on(console) as on_step:
            cloud = stack.enter_context(local_cloud(stage, schedule=True, on_step=on_step, local_folder=local_folder))
        stack.enter_context(_announced(cloud, cloud_file))
        console.print(_welcome(cloud, cloud_file), soft_wrap=True, markup=False, highlight=False)
        when_up(cloud)
        cloud.emulator.process.wait()
        raise LocalCloudError("the emulator has ended by itself")


def _become_chalice_local(stage: str, port: int, cloud_environment: dict[str, str]) -> NoReturn:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    chalice = str(Path(sys.executable).with_name("chalice"))
    os.chdir(PROJECT)
    # It would start anew, and drop requests, at any change below the project, which the local cloud's log is one of.
    arguments = [chalice, "local", "--no-autoreload", "--stage", stage, "--port", str(port)]
    os.execve(chalice, arguments, environment | cloud_environment)  # noqa: S606 - no shell is wanted


@contextlib.contextmanager
def _only_one_at_a_time(cloud_file: Path) -> Iterator[None]:
    """Hold the lock of this clone's local cloud; the kernel releases it however the process ends."""
    with cloud_file.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalCloudError("a local cloud is already running in this folder") from None
        # One that was killed could not remove it.
        cloud_file.unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def _announced(cloud: Cloud, cloud_file: Path) -> Iterator[None]:
    """Let other programs find the cloud, all at once and only while it is up."""
    unfinished = cloud_file.with_suffix(".json.new")
    try:
        described = msgspec.convert(cloud, CloudFile, from_attributes=True)
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(described)))
        unfinished.replace(cloud_file)
        yield
    finally:
        unfinished.unlink(missing_ok=True)
        cloud_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _steps_on(console: Console) -> Iterator[Callable[[str], None]]:
    """Give the function that shows the step under way: animated on a terminal, a line each elsewhere."""
    if not console.is_terminal:
        yield lambda text: console.print(text, markup=False)
        return
    with console.status("") as status:
        yield status.update


def _welcome(cloud: Cloud, cloud_file: Path) -> str:
    reading = '{"sensor_id":1,"location_id":"a","value":2000}'
    headers = f"-H 'Authorization: Bearer {cloud.token}' -H 'Content-Type: application/json'"
    exports = " ".join(f"{name}={value}" for name, value in cloud.environment.items())
    return f"""
API       {cloud.api_url}
Dashboard {cloud.api_url}/
AWS       {cloud.endpoint_url}
Both are described in {cloud_file}

In another terminal, `. localcloud/env.sh` sets API, TOKEN, AUTH and AWS_*.

Post a reading:
  curl -s -X POST {headers} -d '{reading}' {cloud.api_url}/readings
Let sensors post:
  export THERMONET_TOKEN={cloud.token}
  .venv/bin/python -m simulator run --config simulator/config.yaml --url {cloud.api_url}
Mint another token:
  .venv/bin/python -m simulator token --subject gateway-7 --location 3 --scope readings:write --days 30
Serve the routes on port 8000 against the same resources:
  make local
Let any AWS client in:
  export {exports}

Ctrl-C ends it."""
