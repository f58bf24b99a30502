"""Measures what the read routes cost through the real app: own CPU of a fresh answer and of a 304, and AWS calls.

`python benchmarks/reads.py [--json]`: AWS is in memory and answers at once, so what is measured is Chalice and
Thermonet, without botocore. A report has a day of minutes; the run knows of 1,000 locations. Medians of CPU time.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.ingest import Bench, Item
from chalicelib.api.access import ALL_LOCATIONS, Access, Scope
from chalicelib.fields import format_time
from chalicelib.ledger import NO_MANIFEST, Counts, manifest_key, report_key, run_folder
from chalicelib.reports import (
    LocationLatest,
    LocationsSummary,
    Minute,
    Report,
    locations_summary_key,
)
from chalicelib.settings import load_settings

REQUESTS = 2_000
LOCATIONS = 1_000
MINUTES = 1_440
RUN_ID = "000000000012-0123456789abcdef"
TRY = "fedcba9876543210"
START = datetime(2026, 3, 1, tzinfo=UTC)
TIME = format_time(START)


class Route(NamedTuple):
    """A request, with a token for some locations or all."""

    path: str
    parameters: dict[str, str] | None = None
    query: dict[str, list[str]] | None = None
    locations: str = ALL_LOCATIONS


REPORT_PATH, ONE = "/locations/{location_id}/report", {"location_id": "location-0"}
ROUTES = {
    "sensor": Route("/locations/{location_id}/sensors/{sensor_id}", {"location_id": "a", "sensor_id": "known"}),
    "locations": Route("/locations"),
    "locations, one allowed": Route("/locations", locations="location-0"),
    "report": Route(REPORT_PATH, ONE),
    "report since": Route(REPORT_PATH, ONE, {"since": ["2026-03-01T23:00:00Z"]}),
    "latest run": Route("/runs/latest"),
}


class InstantAws:
    """DynamoDB and S3 that know one sensor and one run, and count calls."""

    exceptions = SimpleNamespace(NoSuchKey=KeyError)

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._objects = {key: msgspec.json.encode(value) for key, value in _written_by_a_run().items()}

    def get_item(self, **_: Any) -> Item:
        self.calls.append("dynamodb:GetItem")
        return {"Item": {"run_id": {"S": RUN_ID}, "broken": {"BOOL": False}}}

    def get_object(self, **request: Any) -> Item:
        self.calls.append("s3:GetObject")
        content = self._objects[request["Key"]]
        return {"Body": SimpleNamespace(read=lambda: content)}


def _written_by_a_run() -> dict[str, Any]:
    names = [f"location-{number}" for number in range(LOCATIONS)]
    minutes = [
        Minute(format_time(START + timedelta(minutes=n)), 40, 21.123456, 20.5, 22.25, 21.0123) for n in range(MINUTES)
    ]
    counts = Counts(measurements=1_000_000)
    folder = run_folder(RUN_ID)
    manifest = msgspec.structs.replace(
        NO_MANIFEST,
        run_id=RUN_ID,
        reports={name: report_key(folder, name, TRY) for name in names},
        locations_summary_key=locations_summary_key(folder, TRY),
        counts=counts,
        totals=counts,
        status_below_celsius=load_settings("dev").status_below_celsius,
    )
    return {
        manifest_key(folder): manifest,
        manifest.reports[names[0]]: Report(names[0], RUN_ID, TIME, 5, 25, 1_440 * 40, 0, 0, 0, minutes),
        manifest.locations_summary_key: LocationsSummary([LocationLatest(name, TIME, 21.0123) for name in names]),
    }


class ReadBench(Bench):
    """The app on an instant AWS that has a run to read."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = InstantAws()
        self.run_on(self.stored, s3_online=self.stored)

    def get(self, route: str, *, known: bool) -> dict[str, Any]:
        """Return API Gateway's event of a GET, of a reader who has the run already if it is `known`."""
        asked = ROUTES[route]
        access = Access("benchmark", time.time() + 86_400, frozenset(Scope), frozenset({asked.locations}))
        event = {
            **self.event(None),
            "headers": {"if-none-match": f'"{RUN_ID}"'} if known else {},
            "multiValueHeaders": {},
            "multiValueQueryStringParameters": asked.query,
            "pathParameters": asked.parameters,
            "body": None,
        }
        event["requestContext"] = {
            "httpMethod": "GET",
            "resourcePath": asked.path,
            "path": asked.path,
            "authorizer": {**access.to_context(), "principalId": "benchmark"},
        }
        return event


def measure(bench: ReadBench, route: str, *, known: bool) -> dict[str, Any]:
    """Return the median of own CPU in microseconds, and status, bytes and AWS calls of an answer."""
    event = bench.get(route, known=known)
    answer = bench.answer(event, expected=HTTPStatus.NOT_MODIFIED if known else HTTPStatus.OK)
    cpu_ns = []
    for _ in range(REQUESTS):
        bench.stored.calls.clear()
        started_ns = time.process_time_ns()
        bench.answer(event, expected=answer["statusCode"])
        cpu_ns.append(time.process_time_ns() - started_ns)
    return {
        "own_cpu_us_p50": statistics.median(cpu_ns) / 1_000,
        "own_cpu_us_p99": statistics.quantiles(cpu_ns, n=100)[98] / 1_000,
        "bytes": len(answer["body"]),
        "aws_calls": bench.stored.calls.copy(),
    }


def measure_routes() -> dict[str, dict[str, Any]]:
    """Measure every route, and again for a reader who has its answer already."""
    bench = ReadBench()
    asked = [(route, known) for route in ROUTES for known in (False, True) if not (known and route == "sensor")]
    return {f"{route}{', known' * known}": measure(bench, route, known=known) for route, known in asked}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        figures = measure_routes()
    print(f"{'route':30} {'p50 µs':>8} {'p99 µs':>8} {'bytes':>8}  AWS calls")
    for name, one in figures.items():
        calls = ", ".join(one["aws_calls"])
        print(f"{name:30} {one['own_cpu_us_p50']:8.0f} {one['own_cpu_us_p99']:8.0f} {one['bytes']:8}  {calls}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
