"""Measures what taking readings costs through the real app: own CPU, AWS calls, bytes, and the time of the import.

`python benchmarks/ingest.py [--json] [--rounds N]`: AWS is in memory and answers at once, so what is measured is
Chalice, Powertools and Thermonet, without botocore. Every sensor is known, the steady state. The time is CPU time, the
least of several rounds, since whatever else the machine does only ever adds to it.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))
os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "INFO")

from chalicelib.api.access import ALL_LOCATIONS, Access, Scope
from chalicelib.aws import Resources
from tests.fakes import ConditionalCheckFailedException, TransactionCanceledException

ROUNDS_DEFAULT = 7
SENSORS = 1_000
READINGS_PER_ROUND = 2_000
LAMBDA_TIMEOUT_MS = 20_000

Item = dict[str, Any]


class InstantAws:
    """DynamoDB, SQS and SNS that do the least that is right, and count calls and bytes."""

    exceptions = SimpleNamespace(
        ConditionalCheckFailedException=ConditionalCheckFailedException,
        TransactionCanceledException=TransactionCanceledException,
    )
    meta = SimpleNamespace(region_name="us-east-1")

    def __init__(self) -> None:
        self.calls = 0
        self.message_bytes: list[int] = []
        self.record_bytes: list[int] = []
        self._sensors: set[str] = set()

    def put_item(self, **_: Any) -> Item:
        self.calls += 1
        return {}

    def transact_write_items(self, *, TransactItems: list[Item]) -> Item:  # noqa: N803 - the name at AWS
        self.calls += 1
        self._sensors.update(part["Put"]["Item"]["sensor_id"]["S"] for part in TransactItems if "Put" in part)
        return {}

    def update_item(self, **request: Any) -> Item:
        self.calls += 1
        data = request["ExpressionAttributeValues"].get(":response_data", {"S": ""})
        self.record_bytes.append(len(data["S"]))
        return {}

    def get_item(self, **request: Any) -> Item:
        self.calls += 1
        known = request["Key"]["sensor_id"]["S"] in self._sensors
        return {"Item": {**request["Key"], "broken": {"BOOL": False}}} if known else {}

    def batch_get_item(self, **request: Any) -> Item:
        self.calls += 1
        ((table, asked),) = request["RequestItems"].items()
        known = [key for key in asked["Keys"] if key["sensor_id"]["S"] in self._sensors]
        found = [{**key, "broken": {"BOOL": False}} for key in known]
        return {"Responses": {table: found}, "UnprocessedKeys": {}}

    def send_message(self, **request: Any) -> Item:
        self.calls += 1
        self.message_bytes.append(len(request["MessageBody"]))
        return {}

    def publish_batch(self, **_: Any) -> Item:
        self.calls += 1
        return {"Failed": []}


class Bench:
    """The app on instant AWS."""

    def __init__(self) -> None:
        self.aws = InstantAws()
        self.run_on(self.aws, sqs=self.aws, sns=self.aws)
        self._numbers = itertools.count()
        self._started_at = datetime.now(UTC) - timedelta(hours=1)
        access = Access("benchmark", time.time() + 86_400, frozenset(Scope), frozenset({ALL_LOCATIONS}))
        self._authorizer = {**access.to_context(), "principalId": "benchmark"}
        self._context = SimpleNamespace(
            function_name="thermonet-dev",
            memory_limit_in_mb=512,
            invoked_function_arn="arn",
            aws_request_id="1",
            get_remaining_time_in_millis=lambda: LAMBDA_TIMEOUT_MS,
        )

    def run_on(self, dynamodb: Any, **clients: Any) -> None:
        """Let the app, as a process that has just started, use these clients."""
        import app  # noqa: PLC0415 - only after logging is redirected
        from chalicelib.services import Services  # noqa: PLC0415

        self._app = app.app
        resources = Resources(
            "registry", "idempotency", "ledger", "bucket", "queue", "dead-letters", "topic", "machine"
        )
        stand_in: Any = SimpleNamespace(resources=resources, dynamodb=dynamodb, stage="dev", ssm=None, **clients)
        app.services = Services(app.SETTINGS, stand_in)

    def reading(self) -> dict[str, Any]:
        """Return a reading of a sensor's own clock, like none before."""
        number = next(self._numbers)
        sensor = number % SENSORS
        timestamp = self._started_at + timedelta(microseconds=number * 997)
        return {
            "sensor_id": f"sensor-{sensor}",
            "location_id": f"location-{sensor % 8}",
            "value": 1_500.123 + number % 1_000 * 1.001,
            "timestamp": timestamp.isoformat().replace("+00:00", "Z"),
        }

    def event(self, size: int | None) -> dict[str, Any]:
        """Return API Gateway's event of one reading, or of a batch of them."""
        body = self.reading() if size is None else {"readings": [self.reading() for _ in range(size)]}
        return {
            "requestContext": {
                "httpMethod": "POST",
                "resourcePath": "/readings",
                "path": "/readings",
                "authorizer": self._authorizer,
            },
            "headers": {"content-type": "application/json"},
            "multiValueHeaders": {"content-type": ["application/json"]},
            "multiValueQueryStringParameters": None,
            "pathParameters": None,
            "stageVariables": None,
            "body": json.dumps(body),
            "isBase64Encoded": False,
        }

    def answer(self, event: dict[str, Any], expected: int = HTTPStatus.OK) -> dict[str, Any]:
        """Answer an event; raises AssertionError for anything but the expected status."""
        response: dict[str, Any] = self._app(event, self._context)
        assert response["statusCode"] == expected, response
        return response


def measure(bench: Bench, log: io.StringIO, size: int | None, rounds: int) -> dict[str, float]:
    """Return AWS calls, microseconds of CPU and bytes of request, answer and log, each per reading."""
    per_request = size or 1
    requests = max(READINGS_PER_ROUND // per_request, 1)
    for event in [bench.event(size) for _ in range(max(SENSORS // per_request, 1))]:
        bench.answer(event)
    aws = bench.aws
    aws.calls, aws.message_bytes, aws.record_bytes = 0, [], []
    logged_before = log.tell()
    cpu_us, answered, sent = [], 0, 0
    for _ in range(rounds):
        events = [bench.event(size) for _ in range(requests)]
        started_ns = time.process_time_ns()
        answers = [bench.answer(event) for event in events]
        cpu_us.append((time.process_time_ns() - started_ns) / 1_000 / requests / per_request)
        sent += sum(len(event["body"]) for event in events)
        answered += sum(len(answer["body"]) for answer in answers)
    readings = rounds * requests * per_request
    return {
        "aws_calls": aws.calls / readings,
        "own_cpu_us": min(cpu_us),
        "bytes": sent / readings,
        "answer_bytes": answered / readings,
        "message_bytes": sum(aws.message_bytes) / readings,
        "log_bytes_per_request": (log.tell() - logged_before) / (rounds * requests),
        "record_bytes_per_request": sum(aws.record_bytes) / (rounds * requests),
    }


def measure_import_ms(rounds: int) -> float:
    """Return the milliseconds that `import app` takes in a fresh interpreter, the least of several."""
    code = "import time; started = time.perf_counter(); import app; print((time.perf_counter() - started) * 1000)"

    def once() -> float:
        finished = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
        return float(finished.stdout)

    return min(once() for _ in range(rounds))


def measure_sizes(sizes: dict[str, int | None], rounds: int) -> dict[str, dict[str, float]]:
    """Measure single readings (None) and batches by size, with the log where nobody sees it."""
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        bench = Bench()
        return {name: measure(bench, log, size, rounds) for name, size in sizes.items()}


def arguments(description: str | None) -> argparse.Namespace:
    """Read the command line, which all benchmarks of the ingest share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--rounds", type=int, default=ROUNDS_DEFAULT, help="fewer are faster and less exact")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    figures: dict[str, Any] = measure_sizes({"single": None, "batch25": 25, "batch100": 100}, options.rounds)
    import_ms = measure_import_ms(options.rounds)
    print(f"{'per reading':12} {'AWS calls':>10} {'own CPU µs':>11} {'bytes sent':>11} {'answered':>9} {'queued':>7}")
    for name, one in figures.items():
        print(
            f"{name:12} {one['aws_calls']:10.3f} {one['own_cpu_us']:11.1f} {one['bytes']:11.0f}"
            f" {one['answer_bytes']:9.0f} {one['message_bytes']:7.0f}"
        )
    print(f"import app   {import_ms:.0f} ms")
    if options.json:
        print(json.dumps({**figures, "import_ms": import_ms}))


if __name__ == "__main__":
    main()
