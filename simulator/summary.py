"""The summary of a run: counts by status, error and fault, mismatches, speed, lateness and latencies."""

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from chalicelib.thermistor import Status
from simulator.checker import Mismatch, Verdict
from simulator.due_queue import LEFT_COUNT_MAX
from simulator.faults import PlannedReading
from simulator.messages import SUCCESS, Exchange

MISMATCHES_SHOWN = 5
# Less is not worth telling.
_LATE_SECONDS = 1.0
# A server that keeps up leaves nothing but a few readings of the last moment, if it hesitates just then.
NOT_SENT_SHARE_MAX = 0.01


class Progress(Struct, frozen=True):
    """The progress of a run, in seconds since its start and in readings."""

    elapsed_seconds: float
    sent: int
    broken: int
    failed: int
    mismatches: int
    late_seconds: float


class Summary(Struct, frozen=True, kw_only=True):
    """The result of a run; every sent reading is counted once, by its status, by its error, or as rightly rejected.

    `latency_seconds` has by percentage the time within which so many of the requests were answered or failed.
    """

    seed: int
    elapsed_seconds: float
    requests: int
    by_status: Mapping[Status, int]
    by_error: Mapping[str, int]
    error_examples: Mapping[str, str]
    rightly_rejected: int
    replayed: int
    by_fault: Mapping[str, int]
    mismatches: int
    mismatch_examples: Sequence[Mismatch]
    broken_before: int
    not_sent: int
    interrupted: bool
    late_seconds_max: float
    latency_seconds: Mapping[int, float]
    broken_sensors_by_location: Mapping[str, int]

    @property
    def broken(self) -> int:
        """Readings answered BROKEN."""
        return self.by_status.get(Status.BROKEN, 0)

    @property
    def accepted(self) -> int:
        """Readings answered with a temperature, and not only as they had been before."""
        return sum(self.by_status.values()) - self.broken - self.replayed

    @property
    def failed(self) -> int:
        """Readings that the server refused without reason or never answered."""
        return sum(self.by_error.values())

    @property
    def sent(self) -> int:
        """Readings sent, whatever came of them."""
        return sum(self.by_status.values()) + self.failed + self.rightly_rejected

    @property
    def due(self) -> int:
        """Readings that were due, sent or not."""
        return self.sent + self.not_sent

    @property
    def kept_up(self) -> bool:
        """Whether the server took what was due; when a run is interrupted, what was waiting just then says nothing."""
        return self.interrupted or self.not_sent <= NOT_SENT_SHARE_MAX * self.due

    @property
    def successful(self) -> bool:
        """Whether the plan was carried out and every answer is the expected one."""
        return self.kept_up and not self.failed and not self.mismatches

    @property
    def readings_per_second(self) -> float:
        """Readings sent per second of the run."""
        return self.sent / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0


class Tally:
    """Counts exchanges as they come. Not safe for use by several threads at once."""

    def __init__(self) -> None:
        self._by_status: Counter[Status] = Counter()
        self._by_error: Counter[str] = Counter()
        self._by_fault: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._rightly_rejected = 0
        self._replayed = 0
        self._mismatches = 0
        self._mismatch_examples: list[Mismatch] = []
        self._latencies = array("d")
        self._broken_sensors: set[tuple[str, str]] = set()
        self._sent = 0
        self._late_seconds_max = 0.0

    def add_request(self, latency_seconds: float) -> None:
        """Count a request that took so long."""
        self._latencies.append(latency_seconds)

    def add(self, exchange: Exchange, verdict: Verdict, late_seconds: float) -> None:
        """Count an exchange that began `late_seconds` after it was due."""
        planned = exchange.delivery.planned
        self._sent += 1
        self._late_seconds_max = max(self._late_seconds_max, late_seconds)
        self._by_fault.update(_faults_of(planned))
        if verdict.mismatch is not None:
            self._mismatches += 1
            if self._mismatches <= MISMATCHES_SHOWN:
                self._mismatch_examples.append(verdict.mismatch)
        if exchange.answer is not None:
            self._by_status[exchange.answer.status] += 1
            self._replayed += verdict.is_replay and exchange.answer.temperature is not None
            if exchange.answer.status is Status.BROKEN:
                self._broken_sensors.add((planned.location_id, planned.sensor_id))
        elif exchange.rejection is not None and planned.malformation is not None:
            self._rightly_rejected += 1
        else:
            kind = _error_kind(exchange)
            self._by_error[kind] += 1
            self._examples.setdefault(kind, exchange.rejection or exchange.error or "")

    def progress(self, elapsed_seconds: float, late_seconds: float) -> Progress:
        """Return how far the run has come, when what is due next is so late."""
        return Progress(
            elapsed_seconds=elapsed_seconds,
            sent=self._sent,
            broken=self._by_status[Status.BROKEN],
            failed=self._by_error.total(),
            mismatches=self._mismatches,
            late_seconds=late_seconds,
        )

    def summarize(
        self, seed: int, elapsed_seconds: float, not_sent: int, broken_before: int, *, interrupted: bool = False
    ) -> Summary:
        """Close the books of a run."""
        return Summary(
            seed=seed,
            elapsed_seconds=elapsed_seconds,
            requests=len(self._latencies),
            by_status=dict(self._by_status),
            by_error=dict(self._by_error),
            error_examples=dict(self._examples),
            rightly_rejected=self._rightly_rejected,
            replayed=self._replayed,
            by_fault=dict(self._by_fault),
            mismatches=self._mismatches,
            mismatch_examples=tuple(self._mismatch_examples),
            broken_before=broken_before,
            not_sent=not_sent,
            interrupted=interrupted,
            late_seconds_max=self._late_seconds_max,
            latency_seconds=measure_latency(self._latencies),
            broken_sensors_by_location=Counter(location for location, _ in self._broken_sensors),
        )


def measure_latency(latencies_seconds: Sequence[float]) -> dict[int, float]:
    """Compute the percentiles 50, 95 and 99 by nearest rank; none of nothing."""
    ordered = sorted(latencies_seconds)
    ranks = {percent: math.ceil(len(ordered) * percent / 100) for percent in (50, 95, 99)}
    return {percent: ordered[rank - 1] for percent, rank in ranks.items() if rank}


def format_summary(summary: Summary) -> str:
    """Write the summary for people, a line for each count."""
    return "\n".join(_lines(summary))


def counted(number: int, noun: str) -> str:
    """Write a number of things in English."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _lines(summary: Summary) -> Iterator[str]:
    speed = f"{summary.elapsed_seconds:.1f} s, {summary.readings_per_second:.1f} readings/s"
    sent = f"{counted(summary.sent, 'reading')} sent in {counted(summary.requests, 'request')}"
    yield f"{sent}, {speed} (seed {summary.seed})"
    for status in Status:
        yield f"  {status.value:<22}{summary.by_status.get(status, 0):>9}"
    if summary.rightly_rejected:
        yield f"  {'malformed, rejected':<22}{summary.rightly_rejected:>9}"
    for kind, count in sorted(summary.by_error.items()):
        yield f"  {kind:<22}{count:>9}   first: {summary.error_examples[kind]}"
    if summary.by_fault:
        faults = (f"{count} {fault}" for fault, count in sorted(summary.by_fault.items()))
        yield f"among them on purpose: {', '.join(faults)}"
    if summary.broken_before:
        sensors = counted(summary.broken_before, "sensor")
        yield f"BROKEN from the first reading on, so probably before this run: {sensors}"
    if summary.latency_seconds:
        latency = (f"p{percent} {seconds * 1000:.1f} ms" for percent, seconds in summary.latency_seconds.items())
        yield f"latency {', '.join(latency)}"
    if summary.late_seconds_max >= _LATE_SECONDS:
        yield f"more was due than the server took: readings went up to {summary.late_seconds_max:.1f} s late"
    if summary.not_sent and summary.kept_up:
        yield f"due, but not sent: {counted(summary.not_sent, 'reading')}"
    yield from _mismatch_lines(summary)
    if not summary.kept_up:
        least = "at least " if summary.not_sent == LEFT_COUNT_MAX else ""
        yield (
            f"THE SERVER DID NOT KEEP UP: {least}{summary.not_sent} of {least}{summary.due} due readings not sent;"
            " larger batches or longer delays ask less of it"
        )


def _mismatch_lines(summary: Summary) -> Iterator[str]:
    if not summary.mismatches:
        came = "" if summary.kept_up else " that came"
        yield f"every answer{came} is the expected one" if not summary.failed else "no answer is a wrong one"
        return
    yield f"NOT AS EXPECTED: {counted(summary.mismatches, 'ANSWER').upper()}, first:"
    for mismatch in summary.mismatch_examples:
        yield f"  sent     {mismatch.sent}"
        yield f"  expected {mismatch.expected}"
        yield f"  answered {mismatch.answered}"


def _faults_of(planned: PlannedReading) -> Iterator[str]:
    if planned.is_repeat:
        yield "duplicate"
        return
    if planned.malformation is not None:
        yield "malformed"
    if planned.backdated_us:
        yield "late"
    if planned.is_held_back:
        yield "out of order"


def _error_kind(exchange: Exchange) -> str:
    if exchange.http_status is None:
        return "connection error"
    if exchange.http_status not in SUCCESS:
        return f"HTTP {exchange.http_status}"
    return "unreadable answer" if exchange.rejection is None else "rejected"
