"""`make run` with fewer sensors: the deployed package, the workflow, files to look at."""

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
meta: {locations: 8, sensors: 3, thermistors: {default: 0.5, ntc-10k: 0.5}}
timer: {total_runtime_seconds: 8, min_delay_seconds: 0.4, max_delay_seconds: 1.2, time_scale: 45}
load: {workers: 2}
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo, which must end with exit code 0, leaves behind."""
    folder = tmp_path_factory.mktemp("demo")
    config = folder / "demo.yaml"
    config.write_text(ONE_BY_ONE)
    result = subprocess.run(
        [sys.executable, "-m", "localcloud", "run", f"--out={folder / 'out'}", "--seed=7", f"--config={config}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the books balance" in result.stdout
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
    sensors = {(row["location_id"], row["sensor_id"]) for row in rows}
    assert sensors == {(str(location), str(number)) for location in range(1, 9) for number in range(1, 4)}


def test_both_types_of_thermistor_were_right_where_the_other_would_have_been_broken(rows: list[dict[str, str]]) -> None:
    """That each temperature is its type's was checked by the run."""
    working = [float(row["value"]) for row in rows if row["temperature"]]
    assert min(working) < 20_000 < max(working)


def test_every_reading_was_answered(rows: list[dict[str, str]]) -> None:
    assert {row["http_status"] for row in rows} == {"200"}


def test_a_sensor_once_broken_stays_broken(rows: list[dict[str, str]]) -> None:
    broken = set()
    for row in rows:
        sensor = (row["location_id"], row["sensor_id"])
        if row["status"] == "BROKEN":
            broken.add(sensor)
        assert (row["status"] == "BROKEN") == (sensor in broken)
    assert broken


def test_the_page_asks_the_network_for_nothing(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?!data:)\S""", page)
    assert "default-src 'none'" in page
