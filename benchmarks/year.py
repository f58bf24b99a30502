"""Plays hourly runs of a small fleet, one after the other, and compares a late run with an early one.

`python benchmarks/year.py --runs 8760 [--json]`: two locations of four sensors, a reading in five minutes; in every
hour a sensor's reading comes twice under two identities, and one is three days late. The whole workflow runs on a
bucket and a table in memory. What a run reads, writes and asks for must not grow with what is in the archive.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs

sys.path.insert(0, str(Path(__file__).parent.parent))

from chalicelib.landing import LandedMeasurement, encode_landing, landing_key
from chalicelib.object_store import ObjectStore
from chalicelib.settings import load_settings
from chalicelib.thermistor import Status
from tests.contracts import LEDGER_TABLE
from tests.fake_s3 import FakeS3
from tests.fakes import FakeDynamoDb
from tests.workflow_player import Process, WorkflowPlayer

FIRST_RUN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOCATIONS, SENSORS = ("north", "south"), range(4)
EARLY_RUN = 48
# A run's time is the median of those around it at the same hours of their days.
AROUND = 5


class Run(NamedTuple):
    """The CPU seconds, calls and bytes of a run."""

    cpu_seconds: float
    calls: int
    transferred_bytes: int


class CountingS3(FakeS3):
    """A bucket that counts calls and bytes, and whose listing takes no longer when it is full."""

    _PAGE = 1_000

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.transferred_bytes = 0
        self._keys: list[str] = []

    def get_object(self, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        answer = super().get_object(**arguments)
        self.transferred_bytes += len(answer["Body"].read())
        return answer

    def put_object(self, *, Key: str, **arguments: Any) -> None:  # noqa: N803 - boto3's
        self.calls += 1
        if Key not in self.objects:
            insort(self._keys, Key)
        super().put_object(Key=Key, **arguments)
        self.transferred_bytes += len(self.objects[Key])
        self.history.clear()

    def list_objects_v2(self, *, Prefix: str, StartAfter: str = "", **page: Any) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        after = page.get("ContinuationToken") or StartAfter
        start = max(bisect_left(self._keys, Prefix), bisect_right(self._keys, after))
        keys = self._keys[start : min(start + self._PAGE, bisect_left(self._keys, Prefix + "\U0010ffff"))]
        truncated = {"NextContinuationToken": keys[-1]} if len(keys) == self._PAGE else {}
        return {"Contents": [{"Key": key} for key in keys], "IsTruncated": bool(truncated), **truncated}

    def delete_objects(self, *, Delete: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        for entry in Delete["Objects"]:
            if self.objects.pop(entry["Key"], None) is not None:
                del self._keys[bisect_left(self._keys, entry["Key"])]
        return {}

    def expire(self, prefix: str) -> None:
        """Remove what a rule of the bucket would remove in time."""
        keys = [key for key in self._keys if key.startswith(prefix)]
        self.delete_objects(Delete={"Objects": [{"Key": key} for key in keys]})


class Player(WorkflowPlayer):
    """The workflow, with DuckDB's files in a folder that is given."""

    def __init__(self, settings: Any, store: ObjectStore, scratch: Path) -> None:
        super().__init__(settings, store, FakeDynamoDb({LEDGER_TABLE: "id"}))
        self._scratch = scratch

    def process(self) -> Process:
        return Process(self.settings, self.store, self.dynamodb, scratch=self._scratch)


def land(s3: CountingS3, number: int) -> int:
    """Land the hour before run `number`, and return how many measurements of it are to be counted."""
    began_at = FIRST_RUN + (number - 1) * HOUR
    times = [began_at + minutes * timedelta(minutes=5) for minutes in range(12)]
    current = [_measured(place, sensor, at) for at in times for sensor in SENSORS for place in LOCATIONS]
    again = structs.replace(current[0], delivery=number + 2**30)
    late = [_measured("north", 9, began_at - 3 * timedelta(days=1))]
    for rows, is_late in (([*current, again], False), (late, True)):
        content = encode_landing(rows)
        key = landing_key(began_at + HOUR, rows, content, is_late=is_late)
        s3.put_object(Bucket="", Key=key, Body=content)
    return len(current) + len(late)


def _measured(location: str, sensor: int, at: datetime) -> LandedMeasurement:
    hours = (at - FIRST_RUN) / HOUR
    return LandedMeasurement(
        sensor_id=str(sensor),
        location_id=location,
        temperature=20 + sensor + hours % 7,
        status=Status.OK,
        timestamp=at,
        value=round(2_000 + hours % 97, 1),
        queued_at_ms=int(at.timestamp() * 1_000) + 200,
        delivery=int(at.timestamp()) // 300,
        place=sensor,
    )


def play(runs: int, scratch: Path) -> list[Run]:
    """Play hourly runs; raises AssertionError when one fails or the books do not balance."""
    s3 = CountingS3()
    settings = load_settings("prod")
    player = Player(settings, ObjectStore("bucket", s3, connections=1), scratch)  # type: ignore[arg-type]
    played, expected = [], 0
    for number in range(1, runs + 1):
        expected += land(s3, number)
        s3.calls = s3.transferred_bytes = 0
        before = time.process_time()
        execution = player.run(f"hour-{number}", FIRST_RUN + number * HOUR)
        played.append(Run(time.process_time() - before, s3.calls, s3.transferred_bytes))
        if execution.status != "SUCCEEDED":
            raise AssertionError(f"run {number}: {execution.error}")
        s3.expire("scratch/")
        if number % 500 == 0:
            print(f"{number} runs", file=sys.stderr)
    totals = player.committed().totals
    if (totals.measurements, totals.duplicates) != (expected, runs):
        raise AssertionError(f"{totals} counted instead of {expected} measurements and {runs} duplicates")
    return played


def typical(runs: Sequence[Run], number: int) -> Run:
    """Return the medians of the runs around one."""
    around = runs[max(number - AROUND, 0) : number + AROUND]
    return Run(*(statistics.median(figures) for figures in zip(*around, strict=True)))


def main() -> None:
    """Play, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=240, help=f"hourly runs, more than {EARLY_RUN}")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thermonet-bench-") as name:
        runs = play(options.runs, Path(name))
    early, late = typical(runs, EARLY_RUN), typical(runs, options.runs)
    ratios = {field: getattr(late, field) / getattr(early, field) for field in Run._fields}
    for number, run in ((EARLY_RUN, early), (options.runs, late)):
        print(
            f"run {number:5}: {1_000 * run.cpu_seconds:6.1f} ms of CPU, {run.calls:3.0f} calls to S3,"
            f" {run.transferred_bytes:7,.0f} bytes"
        )
    print("ratio    : " + ", ".join(f"{ratio:.3f} {field}" for field, ratio in ratios.items()))
    if options.json:
        print(json.dumps({"runs": options.runs, "ratios": ratios}))


if __name__ == "__main__":
    main()
