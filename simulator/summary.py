"""What came of a run: counts by status and by error, speed, lateness and latencies."""

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from chalicelib.thermistor import Status
from simulator.client import SUCCESS, Exchange
from simulator.due_queue import LEFT_COUNT_MAX

CONNECTION_ERROR = "connection error"
UNREADABLE_ANSWER = "unreadable answer"
# Less is not worth telling.
_LATE_SECONDS = 1.0


class Progress(Struct, frozen=True):
    """How far a run has come, in seconds since its start and in readings."""

    elapsed_seconds: float
    sent: int
    broken: int
    failed: int
    late_seconds: float


class Latency(Struct, frozen=True):
    """Seconds within which half, 95 % and 99 % of the requests were answered or failed."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float


class Summary(Struct, frozen=True, kw_only=True):
    """The result of a run; every sent reading is counted once, by its status or by its error."""

    seed: int
    elapsed_seconds: float
    by_status: Mapping[Status, int]
    by_error: Mapping[str, int]
    error_examples: Mapping[str, str]
    not_sent: int
    late_seconds_max: float
    latency: Latency | None
    broken_sensors_by_location: Mapping[str, int]

    @property
    def broken(self) -> int:
        """Readings answered BROKEN."""
        return self.by_status.get(Status.BROKEN, 0)

    @property
    def accepted(self) -> int:
        """Readings answered with a temperature."""
        return sum(self.by_status.values()) - self.broken

    @property
    def failed(self) -> int:
        """Readings that the server refused or never answered."""
        return sum(self.by_error.values())

    @property
    def sent(self) -> int:
        """Readings sent, whatever came of them."""
        return self.accepted + self.broken + self.failed

    @property
    def requests_per_second(self) -> float:
        """Readings sent per second of the run."""
        return self.sent / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0


class Tally:
    """Counts exchanges as they come. Not safe for use by several threads at once."""

    def __init__(self) -> None:
        self._by_status: Counter[Status] = Counter()
        self._by_error: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._latencies = array("d")
        self._broken_sensors: set[tuple[str, str]] = set()
        self._late_seconds = 0.0
        self._late_seconds_max = 0.0

    def add(self, exchange: Exchange, latency_seconds: float, late_seconds: float) -> None:
        """Count an exchange that took `latency_seconds` and began `late_seconds` after it was due."""
        self._latencies.append(latency_seconds)
        self._late_seconds = late_seconds
        self._late_seconds_max = max(self._late_seconds_max, late_seconds)
        if exchange.answer is None:
            kind = _error_kind(exchange)
            self._by_error[kind] += 1
            self._examples.setdefault(kind, exchange.error or "")
            return
        self._by_status[exchange.answer.status] += 1
        if exchange.answer.status is Status.BROKEN:
            self._broken_sensors.add((exchange.reading.location_id, exchange.reading.sensor_id))

    def progress(self, elapsed_seconds: float) -> Progress:
        """Tell how far the run has come."""
        return Progress(
            elapsed_seconds=elapsed_seconds,
            sent=len(self._latencies),
            broken=self._by_status[Status.BROKEN],
            failed=self._by_error.total(),
            late_seconds=self._late_seconds,
        )

    def summarize(self, seed: int, elapsed_seconds: float, not_sent: int) -> Summary:
        """Close the books of a run."""
        return Summary(
            seed=seed,
            elapsed_seconds=elapsed_seconds,
            by_status=dict(self._by_status),
            by_error=dict(self._by_error),
            error_examples=dict(self._examples),
            not_sent=not_sent,
            late_seconds_max=self._late_seconds_max,
            latency=measure_latency(self._latencies),
            broken_sensors_by_location=Counter(location for location, _ in self._broken_sensors),
        )


def measure_latency(latencies_seconds: Sequence[float]) -> Latency | None:
    """Compute the percentiles by nearest rank; None of nothing."""
    if not latencies_seconds:
        return None
    ordered = sorted(latencies_seconds)
    p50, p95, p99 = (ordered[math.ceil(len(ordered) * percent / 100) - 1] for percent in (50, 95, 99))
    return Latency(p50, p95, p99)


def format_summary(summary: Summary) -> str:
    """Write the summary for people, a line for each count."""
    return "\n".join(_lines(summary))


def _lines(summary: Summary) -> Iterator[str]:
    speed = f"{summary.elapsed_seconds:.1f} s, {summary.requests_per_second:.1f} requests/s"
    yield f"{summary.sent} readings sent in {speed} (seed {summary.seed})"
    for status in Status:
        yield f"  {status.value:<22}{summary.by_status.get(status, 0):>9}"
    for kind, count in sorted(summary.by_error.items()):
        yield f"  {kind:<22}{count:>9}   first: {summary.error_examples[kind]}"
    if summary.latency is not None:
        yield f"latency {_format_latency(summary.latency)}"
    if summary.late_seconds_max >= _LATE_SECONDS:
        yield f"more was due than the server took: readings went up to {summary.late_seconds_max:.1f} s late"
    if summary.not_sent:
        least = "at least " if summary.not_sent == LEFT_COUNT_MAX else ""
        yield f"{least}{summary.not_sent} due readings were not sent"


def _format_latency(latency: Latency) -> str:
    parts = (("p50", latency.p50_seconds), ("p95", latency.p95_seconds), ("p99", latency.p99_seconds))
    return ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in parts)


def _error_kind(exchange: Exchange) -> str:
    if exchange.http_status is None:
        return CONNECTION_ERROR
    return UNREADABLE_ANSWER if exchange.http_status in SUCCESS else f"HTTP {exchange.http_status}"
