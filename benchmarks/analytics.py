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
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast
from uuid import uuid4

import duckdb
import msgspec
from msgspec import structs

sys.path.insert(0, str(Path(__file__).parent.parent))

from chalicelib.analytics.claimer import Claimer
from chalicelib.analytics.receiver import Receiver
from chalicelib.analytics.reporter import Reporter
from chalicelib.analytics.summarizer import Summarizer
from chalicelib.analytics.workflow import (
    ClaimRequest,
    LocationTask,
    ReceiveRequest,
    ReportRequest,
    SqsInput,
    SummaryRequest,
)
from chalicelib.errors import ObjectNotFoundError
from chalicelib.fields import format_second
from chalicelib.landing import SHARD, fingerprint
from chalicelib.ledger import Ledger
from chalicelib.quarantine_count import QuarantineCount
from chalicelib.settings import Settings, load_settings

LOCATIONS = 8
SENSORS = 8_000
HOUR_SECONDS = 3_600
ROWS_PER_OBJECT = 50_000
STARTED_AT = datetime(2026, 1, 31, 9, tzinfo=UTC)


T = TypeVar("T")


class Seconds(NamedTuple):
    """The time that the functions of a run took: claim, receiver, all reporters, and the summary.

    The claim has written to the archive what the run before had handed over.
    """

    claimer: float
    receiver: float
    reporter: float
    summarizer: float


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

    def list_keys(self, prefix: str, after: str = "") -> list[str]:
        folder = self._folder / prefix
        keys = (str(path.relative_to(self._folder)) for path in folder.glob("**/*") if path.is_file())
        return sorted(key for key in keys if key > after)

    def get_tail(self, key: str, length: int) -> tuple[int, bytes]:
        content = self.get(key)
        return len(content), content[-length:]

    def get_range(self, key: str, start: int, end: int) -> bytes:
        with (self._folder / key).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

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


class OneItem:
    """DynamoDB as far as the ledger's head and the counters of what does not happen here need it."""

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}

    def get_item(self, **_: Any) -> dict[str, Any]:
        return self.head

    def batch_get_item(self, **_: Any) -> dict[str, Any]:
        return {"Responses": {}, "UnprocessedKeys": {}}

    def commit(self, run_id: str) -> None:
        self.head = {"Item": {"run_id": {"S": run_id}}}


def generate(folder: Path, rows: int, hour: int, locations: int) -> None:
    """Write `rows` measurements of the day's `hour` as landing objects: every sensor in turn, evenly spread."""
    (folder / "landing").mkdir(parents=True, exist_ok=True)
    sensors, started_at = max(SENSORS, locations), STARTED_AT.replace(hour=0) + hour * timedelta(hours=1)
    connection = duckdb.connect()
    connection.execute("SELECT setseed(0.5)")
    for start in range(0, rows, ROWS_PER_OBJECT):
        end = min(start + ROWS_PER_OBJECT, rows)
        unnamed = folder / "unnamed.jsonl.gz"
        connection.execute(
            f"""
            COPY (
                SELECT (i % {sensors})::VARCHAR AS sensor_id, (i % {locations})::VARCHAR AS location_id,
                       20 + 80 * random() AS temperature, 'OK' AS status,
                       strftime(TIMESTAMP '{started_at:%Y-%m-%d %H:%M:%S}'
                                + to_microseconds(i * {HOUR_SECONDS}000000 // {rows}), '%Y-%m-%dT%H:%M:%S.%gZ')
                       AS timestamp,
                       round(1 + 19999 * random(), 1) AS value,
                       1769846400000 + i // 1000 AS queued_at_ms,
                       hash(i // 100) % 2147483648 AS delivery, i % 100 AS place
                FROM range({start}, {end}) AS measurements(i)
            ) TO '{unnamed}' (FORMAT json, COMPRESSION gzip)
            """
        )
        seconds = [started_at + timedelta(seconds=i * HOUR_SECONDS // rows) for i in (start, end - 1)]
        first, last = map(format_second, seconds)
        name = f"{seconds[1]:%Y%m%dT%H%M%S.%fZ}_{end - start}_{first}_{last}_{SHARD}"
        unnamed.rename(folder / "landing" / f"{name}_{fingerprint(unnamed.read_bytes())}.jsonl.gz")
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


def run_once(folder: Path, hour: int, dynamodb: Any, store: Any, settings: Settings) -> Seconds:
    """Run the workflow over what has landed, and commit."""
    ledger, started_at = Ledger("ledger", dynamodb, store), STARTED_AT + hour * timedelta(hours=1)
    aside = QuarantineCount("ledger", dynamodb)
    times = [time.perf_counter()]
    claim = Claimer(settings, store, ledger, aside, uuid4, folder).claim(
        ClaimRequest(f"hour-{hour:02}", started_at, SqsInput())
    )
    times.append(time.perf_counter())
    plan = Receiver(settings, store, ledger, uuid4, folder).receive(ReceiveRequest(claim.run_id, claim.claim_key))
    times.append(time.perf_counter())
    reporter = Reporter(settings.analytics.duckdb_memory_limit_mb, store, uuid4, folder)
    for task in msgspec.json.decode(store.get(plan.locations_key), type=list[LocationTask]):
        reporter.report(ReportRequest(claim.run_id, claim.folder, started_at, claim.scope, task))
    times.append(time.perf_counter())
    summarizer = Summarizer(settings, store, ledger, uuid4)
    answer = summarizer.summarize(SummaryRequest(claim.run_id, plan.plan_key))
    times.append(time.perf_counter())
    dynamodb.commit(answer.run_id)
    return Seconds(*(after - before for before, after in pairwise(times)))


def in_own_process(function: Callable[..., T], *arguments: object) -> tuple[T, float]:
    """Call a function in a fresh process; return its result and the process' peak memory in MB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(function, *arguments).result()
        peak_kb = pool.submit(_peak_kb).result()
    return result, peak_kb / 1024


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_hours(folder: Path, rows: int, hours: int, locations: int, settings: Settings) -> list[Seconds]:
    """Run `hours` hourly runs of `rows` measurements each, and one without any, whose claim archives the last."""
    store, dynamodb = FolderStore(folder), OneItem()
    seconds = []
    for hour in range(hours):
        if hour:
            in_own_process(generate, folder, rows, hour, locations)
        seconds.append(run_once(folder, hour, dynamodb, store, settings))
    seconds.append(run_once(folder, hours, dynamodb, store, settings))
    stored: Any = store
    committed = Ledger("ledger", cast("Any", dynamodb), stored).committed()
    counted, archived = committed.totals.measurements, _archived_rows(folder)
    if (counted, archived) != (rows * hours, rows * hours):
        raise AssertionError(f"{counted} of {rows * hours} measurements counted, {archived} archived")
    return seconds


def _archived_rows(folder: Path) -> int:
    (rows,) = duckdb.connect().execute(f"SELECT count(*) FROM '{folder}/archive/*/*.parquet'").fetchall()[0]
    return int(rows)


def figures_of(runs: list[Seconds], rows: int, floor_seconds: float, peak_rss_mb: float) -> dict[str, float]:
    """Sum up the first run, with the claim of the next, which archives what the first has counted."""
    first, archive_seconds = runs[0], runs[1].claimer
    return {
        "total_seconds": sum(first) + archive_seconds,
        "floor_seconds": floor_seconds,
        "archive_seconds": archive_seconds,
        "peak_rss_mb": peak_rss_mb,
        "receiver_rows_per_second": rows / first.receiver,
        "reporter_rows_per_second": rows / first.reporter,
    }


def show(runs: list[Seconds], figures: dict[str, float]) -> None:
    """Print the figures for people."""
    for hour, seconds in enumerate(runs[1:-1], start=1):
        print(
            f"hour {hour:2}: claim with archive {seconds.claimer:.2f} s, receiver {seconds.receiver:.2f} s,"
            f" reporters {seconds.reporter:.2f} s"
        )
    first, floor_seconds = runs[0], figures["floor_seconds"]
    print(f"receiver   {first.receiver:8.2f} s {figures['receiver_rows_per_second']:12,.0f} rows/s")
    print(f"reporters  {first.reporter:8.2f} s {figures['reporter_rows_per_second']:12,.0f} rows/s")
    print(f"archive    {figures['archive_seconds']:8.2f} s by the next claim")
    print(
        f"total      {figures['total_seconds']:8.2f} s, {figures['total_seconds'] / floor_seconds:.1f} times the floor"
    )
    print(f"floor      {floor_seconds:8.2f} s for DuckDB to count the same input")
    print(f"peak RSS   {figures['peak_rss_mb']:8.0f} MB")


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="measurements in each run")
    parser.add_argument("--hours", type=int, default=1, help="hourly runs, one after the other")
    parser.add_argument("--locations", type=int, default=LOCATIONS)
    parser.add_argument("--memory-limit-mb", type=int, help="DuckDB's; default: that of the dev stage")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    settings = load_settings("dev")
    settings = structs.replace(settings, archive=structs.replace(settings.archive, interval_minutes=60))
    if options.memory_limit_mb:
        analytics = structs.replace(settings.analytics, duckdb_memory_limit_mb=options.memory_limit_mb)
        settings = structs.replace(settings, analytics=analytics)
    with tempfile.TemporaryDirectory(prefix="thermonet-bench-") as name:
        folder = Path(name)
        print(f"generating {options.rows:,} measurements", file=sys.stderr)
        in_own_process(generate, folder, options.rows, 0, options.locations)
        floor_seconds, _ = in_own_process(measure_floor, folder)
        runs, peak_rss_mb = in_own_process(
            measure_hours, folder, options.rows, options.hours, options.locations, settings
        )
    figures = figures_of(runs, options.rows, floor_seconds, peak_rss_mb)
    show(runs, figures)
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
