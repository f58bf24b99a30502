"""`make cloud`, `make local` and `make demo`, and what the README tells a newcomer to type: all of it in a checkout."""

import gzip
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import jwt
import pytest

from ops.project import PROJECT
from ops.running_cloud import accepts_connections, find_cloud
from tests.e2e.checkout import PROXIES, Checkout, make_checkout
from tests.e2e.cloud_tools import free_port, get, wait_for

README = (PROJECT / "README.md").read_text()
SHELLS = [name for name in ("bash", "dash", "zsh") if shutil.which(name)]


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A checkout of one test; nothing that was started in it may outlive the test."""
    made = make_checkout(tmp_path)
    yield made
    wait_for(lambda: made.processes() == set())


@dataclass(frozen=True)
class Served:
    """A cloud that `make cloud` serves, and what it has announced."""

    checkout: Checkout
    process: "subprocess.Popen[str]"
    announced: dict[str, Any]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    checkout = make_checkout(tmp_path_factory.mktemp("served"))
    with checkout.running("cloud") as process:
        yield Served(checkout, process, checkout.announced_by(process))


def post(announced: dict[str, Any], sensor_id: str, resistance_ohm: float) -> Any:
    """Post a reading to an announced cloud and return the status in the answer."""
    reading = {"sensor_id": sensor_id, "location_id": "serving", "value": resistance_ohm}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {announced['token']}"}
    request = urllib.request.Request(f"{announced['api_url']}/readings", json.dumps(reading).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["status"]


def test_a_served_cloud_is_announced_and_answers(served: Served) -> None:
    assert get(f"{served.announced['api_url']}/health") == {"status": "OK"}
    assert {"endpoint_url", "region", "resources", "functions", "environment"} <= set(served.announced)


def test_a_second_cloud_in_the_same_folder_is_refused(served: Served) -> None:
    second = served.checkout.run("cloud")
    assert (second.returncode, second.stderr) == (1, "error: a local cloud is already running in this folder\n")
    assert served.checkout.announcement.exists()


def test_make_local_serves_the_routes_of_the_running_cloud(served: Served) -> None:
    with served.checkout.running("local", PORT=(port := free_port())):
        wait_for(lambda: accepts_connections(port))
        assert get(f"http://127.0.0.1:{port}/health") == {"status": "OK"}
        second = served.checkout.run("local", PORT=port)
    said = f"error: port {port} is taken: give another one, `make local PORT={port + 1}`\n"
    assert (second.returncode, second.stderr) == (1, said)


def test_an_announcement_that_was_left_is_not_taken_for_the_cloud_that_is_at_its_address(
    served: Served, tmp_path: Path
) -> None:
    left = served.announced | {"identity": "of a cloud that was killed"}
    (tmp_path / "cloud.json").write_text(json.dumps(left))
    assert find_cloud(tmp_path) is None
    (tmp_path / "cloud.json").write_text(json.dumps(served.announced))
    found = find_cloud(tmp_path)
    assert found is not None
    assert found.api_url == served.announced["api_url"]


def test_what_holds_a_token_is_readable_by_its_owner_only(served: Served) -> None:
    assert stat.S_IMODE(served.checkout.announcement.stat().st_mode) == 0o600
    (emulators_folder,) = (served.checkout.folder / ".local" / "cloud").iterdir()
    assert stat.S_IMODE(emulators_folder.stat().st_mode) == 0o700


def in_shell(shell: str, script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a script as a newcomer's shell does, with nothing in its environment but the usual."""
    return subprocess.run(
        [shell, "-c", script], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **PROXIES},
    )  # fmt: skip


def comparable(answer: str) -> str:
    """Hide what differs from run to run: the times that the server gave to readings, and the averages of a run."""
    return re.sub(r'"timestamp":"[^"]+Z"', '"timestamp":"…"', re.sub(r'^{"locations":.*', "averages", answer))


def test_the_commands_for_the_second_terminal_work_when_pasted(served: Served) -> None:
    """Their answers are those of the README, but for the times, which are the server's, and what runs have averaged."""
    tour = README.partition("In a second terminal")[2].partition("## How it works")[0]
    # Targets of make would install environments into the checkout; their recipes have tests of their own.
    commands = re.findall(r"```sh\n(?!make )(.*?)```", tour, re.DOTALL)
    answers = [line for block in re.findall(r"```json\n(.*?)```", tour, re.DOTALL) for line in block.splitlines()]
    result = in_shell("bash", "set -eu\n" + "\n".join(commands), served.checkout.folder)
    assert result.returncode == 0, result.stdout + result.stderr
    answered = [line for line in result.stdout.splitlines() if line.startswith("{")]
    assert [comparable(line) for line in answered] == [comparable(line) for line in answers]
    assert len((served.checkout.folder / "out" / "load.csv").read_text().splitlines()) > 1


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_gets_its_own_variables_back_when_it_leaves_the_cloud(served: Served, shell: str) -> None:
    before = {"AWS_PROFILE": "mine", "AWS_DEFAULT_REGION": "eu-west-3", "no_proxy": "it's.example"}
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in before.items())
    names = "AWS_PROFILE AWS_DEFAULT_REGION AWS_ENDPOINT_URL API no_proxy"
    script = f"""set -eu
{exports}
show() {{ for name in {names}; do printenv $name || echo none; done; }}
. localcloud/env.sh
. localcloud/env.sh
show
leave_local_cloud
show"""
    result = in_shell(shell, script, served.checkout.folder)
    assert result.returncode == 0, result.stderr
    there, back = result.stdout.splitlines()[:5], result.stdout.splitlines()[5:]
    announced = served.announced
    direct = "it's.example,127.0.0.1,localhost"
    assert there == ["none", announced["region"], announced["endpoint_url"], announced["api_url"], direct]
    assert back == ["mine", "eu-west-3", "none", "none", "it's.example"]


@pytest.mark.parametrize("shell", SHELLS)
def test_without_a_cloud_the_shell_is_told_how_to_start_one(shell: str, tmp_path: Path) -> None:
    result = in_shell(shell, f". {PROJECT}/localcloud/env.sh || echo and goes on", tmp_path)
    assert result.stdout == "and goes on\n"
    assert result.stderr == "error: no local cloud is running in this folder: start one with make cloud\n"


def landed(cloud: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the measurements of the landing object whose name is first, none while there is no object."""
    environment = cloud["environment"]
    s3 = boto3.client(
        "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"], aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    bucket = cloud["resources"]["bucket"]
    for listed in s3.list_objects_v2(Bucket=bucket, Prefix="landing/").get("Contents", []):
        content = s3.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read()
        return [json.loads(line) for line in gzip.decompress(content).splitlines()]
    return []


def test_make_demo_shows_a_dashboard_lets_sensors_post_and_meets_no_other_cloud(
    served: Served, checkout: Checkout
) -> None:
    with checkout.running("demo") as process:
        demo = checkout.announced_by(process)
        assert process.stdout is not None
        wait_for(lambda: landed(demo))
        first = datetime.fromisoformat(landed(demo)[0]["timestamp"])
        assert timedelta(hours=22) < datetime.now(UTC) - first < timedelta(hours=24)
        link = next(line.strip() for line in process.stdout if line.startswith("  http"))
        address, token = link.split("#token=")
        assert address == f"{demo['api_url']}/"
        # Who is sent the link may look, and post nothing.
        assert jwt.decode(token, options={"verify_signature": False})["scope"] == "reports:read"
        with urllib.request.urlopen(link) as response:
            assert b"<title>" in response.read()
        assert post(demo, "in-both", 25_000) == "BROKEN"
        assert post(served.announced, "in-both", 2_000) == "OK"
        assert post(demo, "in-both", 2_000) == "BROKEN"
        assert post(served.announced, "in-both", 2_001) == "OK"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_a_cloud_whose_folder_is_removed_ends_and_leaves_nothing(checkout: Checkout) -> None:
    with checkout.running("cloud") as server:
        checkout.announced_by(server)
        shutil.rmtree(checkout.folder / ".local")
        _, complaints = server.communicate(timeout=30)
    said = f"error: {checkout.folder / '.local'} was removed meanwhile\n"
    assert (server.returncode, complaints) == (1, said)
    wait_for(lambda: checkout.processes() == set())
    assert not (checkout.folder / ".local").exists()


@pytest.mark.parametrize("step", ["Creating", "Deploying"])
def test_a_cloud_interrupted_while_it_starts_leaves_nothing(checkout: Checkout, step: str) -> None:
    with checkout.running("cloud") as server:
        assert server.stdout is not None
        next(line for line in server.stdout if line.startswith(step))
        server.terminate()
        assert server.wait(timeout=30) == 0
    checkout.assert_nothing_is_left()


def test_a_cloud_whose_owner_is_killed_goes_too_and_is_no_obstacle_and_one_whose_emulator_dies_says_so(
    checkout: Checkout,
) -> None:
    with checkout.running("cloud") as server:
        checkout.announced_by(server)
        server.kill()
        server.communicate()
    wait_for(lambda: checkout.processes() == set())
    assert checkout.announcement.exists()
    local = checkout.run("local")
    assert (local.returncode, local.stderr) == (1, "error: no local cloud is running: start one with `make cloud`\n")
    with checkout.running("cloud") as server:
        assert server.stdout is not None
        next(line for line in server.stdout if line.startswith("Creating"))
        assert not checkout.announcement.exists()
        checkout.announced_by(server)
        # The emulator and its functions are the rest.
        for process in checkout.processes() - {server.pid}:
            os.kill(process, signal.SIGKILL)
        _, complaints = server.communicate(timeout=30)
    assert (server.returncode, complaints) == (1, "error: the emulator has ended by itself\n")
    checkout.assert_nothing_is_left()


@pytest.mark.last
def test_a_served_cloud_prints_a_curl_line_that_works_and_is_gone_after_ctrl_c(served: Served) -> None:
    assert served.process.stdout is not None
    lines = itertools.takewhile(lambda line: not line.startswith("README"), served.process.stdout)
    pasted = [line for line in lines if line.startswith("  ")]
    answer = in_shell("bash", "".join(pasted), served.checkout.folder).stdout
    assert json.loads(answer)["temperature"] == pytest.approx(35.03, abs=0.01)
    assert answer.endswith("}\n")
    served.process.send_signal(signal.SIGINT)
    _, complaints = served.process.communicate(timeout=30)
    assert (served.process.returncode, complaints) == (0, "")
    served.checkout.assert_nothing_is_left()
