"""The commands that keep a local cloud up until Ctrl-C, and serve the routes against it."""

import contextlib
import fcntl
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console

from chalicelib.errors import ThermonetError
from localcloud.cloud import Cloud, LocalCloudError, local_cloud
from ops.project import LOCAL_FOLDER, NO_AWS_FILES, PROJECT
from ops.running_cloud import CloudFile, accepts_connections, find_cloud, without_proxy
from ops.signals import signals_as_interrupt

# Where the local cloud serves if nobody else does: so its addresses stay the same.
_CLOUD_PORT = 8600
_WATCH_SECONDS = 1.0


def serve_cloud(stage: str, local_folder: Path = LOCAL_FOLDER, when_up: Callable[[Cloud], None] | None = None) -> int:
    """Run a local cloud until SIGINT or SIGTERM, announced in `cloud.json`; returns the exit code.

    `when_up` is called with the cloud, instead of saying how to use it; it must end when the emulator is down.
    """
    console = Console()
    with signals_as_interrupt():
        try:
            _serve_until_interrupted(stage, local_folder, console, when_up or functools.partial(_greet, console))
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
    if accepts_connections(port):
        print(f"error: port {port} is taken: give another one, `make local PORT={port + 1}`", file=sys.stderr)
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
            starting = local_cloud(stage, schedule=True, on_step=on_step, local_folder=local_folder, port=_CLOUD_PORT)
            cloud = stack.enter_context(starting)
        stack.enter_context(announced(cloud, cloud_file))
        when_up(cloud)
        while True:
            cloud.require_up()
            with contextlib.suppress(subprocess.TimeoutExpired):
                cloud.emulator.process.wait(_WATCH_SECONDS)


def _become_chalice_local(stage: str, port: int, cloud_environment: dict[str, str]) -> NoReturn:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | NO_AWS_FILES
    chalice = str(Path(sys.executable).with_name("chalice"))
    os.chdir(PROJECT)
    # It would start anew, and drop requests, at any change below the project, which the local cloud's log is one of.
    arguments = [chalice, "local", "--no-autoreload", "--stage", stage, "--port", str(port)]
    os.execve(chalice, arguments, environment | cloud_environment | without_proxy(os.environ))  # noqa: S606 - no shell is wanted


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
def announced(cloud: Cloud, cloud_file: Path) -> Iterator[None]:
    """Let other programs of the same user find the cloud, all at once and only while it is up."""
    unfinished = cloud_file.with_suffix(".json.new")
    try:
        described = msgspec.convert(cloud, CloudFile, from_attributes=True)
        # It holds a token.
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
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


def _greet(console: Console, cloud: Cloud) -> None:
    reading = '{"sensor_id":1,"location_id":"a","value":2000}'
    text = f"""
API        {cloud.api_url}
Dashboard  {cloud.dashboard_link}

In another terminal, from this folder:
  . localcloud/env.sh
  curl -sw '\\n' -H "$AUTH" -d '{reading}' $API/readings

README.md goes on from there; `leave_local_cloud` takes the variables back. Ctrl-C ends the cloud."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)
