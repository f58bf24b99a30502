"""The benchmarks of the ingest run, end with the line that other programs read, and keep within their budgets."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def last_line(benchmark):
    finished = subprocess.run(
        [sys.executable, f"benchmarks/{benchmark}.py", "--json", "--rounds", "1"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(finished.stdout.splitlines()[-1])


def test_what_a_reading_costs_is_counted_and_within_its_calls():
    figures = last_line("ingest")
    for size, calls in (("single", 4), ("batch100", 0.08)):
        assert {"aws_calls", "own_cpu_us", "bytes"} <= figures[size].keys()
        assert all(number > 0 for number in figures[size].values())
        assert figures[size]["aws_calls"] <= calls
    assert figures["import_ms"] > 0


def test_a_million_readings_in_batches_of_a_hundred_cost_no_more_than_thirty_cents():
    dollars = last_line("cost")["usd_per_million"]
    assert dollars.keys() == {"single", "batch25", "batch100"}
    assert 0 < dollars["batch100"] <= 0.30
    assert dollars["batch100"] < dollars["batch25"] < dollars["single"]


def test_a_measurement_takes_a_few_bytes_of_the_archive_and_a_day_a_few_files():
    figures = last_line("archive")
    assert 0 < figures["bytes_batch100"] <= 16
    assert figures["bytes_batch100"] < figures["bytes_single"] <= 19
    assert 24 <= figures["files_per_day"] <= 35


def test_every_price_has_its_date_and_source():
    sys.path.insert(0, str(PROJECT))
    from benchmarks.cost import PRICES

    for price in PRICES.values():
        assert price.usd > 0
        assert re.fullmatch(r"20\d\d-[01]\d", price.as_of)
        assert price.source.startswith("aws.amazon.com/")


@pytest.mark.parametrize(
    ("counted", "dollars"),
    [
        # An idempotency record of 2 KB: 1 + 2 writes, and a read for each reading.
        ({"record_bytes_per_request": 1_500}, (1 + 2) * 0.625 / 100 + 0.125),
        ({"record_bytes_per_request": 100}, (1 + 1) * 0.625 / 100 + 0.125),
    ],
)
def test_dynamodb_is_charged_by_the_kilobyte_of_its_record(counted, dollars):
    from benchmarks.cost import _dynamodb

    assert _dynamodb(counted, 1 / 100) * 1e6 == pytest.approx(dollars)
