"""`make run` as a user has it: real requests, the deployed package, the workflow, and files to look at."""

import csv
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from simulator.emulator import PROJECT
from tests.e2e.naive_moving_average import TOLERANCE_CELSIUS, greatest_difference


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo leaves behind after ending with exit code 0."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "demo", "--out", str(folder), "--seed", "7"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the books balance" in done.stdout
    return folder


@pytest.fixture(scope="module")
def rows(out: Path) -> list[dict[str, str]]:
    with (out / "readings.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_reports_equal_a_naive_recomputation(out: Path) -> None:
    assert greatest_difference(out) <= TOLERANCE_CELSIUS


def test_at_least_2000_readings_over_a_quarter_of_an_hour_come_from_all_locations(rows: list[dict[str, str]]) -> None:
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
    assert len(rows) >= 2_000
    assert (max(times) - min(times)).total_seconds() >= 15 * 60
    assert {row["location_id"] for row in rows} == {str(number) for number in range(1, 9)}


def test_every_reading_was_answered(rows: list[dict[str, str]]) -> None:
    assert {row["http_status"] for row in rows} == {"200"}


def test_a_sensor_once_broken_stays_broken(rows: list[dict[str, str]]) -> None:
    broken = set()
    for row in rows:
        if row["status"] == "BROKEN":
            broken.add(row["sensor_id"])
        assert (row["status"] == "BROKEN") == (row["sensor_id"] in broken)
    assert broken


def test_the_page_asks_the_network_for_nothing(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?!data:)\S""", page)
    assert "default-src 'none'" in page
