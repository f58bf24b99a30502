"""The demo with fewer sensors than `make run`, which CI runs: the deployed package, the workflow, files to look at."""

import csv
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from ops.project import PROJECT
from tests.e2e.naive_moving_average import TOLERANCE_CELSIUS, greatest_difference

ONE_BY_ONE = """
meta: {locations: 8, sensors: 3}
sensor: {min_r: 0.1, max_r: 20500}
timer: {total_runtime_seconds: 8, min_delay_seconds: 0.4, max_delay_seconds: 1.2, time_scale: 45}
load: {workers: 2}
"""
FAULTY = """
meta: {locations: 8, sensors: 5}
timer: {total_runtime_seconds: 4, min_delay_seconds: 0.2, max_delay_seconds: 0.6, time_scale: 45}
load: {workers: 1, batch_size: 20}
faults: {duplicate_rate: 0.2, malformed_rate: 0.1, late_rate: 0.1, out_of_order_rate: 0.2}
"""


def run_demo(folder: Path, config: str) -> str:
    """Run the demo, which must end with exit code 0 and leaves `folder`/out; return what it printed."""
    path = folder / "demo.yaml"
    path.write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "localcloud", "run", f"--out={folder / 'out'}", "--seed=7", f"--config={path}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo leaves behind."""
    folder = tmp_path_factory.mktemp("demo")
    assert "the books balance" in run_demo(folder, ONE_BY_ONE)
    return folder / "out"


@pytest.fixture(scope="module")
def rows(out: Path) -> list[dict[str, str]]:
    with (out / "readings.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_reports_equal_a_naive_recomputation(out: Path) -> None:
    assert greatest_difference(out) <= TOLERANCE_CELSIUS


def test_the_readings_come_from_every_sensor_over_minutes_of_device_time(rows: list[dict[str, str]]) -> None:
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
    assert (max(times) - min(times)).total_seconds() >= 5 * 60
    assert {row["sensor_id"] for row in rows} == {str(number) for number in range(1, 25)}


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


def test_batches_with_every_kind_of_fault_are_answered_right_and_counted_once(tmp_path: Path) -> None:
    printed = run_demo(tmp_path, FAULTY)
    assert "every answer is the expected one" in printed
    books = re.search(r"reported \+ (\d+) duplicates", printed)
    assert books is not None
    assert int(books[1]) > 0
    assert greatest_difference(tmp_path / "out") <= TOLERANCE_CELSIUS
