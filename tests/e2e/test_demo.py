"""The demo at its worst, with few sensors: real requests, the deployed package, the workflow, and files to look at.

`make run`, which CI runs, is the same with 2,000 requests without faults.
"""

import csv
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from simulator.emulator import PROJECT
from tests.e2e.naive_moving_average import TOLERANCE_CELSIUS, greatest_difference

FAULTY = """
meta: {locations: 8, sensors: 5}
timer: {total_runtime_seconds: 4, min_delay_seconds: 0.2, max_delay_seconds: 0.6, time_scale: 45}
load: {workers: 1, batch_size: 20}
faults: {duplicate_rate: 0.2, malformed_rate: 0.1, late_rate: 0.1, out_of_order_rate: 0.2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a demo of batches with every kind of fault prints, in `printed`, and leaves behind, in `out`."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "demo.yaml").write_text(FAULTY)
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "demo", "--out=out", "--seed=7", "--config=demo.yaml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "printed").write_text(done.stdout)
    return folder


def test_every_answer_is_the_expected_one_and_the_books_balance(folder: Path) -> None:
    printed = (folder / "printed").read_text()
    assert "every answer is the expected one" in printed
    assert "the books balance" in printed
    books = re.search(r"reported \+ (\d+) duplicates", printed)
    assert books is not None
    assert int(books[1]) > 0


def test_the_reports_equal_a_naive_recomputation(folder: Path) -> None:
    assert greatest_difference(folder / "out") <= TOLERANCE_CELSIUS


def test_the_readings_come_from_every_sensor_over_minutes_of_device_time(folder: Path) -> None:
    with (folder / "out" / "readings.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"]]
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
    assert (max(times) - min(times)).total_seconds() >= 2 * 60
    assert {row["sensor_id"] for row in rows} == {str(number) for number in range(1, 41)}
    assert any(row["status"] == "BROKEN" for row in rows)


def test_the_page_asks_the_network_for_nothing(folder: Path) -> None:
    page = (folder / "out" / "report.html").read_text()
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?!data:)\S""", page)
    assert "default-src 'none'" in page
