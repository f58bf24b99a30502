"""A checkout of the project in a folder of its own, in which tests run what targets of make run."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.project import PROJECT
from tests.e2e.cloud_tools import wait_for

# As many sensors as the README's would keep the machine busy for longer than the test is worth. None of them breaks.
SMALL_LOAD = """
meta: {locations: 2, sensors: 5}
sensor: {min_r: 500, max_r: 6000}
timer: {total_runtime_seconds: 5, min_delay_seconds: 3}
load: {workers: 1, batch_size: 25}
"""

# A proxy is no way to this machine, and nobody answers at this one.
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
BEHIND_PROXY = {**os.environ, **PROXIES}


@dataclass(frozen=True)
class Checkout:
    """A checkout in which `make setup` has been run."""

    folder: Path

    @property
    def announcement(self) -> Path:
        return self.folder / ".local" / "cloud.json"

    def command(self, target: str, variables: dict[str, object]) -> list[str]:
        """Return the command that a target of make runs after the set-up."""
        given = [f"{name}={value}" for name, value in variables.items()]
        # Its own variables would say that a make runs these tests, and change what this one prints.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        made = subprocess.check_output(["make", "-n", target, *given], cwd=self.folder, env=environment, text=True)
        lines = made.splitlines()
        program, *arguments = shlex.split(lines[-1])
        return [f"{self.folder}/{program}", *arguments]

    def run(self, target: str, **variables: object) -> "subprocess.CompletedProcess[str]":
        command = self.command(target, variables)
        return subprocess.run(
            command, cwd=self.folder, env=BEHIND_PROXY, capture_output=True, text=True, timeout=60, check=False
        )

    @contextmanager
    def running(self, target: str, **variables: object) -> Iterator["subprocess.Popen[str]"]:
        """Run what a target of make runs, and kill whatever is left of it."""
        process = subprocess.Popen(
            self.command(target, variables),
            cwd=self.folder,
            env=BEHIND_PROXY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            # The whole session: what serves behind `chalice local` would hold on to the pipes.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def announced_by(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        """Wait until the process has announced its cloud, and return what it tells."""
        # To package the application takes a busy machine more than a minute.
        wait_for(lambda: self.announcement.exists() or process.poll() is not None, timeout_seconds=240)
        announced: dict[str, Any] = json.loads(self.announcement.read_text())
        return announced

    def processes(self) -> set[int]:
        """Find every living process that was given the folder in its environment or its arguments."""
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                given = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
                if str(self.folder).encode() in given and int(process.name) != os.getpid():
                    found.add(int(process.name))
        return found

    def assert_nothing_is_left(self) -> None:
        assert not self.announcement.exists()
        assert list((self.folder / ".local" / "cloud").iterdir()) == []
        wait_for(lambda: self.processes() == set())


def make_checkout(folder: Path) -> Checkout:
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, text=True)
    for name in names.splitlines():
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    (folder / ".local").mkdir()
    for name in (".venv", ".venv-cloud", ".local/wheels", ".local/lambda-wheels", ".local/packages"):
        (folder / name).symlink_to(PROJECT / name)
    for name in ("simulator/config.yaml", "localcloud/demo.yaml"):
        (folder / name).write_text(SMALL_LOAD)
    return Checkout(folder)
