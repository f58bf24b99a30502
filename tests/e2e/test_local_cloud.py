"""The local cloud: what is in it, how it is announced, and that nothing of it stays behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localcloud.cloud import Cloud, LocalCloudError
from ops.project import PROJECT
from ops.running_cloud import client_factory
from tests.e2e.cloud_tools import chalice_local, free_port, listens, log_lines, post_reading, wait_for

SERVE = "import sys, pathlib; from localcloud import serve; "
SERVE_CLOUD = SERVE + "sys.exit(serve.serve_cloud('dev', pathlib.Path(sys.argv[1])))"
SERVE_LOCAL = SERVE + "sys.exit(serve.serve_local('dev', int(sys.argv[2]), pathlib.Path(sys.argv[1])))"


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def status_of(cloud: Cloud, sensor_id: str, resistance_ohm: float) -> Any:
    """Post a reading and return the status in the answer."""
    code, answer = post_reading(cloud, sensor_id=sensor_id, location_id="cloud", value=resistance_ohm)
    assert code == 200, answer
    return answer["status"]


def processes_of(folder: Path) -> list[str]:
    """Every living process that was given the folder in its environment or its arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in told and process.name != str(os.getpid()):
            found.append(process.name)
    return found


@contextmanager
def command(code: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT,
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


def test_a_fresh_cloud_answers_on_health(cloud: Cloud) -> None:
    assert get(f"{cloud.api_url}/health") == {"status": "OK"}


def test_the_functions_have_the_names_that_chalice_deploy_gives_them(cloud: Cloud) -> None:
    functions = {"authorize", "buffer_measurements", "start_analytics", "receiver", "reporter", "summarizer"}
    assert {"thermonet-dev", *(f"thermonet-dev-{name}" for name in functions)} <= set(cloud.functions)


def test_the_application_is_told_the_resources_that_were_created(cloud: Cloud) -> None:
    parameter = cloud.client("ssm").get_parameter(Name="/thermonet/dev/resources")["Parameter"]
    told = json.loads(parameter["Value"])
    assert set(told) == {
        "registry_table",
        "idempotency_table",
        "ledger_table",
        "bucket",
        "queue_url",
        "dead_letter_queue_url",
        "topic_arn",
        "state_machine_arn",
    }
    for table in (told["registry_table"], told["idempotency_table"], told["ledger_table"]):
        assert cloud.client("dynamodb").describe_table(TableName=table)["Table"]["TableStatus"] == "ACTIVE"


def test_a_message_is_retried_after_the_stages_retention_and_given_up_after_five_times(cloud: Cloud) -> None:
    queue = cloud.client("sqs").get_queue_attributes(QueueUrl=cloud.resources.queue_url, AttributeNames=["All"])
    attributes = queue["Attributes"]
    assert attributes["VisibilityTimeout"] == "60"
    assert attributes["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    redrive = json.loads(attributes["RedrivePolicy"])
    assert redrive["maxReceiveCount"] == 5
    assert redrive["deadLetterTargetArn"].endswith(":thermonet-dev-measurements-dlq")


def test_no_schedule_interferes_with_the_runs_of_a_test(cloud: Cloud) -> None:
    (rule,) = cloud.client("events").list_rules(NamePrefix="thermonet-dev")["Rules"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "DISABLED")


def test_a_posted_reading_goes_through_the_queue_into_a_run(cloud: Cloud) -> None:
    assert status_of(cloud, "through", 2_000) == "OK"
    cloud.wait_until_drained()
    assert cloud.count_messages(cloud.resources.queue_url) == 0
    assert cloud.count_objects("landing/") >= 1
    output = cloud.wait_for_run(cloud.start_analytics())
    assert output["counts"]["measurements"] >= 1
    assert [line for line in log_lines(cloud, "receiver") if "run prepared" in line]


def test_a_run_that_fails_is_told_with_its_cause(cloud: Cloud) -> None:
    started = cloud.client("stepfunctions").start_execution(
        stateMachineArn=cloud.resources.state_machine_arn, input='{"source":"S3","key":"not-there.csv"}'
    )
    with pytest.raises(LocalCloudError, match="not-there"):
        cloud.wait_for_run(started["executionArn"])


def test_chalice_local_serves_the_same_resources(cloud: Cloud) -> None:
    with chalice_local(cloud) as address:
        assert status_of(replace(cloud, api_url=address), "latched-locally", 25_000) == "BROKEN"
    assert status_of(cloud, "latched-locally", 2_000) == "BROKEN"


def assert_they_do_not_meet(cloud: Cloud, other: Cloud) -> None:
    assert status_of(other, "two-clouds", 25_000) == "BROKEN"
    assert status_of(cloud, "two-clouds", 2_000) == "OK"
    assert status_of(other, "two-clouds", 2_000) == "BROKEN"
    assert status_of(cloud, "two-clouds", 2_001) == "OK"


def test_a_served_cloud_is_announced_with_a_curl_line_that_works_meets_no_other_and_is_gone_after_ctrl_c(
    cloud: Cloud, tmp_path: Path
) -> None:
    announcement = tmp_path / "cloud.json"
    with command(SERVE_CLOUD, str(tmp_path)) as server:
        wait_for(lambda: announcement.exists() or server.poll() is not None)
        announced = json.loads(announcement.read_text())
        assert get(f"{announced['api_url']}/health") == {"status": "OK"}
        assert {"endpoint_url", "region", "resources", "functions", "environment"} <= set(announced)
        assert_they_do_not_meet(
            cloud, replace(cloud, api_url=announced["api_url"], client=client_factory(announced["endpoint_url"]))
        )
        second = subprocess.run(
            [sys.executable, "-c", SERVE_CLOUD, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, check=False
        )
        assert (second.returncode, second.stderr) == (1, "error: a local cloud is already running in this folder\n")
        assert announcement.exists()
        with command(SERVE_LOCAL, str(tmp_path), str(port := free_port())):
            wait_for(lambda: listens(port))
            assert get(f"http://127.0.0.1:{port}/health") == {"status": "OK"}
        assert server.stdout is not None
        line = next(line for line in server.stdout if line.startswith("  curl "))
        answer = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True).stdout
        assert json.loads(answer)["temperature"] == pytest.approx(35.03, abs=0.01)
        server.send_signal(signal.SIGINT)
        _, complaints = server.communicate(timeout=30)
    assert (server.returncode, complaints) == (0, "")
    assert not announcement.exists()
    assert list((tmp_path / "cloud").iterdir()) == []
    wait_for(lambda: processes_of(tmp_path) == [])


def test_a_cloud_interrupted_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    with command(SERVE_CLOUD, str(tmp_path)) as server:
        assert server.stdout is not None
        next(line for line in server.stdout if line.startswith("Deploying"))
        server.terminate()
        assert server.wait(timeout=30) == 0
    assert not (tmp_path / "cloud.json").exists()
    assert list((tmp_path / "cloud").iterdir()) == []
    wait_for(lambda: processes_of(tmp_path) == [])


def test_a_cloud_whose_owner_is_killed_goes_too_and_is_no_obstacle(tmp_path: Path) -> None:
    announcement = tmp_path / "cloud.json"
    with command(SERVE_CLOUD, str(tmp_path)) as server:
        wait_for(lambda: announcement.exists() or server.poll() is not None)
        server.kill()
        server.communicate()
    wait_for(lambda: processes_of(tmp_path) == [])
    assert announcement.exists()
    local = subprocess.run(
        [sys.executable, "-c", SERVE_LOCAL, str(tmp_path), "0"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (local.returncode, local.stderr) == (
        1,
        "error: no local cloud is running: start one with `make cloud`\n",
    )
    with command(SERVE_CLOUD, str(tmp_path)) as server:
        assert server.stdout is not None
        next(line for line in server.stdout if line.startswith("Creating"))
        assert not announcement.exists()
        server.terminate()
        assert server.wait(timeout=30) == 0
    assert list((tmp_path / "cloud").iterdir()) == []


def test_a_served_cloud_whose_emulator_dies_says_so(tmp_path: Path) -> None:
    with command(SERVE_CLOUD, str(tmp_path)) as server:
        wait_for(lambda: (tmp_path / "cloud.json").exists() or server.poll() is not None)
        # Serving, the owner was told the folder too; the emulator and its functions are the rest.
        for process in set(processes_of(tmp_path)) - {str(server.pid)}:
            os.kill(int(process), signal.SIGKILL)
        _, complaints = server.communicate(timeout=30)
    assert (server.returncode, complaints) == (1, "error: the emulator has ended by itself\n")
    assert not (tmp_path / "cloud.json").exists()
