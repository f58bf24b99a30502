"""Measures receiver and reporter on N measurements, beside the time DuckDB takes to merely count them.

`python benchmarks/analytics.py --rows 1000000 [--json]`: one hour of 8,000 sensors in 8 locations, as landing
objects in a folder that stands for the bucket. The real receiver and reporters run one after the other in a
process of their own, so that its peak memory is theirs.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import duckdb
import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from chalicelib.analytics.receiver import Receiver
from chalicelib.analytics.reporter import Reporter
from chalicelib.analytics.workflow import LocationTask, ReportRequest, RunRequest, SqsInput
from chalicelib.errors import ObjectNotFoundError
from chalicelib.ledger import NO_MANIFEST, Manifest, manifest_key
from chalicelib.settings import AnalyticsSettings, load_settings

LOCATIONS = 8
SENSORS = 8_000
HOUR_SECONDS = 3_600
ROWS_PER_OBJECT = 50_000
STARTED_AT = datetime(2026, 1, 31, 9, tzinfo=UTC)


T = TypeVar("T")


class Seconds(NamedTuple):
    """The time that the receiver and all reporters of a run took."""

    receiver: float
    reporter: float


class FolderStore:
    """A folder that stands in for the bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> bytes:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            raise ObjectNotFoundError(f"no object {key}") from None

    def put(self, key: str, content: bytes) -> None:
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def put_first(self, key: str, content: bytes) -> bool:
        if (self._folder / key).exists():
            return False
        self.put(key, content)
        return True

    def list_keys(self, prefix: str) -> list[str]:
        return sorted(str(path.relative_to(self._folder)) for path in (self._folder / prefix).glob("**/*.*"))

    def delete(self, keys: list[str]) -> None:
        for key in keys:
            (self._folder / key).unlink(missing_ok=True)

    def download(self, files: Iterable[tuple[str, Path]]) -> None:
        for key, path in files:
            # A link costs nothing, as reading from S3 costs nothing of DuckDB's time.
            path.symlink_to(self._folder / key)

    def upload(self, files: Iterable[tuple[str, Path]]) -> None:
        for key, path in files:
            target = self._folder / key
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


class FolderLedger:
    """The ledger's part that the receiver uses, over the folder."""

    def __init__(self, store: FolderStore) -> None:
        self._store = store
        self.head = NO_MANIFEST

    def committed(self) -> Manifest:
        return self.head

    def read_manifest(self, run_id: str) -> Manifest:
        return msgspec.json.decode(self._store.get(manifest_key(run_id)), type=Manifest)

    def write_manifest(self, manifest: Manifest) -> bool:
        return self._store.put_first(manifest_key(manifest.run_id), msgspec.json.encode(manifest))


class NothingBroken:
    """The count of broken sensors, none."""

    def read(self) -> int:
        return 0


def generate(folder: Path, rows: int, hour: int, locations: int) -> None:
    """Write `rows` measurements of the day's `hour` as landing objects: every sensor in turn, evenly spread."""
    (folder / "landing").mkdir(parents=True, exist_ok=True)
    sensors = max(SENSORS, locations)
    connection = duckdb.connect()
    connection.execute("SELECT setseed(0.5)")
    for number, start in enumerate(range(0, rows, ROWS_PER_OBJECT)):
        end = min(start + ROWS_PER_OBJECT, rows)
        connection.execute(
            f"""
            COPY (
                SELECT (i % {sensors})::VARCHAR AS sensor_id, (i % {locations})::VARCHAR AS location_id,
                       20 + 80 * random() AS temperature, 'OK' AS status,
                       strftime(TIMESTAMP '2026-01-30 00:00:00' + to_hours({hour})
                                + to_microseconds(i * {HOUR_SECONDS}000000 // {rows}), '%Y-%m-%dT%H:%M:%S.%gZ')
                       AS timestamp,
                       1 + 19999 * random() AS value,
                       1769846400000 + i // 1000 AS queued_at_ms,
                       hash(i) % 4294967296 AS delivery
                FROM range({start}, {end}) AS measurements(i)
            ) TO '{folder}/landing/{hour:02}-{number:06}.jsonl.gz' (FORMAT json, COMPRESSION gzip)
            """
        )
    connection.close()


def measure_floor(folder: Path) -> float:
    """Return the seconds in which DuckDB counts the rows of the input."""
    connection = duckdb.connect()
    columns = "{sensor_id: 'VARCHAR', location_id: 'VARCHAR', temperature: 'DOUBLE', timestamp: 'TIMESTAMP'}"
    started = time.perf_counter()
    connection.execute(
        f"SELECT count(*) FROM read_json('{folder}/landing/*.gz', columns = {columns}, format = 'newline_delimited')"
    ).fetchall()
    return time.perf_counter() - started


def run_once(folder: Path, hour: int, ledger: FolderLedger, store: Any, settings: AnalyticsSettings) -> Seconds:
    """Run the receiver and all reporters over what has landed, and commit."""
    receivers_ledger: Any = ledger
    nothing_broken: Any = NothingBroken()
    run_id = f"hour-{hour:02}"
    started = time.perf_counter()
    receiver = Receiver(settings, store, receivers_ledger, nothing_broken, uuid4, scratch=folder)
    answer = receiver.receive(RunRequest(run_id, STARTED_AT, SqsInput()))
    received = time.perf_counter()
    reporter = Reporter(settings, store, scratch=folder)
    for task in msgspec.json.decode(store.get(answer.locations_key), type=list[LocationTask]):
        reporter.report(ReportRequest(run_id, STARTED_AT, task))
    ledger.head = ledger.read_manifest(run_id)
    return Seconds(received - started, time.perf_counter() - received)


def in_own_process(function: Callable[..., T], *arguments: object) -> tuple[T, float]:
    """Call a function in a fresh process; return its result and the process' peak memory in MB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(function, *arguments).result()
        peak_kb = pool.submit(_peak_kb).result()
    return result, peak_kb / 1024


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_hours(folder: Path, rows: int, hours: int, locations: int, settings: AnalyticsSettings) -> list[Seconds]:
    """Run `hours` hourly runs of `rows` measurements each."""
    store = FolderStore(folder)
    ledger = FolderLedger(store)
    seconds = []
    for hour in range(hours):
        if hour:
            in_own_process(generate, folder, rows, hour, locations)
        seconds.append(run_once(folder, hour, ledger, store, settings))
    counted = ledger.head.totals.measurements
    if counted != rows * hours:
        raise AssertionError(f"{counted} of {rows * hours} measurements counted")
    return seconds


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="measurements in each run")
    parser.add_argument("--hours", type=int, default=1, help="hourly runs, one after the other")
    parser.add_argument("--locations", type=int, default=LOCATIONS)
    parser.add_argument("--memory-limit-mb", type=int, help="DuckDB's; default: that of the dev stage")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    settings = load_settings("dev").analytics
    if options.memory_limit_mb:
        settings = msgspec.structs.replace(settings, duckdb_memory_limit_mb=options.memory_limit_mb)
    with tempfile.TemporaryDirectory(prefix="thermonet-bench-") as name:
        folder = Path(name)
        print(f"generating {options.rows:,} measurements", file=sys.stderr)
        in_own_process(generate, folder, options.rows, 0, options.locations)
        floor_seconds, _ = in_own_process(measure_floor, folder)
        runs, peak_rss_mb = in_own_process(
            measure_hours, folder, options.rows, options.hours, options.locations, settings
        )
    first = runs[0]
    figures = {
        "total_seconds": first.receiver + first.reporter,
        "floor_seconds": floor_seconds,
        "peak_rss_mb": peak_rss_mb,
        "receiver_rows_per_second": options.rows / first.receiver,
        "reporter_rows_per_second": options.rows / first.reporter,
    }
    for hour, seconds in enumerate(runs[1:], start=1):
        print(f"hour {hour:2}: receiver {seconds.receiver:.2f} s, reporters {seconds.reporter:.2f} s")
    print(f"receiver   {first.receiver:8.2f} s {figures['receiver_rows_per_second']:12,.0f} rows/s")
    print(f"reporters  {first.reporter:8.2f} s {figures['reporter_rows_per_second']:12,.0f} rows/s")
    print(
        f"total      {figures['total_seconds']:8.2f} s, {figures['total_seconds'] / floor_seconds:.1f} times the floor"
    )
    print(f"floor      {floor_seconds:8.2f} s for DuckDB to count the same input")
    print(f"peak RSS   {peak_rss_mb:8.0f} MB")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
