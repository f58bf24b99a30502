"""An API with the dashboard's real files and answers that a test makes up, on a loopback port of its own."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import structs

from chalicelib.api import dashboard
from chalicelib.api.report_reader import RunOutline
from chalicelib.fields import format_time
from chalicelib.ledger import Counts
from chalicelib.reports import LocationLatest, Minute, Report, RunSummary
from tests.factories import SETTINGS

# As behind API Gateway, where the stage's name comes before every path.
STAGE_PATH = "/dev/"
_START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
LIMITS = structs.asdict(SETTINGS.status_below_celsius)
TOKEN = "head.claims.signature"
AVERAGES = {"cold": 12.0, "fine": 21.5, "warm": 140.25, "hot": 260.0}
# What API Gateway itself answers.
DENIED = (403, {"Message": "User is not authorized to access this resource"})
UNKNOWN_PATH = (403, {"message": "Missing Authentication Token"})
_PATHS = re.compile(r"runs/latest|locations(/[^/]+/report)?")


class StubApi:
    """What the API knows; changing it is a new run."""

    def __init__(self) -> None:
        self.run: dict[str, Any] | None = None
        self.locations: list[dict[str, Any]] = []
        self.reports: dict[str, dict[str, Any]] = {}
        # The only token that is let in.
        self.token = TOKEN
        self.failing = False
        # What is answered instead of a location's report.
        self.instead: dict[str, tuple[int, dict[str, str]]] = {}
        # What it says to anybody else.
        self.refusal: tuple[int, dict[str, str]] = DENIED
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []
        self.url = ""

    def commit(self, run_id: str, averages: dict[str, float]) -> None:
        """Let it know of a run with a report for each location."""
        counts = Counts(measurements=1200 * len(averages), duplicates=3, conflicts=1, late=2)
        started_at, last_minute = format_time(_START + timedelta(hours=1)), format_time(_START + timedelta(minutes=29))
        latest = [LocationLatest(name, last_minute, average) for name, average in averages.items()]
        self.locations = msgspec.to_builtins(latest)
        self.reports = {
            name: msgspec.to_builtins(Report(name, run_id, started_at, 5, 25, 1200, 3, 1, 2, _minutes(average)))
            for name, average in averages.items()
        }
        run = RunSummary(
            run_id=run_id,
            previous_run_id=None,
            execution="2026-03-01T10-00-00Z",
            started_at=started_at,
            locations=len(averages),
            counts=counts,
            totals=counts,
            quarantined=4,
            newly_broken_sensors=5,
            broken_sensors=17,
            latest_measurement=last_minute,
            status_below_celsius=SETTINGS.status_below_celsius,
        )
        self.run = msgspec.to_builtins(run)

    def limit_token(self, *locations: str) -> None:
        """Let the token be for these locations only: it is told no figures of a run."""
        assert self.run is not None
        self.run = {name: self.run[name] for name in RunOutline.__struct_fields__}
        self.locations = [one for one in self.locations if one["location_id"] in locations]

    def answer(self, path: str, authorization: str | None, known: str | None) -> tuple[int, Any, str]:
        """Return status, body and tag of a GET below the stage's path."""
        self.asked.append(path)
        self.authorizations.append(authorization)
        if self.failing:
            return 503, {"Code": "ServiceUnavailableError", "Message": "try again"}, ""
        if not _PATHS.fullmatch(path):
            return *UNKNOWN_PATH, ""
        if authorization != f"Bearer {self.token}":
            return *self.refusal, ""
        location = _location_of(path)
        if location in self.instead:
            return *self.instead[location], ""
        content = self._content(path)
        if content is None or self.run is None:
            return 404, {"Code": "NotFoundError", "Message": "not there"}, ""
        tag = f'"{self.run["run_id"]}"'
        return (304, None, tag) if known == tag else (200, content, tag)

    def _content(self, path: str) -> dict[str, Any] | None:
        if path == "runs/latest":
            return self.run
        if path == "locations":
            return {"locations": self.locations}
        return self.reports.get(_location_of(path))


def _location_of(path: str) -> str:
    return unquote(path.removeprefix("locations/").removesuffix("/report"))


def _minutes(average: float, count: int = 30) -> list[Minute]:
    return [
        Minute(
            timestamp=format_time(_START + timedelta(minutes=number)),
            count=40,
            mean=average + 3 * math.sin(number),
            min=average - 9,
            max=average + 9,
            moving_average=average + (count - 1 - number) / 10,
        )
        for number in range(count)
    ]


@contextmanager
def serve(api: StubApi) -> Iterator[StubApi]:
    """Serve the API until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            path = f"{path}/".removeprefix(STAGE_PATH).rstrip("/")
            if not path:
                page = dashboard.read_page()
                self._send(200, page.content.encode(), page.headers)
            elif path.startswith("assets/"):
                asset = dashboard.read_asset(path.removeprefix("assets/"), query.removeprefix("v="))
                self._send(200, asset.content.encode(), asset.headers)
            else:
                headers = self.headers
                status, body, tag = api.answer(path, headers.get("Authorization"), headers.get("If-None-Match"))
                content = b"" if body is None else json.dumps(body).encode()
                self._send(status, content, {"Content-Type": "application/json", "ETag": tag})

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}{STAGE_PATH}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
