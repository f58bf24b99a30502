"""The AWS emulator as a child process: started on a free loopback port, gone with everything it spawned."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chalicelib.errors import ThermonetError
from localcloud.polling import polls
from ops.project import LOCAL_FOLDER, PROJECT, REGION
from ops.running_cloud import HOST, accepts_connections, fetch, read_identity

_PYTHON = PROJECT / ".venv-cloud" / "bin" / "python"
# MiniStack's own server spends a quarter of a demo's time on HTTP. The services write their headers themselves.
_SERVER = (
    "uvicorn", "ministack.app:app", f"--host={HOST}", "--loop=uvloop", "--http=httptools", "--ws=none",
    "--no-access-log", "--no-server-header", "--no-date-header", "--no-proxy-headers",
    "--timeout-keep-alive=75",
)  # fmt: skip
_START_ATTEMPTS = 3
_START_SECONDS = 60
_LOG_LINES_TOLD = 20
# Every process of a function unpacks 100 MB of package before it starts, which halves its start in memory.
_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - in a folder of its own, closed to others
_MEMORY_BYTES_MIN = 4 * 2**30
_MEMORY_PREFIX = "thermonet-"


class EmulatorError(ThermonetError):
    """The emulator could not be started. The message ends with the last lines of its log."""


@dataclass(frozen=True)
class Emulator:
    """A running emulator and its address."""

    endpoint_url: str
    process: "subprocess.Popen[bytes]"
    folder: Path
    identity: str

    @property
    def is_up(self) -> bool:
        """Whether it runs, and still has the folder that it works in."""
        return self.process.poll() is None and self.folder.exists()


@contextlib.contextmanager
def running_emulator(
    local_folder: Path = LOCAL_FOLDER, *, permissions: bool = True, port: int | None = None
) -> Iterator[Emulator]:
    """Run an emulator of one's own below `local_folder`; raises EmulatorError when it does not start.

    With `permissions`, every function has the rights of its own policy only, as on AWS. `port` is taken if it is free.
    """
    instances = local_folder / "cloud"
    instances.mkdir(parents=True, exist_ok=True)
    _remove_leftovers([*instances.iterdir(), *_MEMORY_FOLDER.glob(f"{_MEMORY_PREFIX}*")])
    with _folder_below(instances) as folder, _folder_below(_scratch_place(folder), _MEMORY_PREFIX) as scratch:
        (folder / "tmp").symlink_to(scratch)
        emulator = _start(folder, port, permissions=permissions)
        try:
            yield emulator
        finally:
            _stop(emulator.process)


@contextlib.contextmanager
def _folder_below(parent: Path, prefix: str = "") -> Iterator[Path]:
    """Make a folder that names its owner, and remove it; nobody else can look into it."""
    name = f"{prefix}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=name, dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _scratch_place(folder: Path) -> Path:
    """Choose where the functions are unpacked: in memory where there is plenty of it, else in the emulator's folder."""
    roomy = _MEMORY_FOLDER.is_dir() and shutil.disk_usage(_MEMORY_FOLDER).free >= _MEMORY_BYTES_MIN
    return _MEMORY_FOLDER if roomy else folder


def _start(folder: Path, wanted_port: int | None, *, permissions: bool) -> Emulator:
    """Start on a free port, and on another one when somebody was quicker to take it."""
    if not _PYTHON.exists():
        raise EmulatorError(f"{_PYTHON} does not exist: run `make setup`")
    for attempt in range(_START_ATTEMPTS):
        port = _free_port(wanted_port if attempt == 0 else None)
        identity = secrets.token_hex(8)
        environment = _environment(folder, port, identity, permissions=permissions)
        emulator = Emulator(f"http://{HOST}:{port}", _spawn(folder, port, environment), folder, identity)
        with contextlib.ExitStack() as undo:
            undo.callback(_stop, emulator.process)
            if _wait_until_ready(emulator):
                undo.pop_all()
                return emulator
    log = (folder / "emulator.log").read_text(errors="replace").splitlines()
    raise EmulatorError("\n".join(["the emulator did not start:", *log[-_LOG_LINES_TOLD:]]))


def _spawn(folder: Path, port: int, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    for name in ("state", "s3"):
        (folder / name).mkdir(exist_ok=True)
    with (folder / "emulator.log").open("ab") as log:
        return subprocess.Popen(
            [_PYTHON, "-P", Path(__file__).with_name("guard.py"), *_SERVER, f"--port={port}"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )


def _environment(folder: Path, port: int, identity: str, *, permissions: bool) -> dict[str, str]:
    """Give everything explicitly: functions inherit this, and must not see the developer's AWS settings."""
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        # Its health page repeats this, so that another emulator on the same port is not taken for ours.
        "MINISTACK_EDITION": identity,
        "AUTH": "true" if permissions else "false",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "TMPDIR": str(folder / "tmp"),
        "STATE_DIR": str(folder / "state"),
        "S3_DATA_DIR": str(folder / "s3"),
        # It would sweep containers of the developer's Docker.
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _free_port(wanted: int | None) -> int:
    """Return the wanted port if nobody has it, else another one."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are not forgotten yet is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, 0 if wanted is None or accepts_connections(wanted) else wanted))
        except OSError:
            probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(emulator: Emulator) -> bool:
    """Wait for the health page and one real service; False when the process ends or takes too long."""
    for _ in polls(_START_SECONDS):
        if emulator.process.poll() is not None:
            break
        serves = read_identity(emulator.endpoint_url) == emulator.identity
        # The list of buckets is a real service, which the health page says nothing about.
        if serves and fetch(emulator.endpoint_url) is not None:
            return True
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Kill the emulator's process group: nothing of it is kept, so there is nothing to end politely."""
    # macOS permits no signal to a group of which only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()


def _remove_leftovers(folders: Iterable[Path]) -> None:
    """Remove the folders of processes that were killed before they could."""
    for folder in folders:
        owner = folder.name.removeprefix(_MEMORY_PREFIX).partition("-")[0]
        if owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
