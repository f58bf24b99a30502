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
        with urllib.request.urlopen(cloud["api_url"] + "/") as response:
            assert b"<title>" in response.read()
        wait_for(lambda: landed(cloud))
