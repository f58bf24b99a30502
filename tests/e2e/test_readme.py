"""What the README tells a newcomer to type, typed in a checkout of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from ops.project import PROJECT
from tests.e2e.cloud_tools import wait_for
from tests.e2e.test_local_cloud import processes_of

README = (PROJECT / "README.md").read_text()
SMALL_LOAD = (
    "meta: {locations: 2, sensors: 5}\ntimer: {total_runtime_seconds: 2, min_delay_seconds: 0.5}\nload: {workers: 1}\n"
)


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
    for name in ("simulator/config.yaml", "localcloud/demo.yaml"):
        (tmp_path / name).write_text(SMALL_LOAD)
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


def landed(cloud: dict[str, Any]) -> int:
    """Return the number of landing objects, of which a consumer that is fed leaves one after the other."""
    environment = cloud["environment"]
    s3 = boto3.client(
        "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"], aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    listed: int = s3.list_objects_v2(Bucket=cloud["resources"]["bucket"], Prefix="landing/")["KeyCount"]
    return listed


def in_shell(shell: str, script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a script as a newcomer's shell does, with nothing in its environment but the usual."""
    return subprocess.run(
        [shell, "-c", script], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )  # fmt: skip


def without_time(answer: str) -> str:
    """Hide the time that the server gave to each reading."""
    return re.sub(r'"timestamp":"[^"]+Z"', '"timestamp":"…"', answer)


def test_the_commands_for_the_second_terminal_work_when_pasted(checkout: Path) -> None:
    """Their answers are those of the README, but for the time of each reading, which is the server's."""
    tour = README.partition("In a second terminal")[2].partition("## How it works")[0]
    # Targets of make would install environments into the checkout; their recipes have tests of their own.
    commands = re.findall(r"```sh\n(?!make )(.*?)```", tour, re.DOTALL)
    answers = [line for block in re.findall(r"```json\n(.*?)```", tour, re.DOTALL) for line in block.splitlines()]
    # curl ends its output without a line break, as a terminal's prompt shows.
    pasted = re.sub(r"^(curl .*)$", r"\1; echo", "\n".join(commands), flags=re.MULTILINE)
    with running("cloud", checkout):
        done = in_shell("bash", f"set -eu\n{pasted}", checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    answered = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert [without_time(line) for line in answered] == [without_time(line) for line in answers]
    assert len((checkout / "out.csv").read_text().splitlines()) > 1


@pytest.mark.parametrize("shell", [name for name in ("bash", "dash", "zsh") if shutil.which(name)])
def test_without_a_cloud_the_shell_is_told_how_to_start_one(shell: str, tmp_path: Path) -> None:
    done = in_shell(shell, f". {PROJECT}/localcloud/env.sh || echo and goes on", tmp_path)
    assert done.stdout == "and goes on\n"
    assert done.stderr == "error: no local cloud is running in this folder: start one with make cloud\n"


def test_make_demo_shows_a_dashboard_and_lets_sensors_post(checkout: Path) -> None:
    with running("demo", checkout) as cloud:
        with urllib.request.urlopen(cloud["api_url"] + "/") as response:
            assert b"<title>" in response.read()
        wait_for(lambda: landed(cloud))
