"""What the README tells a newcomer to type, typed in a checkout of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from simulator.emulator import PROJECT
from tests.e2e.test_local_cloud import processes_of, wait_for

README = (PROJECT / "README.md").read_text()
SMALL_LOAD = "meta: {locations: 2, sensors: 5}\ntimer: {total_runtime_seconds: 2, min_delay_seconds: 0.5}\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A checkout in which `make setup` has been run; nothing that was started in it may outlive the test."""
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, text=True)
    for name in names.splitlines():
        if (PROJECT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / ".local").mkdir()
    for name in (".venv", ".venv-cloud", ".local/wheels", ".local/lambda-wheels", ".local/packages"):
        (tmp_path / name).symlink_to(PROJECT / name)
    # As many sensors as the README's would keep the machine busy for longer than the test is worth.
    (tmp_path / "simulator" / "config.yaml").write_text(SMALL_LOAD)
    yield tmp_path
    wait_for(lambda: processes_of(tmp_path) == [])


@contextmanager
def running(recipe: str, checkout: Path) -> Iterator[dict[str, Any]]:
    """Run what a target of make runs until it has announced its cloud, and end it as Ctrl-C does."""
    makefile = (checkout / "Makefile").read_text()
    line = re.search(rf"^{recipe}:.*\n\t@\$\(BIN\)/(.*)$", makefile, re.MULTILINE)
    assert line
    with subprocess.Popen(
        [f"{checkout}/.venv/bin/{line[1].split()[0]}", *line[1].split()[1:]], cwd=checkout
    ) as process:
        announcement = checkout / ".local" / "cloud.json"
        wait_for(lambda: announcement.exists() or process.poll() is not None)
        yield json.loads(announcement.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def get(cloud: dict[str, Any], path: str) -> Any:
    headers = {"Authorization": f"Bearer {cloud['token']}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(cloud["api_url"] + path, headers=headers)) as response:
            return response.read().decode()
    except urllib.error.HTTPError:
        return None


def test_the_commands_for_the_second_terminal_work_when_pasted(checkout: Path) -> None:
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "cloud.json" in block]
    pasted = block.partition("make local")[0]
    with running("cloud", checkout):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", pasted], cwd=checkout, capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(checkout)},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":"OK"' in done.stdout
    assert '"temperature":35.02' in done.stdout
    assert '"status":"BROKEN"' in done.stdout
    assert len((checkout / "out.csv").read_text().splitlines()) > 1


def test_make_demo_shows_a_dashboard_and_lets_sensors_post(checkout: Path) -> None:
    with running("demo", checkout) as cloud:
        assert "<title>" in get(cloud, "/")
        wait_for(lambda: any(get(cloud, f"/sensors/{number}") for number in range(1, 40)))
