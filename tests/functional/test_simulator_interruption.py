"""Signals end the command `run` with its summary and every request in the dump."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.simulator_stub import CONFIG, count_posted, read_dump

PROJECT = Path(__file__).parents[2]
ENDLESS = CONFIG.replace("total_runtime_seconds: 0.5", "total_runtime_seconds: 600")


@pytest.fixture
def start(api, tmp_path):
    """Start the simulator as a process of its own, endless unless interrupted."""
    path = tmp_path / "sensors.yaml"
    path.write_text(ENDLESS)
    arguments = ["run", "--config", path, "--url", api.url, "--dump", tmp_path / "dump.csv"]
    with subprocess.Popen(
        [sys.executable, "-m", "simulator", *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_summary_and_complete_dump(api, start, tmp_path, number, code):
    assert api.some_received.wait(60)
    start.send_signal(number)
    output, errors = start.communicate(timeout=60)
    rows = read_dump(tmp_path / "dump.csv")
    assert start.returncode == code
    assert errors == ""
    assert f"{len(rows)} readings sent" in output
    assert count_posted(rows) == count_posted(api.received)


def test_a_server_that_never_answers_does_not_hold_up_the_end(api, start, tmp_path):
    def hang_later(reading):
        if len(api.received) >= 20:
            api.released.wait(120)
        return api.answer_ok(reading)

    api.respond = hang_later
    assert api.some_received.wait(60)
    start.send_signal(signal.SIGINT)
    # Less than the time-out of an answer.
    output, errors = start.communicate(timeout=25)
    rows = read_dump(tmp_path / "dump.csv")
    assert start.returncode == 130
    assert errors == ""
    assert "connection error" in output
    assert count_posted(rows) == count_posted(api.received)
