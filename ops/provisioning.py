"""Provisions the sensors of a CSV file, and tells what has become of every row; it is safe to repeat."""

import csv
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from enum import StrEnum
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any, TextIO

from msgspec import Struct, structs
from rich.console import Console

from chalicelib.calibration import Thermistors
from chalicelib.errors import ValidationError
from chalicelib.ingest.provisioning import SENSORS_MAX
from chalicelib.settings import load_settings
from ops.progress import progress_bar
from ops.sensor_file import Row, name_column, read_rows
from ops.sensors_client import ApiError, Result, SensorsApi
from ops.signals import Interruption, signals_handled

# Groups are of one location, which a file may scatter; what is kept in memory has a bound nevertheless.
_WINDOW_ROWS = 10_000
_REQUESTS_AT_ONCE = 4

# Posts sensors of a location; raises ApiError when no other would fare better.
Provision = Callable[[str, Sequence[dict[str, Any]]], list[Result]]


class Fate(StrEnum):
    """What has become of a row."""

    PROVISIONED = "provisioned"
    FAILED = "failed"
    NOT_SENT = "not sent"


class Outcome(Struct, frozen=True):
    """A row of the file and its fate; a provisioned sensor may be broken, which is for good."""

    row: int
    location_id: str
    sensor_id: str
    fate: Fate
    broken: bool = False
    reason: str = ""


class Provisioning:
    """Provisions rows in groups, several at once, until `stop` is set; `ended_by` is the error that has set it."""

    def __init__(self, provision: Provision, stop: Event) -> None:
        self._provision = provision
        self._stop = stop
        self.ended_by: ApiError | None = None

    def run(self, rows: Iterator[Row], tell: Callable[[Sequence[Outcome]], object]) -> Iterator[Outcome]:
        """Tell outcomes as soon as they are known, and give them in the order of the rows some time later."""
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            while not self._stop.is_set() and (window := list(islice(rows, _WINDOW_ROWS))):
                known = [_outcome(row, Fate.FAILED, "; ".join(row.problems)) for row in window if row.problems]
                tell(known)
                for future in as_completed([pool.submit(self._send, group) for group in _groups(window)]):
                    tell(future.result())
                    known += future.result()
                yield from sorted(known, key=lambda outcome: outcome.row)

    def _send(self, group: Sequence[Row]) -> list[Outcome]:
        if self._stop.is_set():
            return [_outcome(row, Fate.NOT_SENT) for row in group]
        given = [{"sensor_id": row.sensor_id, "thermistor": row.thermistor} for row in group]
        try:
            results = self._provision(group[0].location_id, given)
        except ApiError as error:
            if not self._stop.is_set():
                self.ended_by = error
                self._stop.set()
            return [_outcome(row, Fate.NOT_SENT, str(error)) for row in group]
        return [_judge(*pair) for pair in zip(group, results, strict=True)]


def _groups(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    """Put rows without problems together by location, as many as a request takes."""
    by_location: dict[str, list[Row]] = {}
    for row in rows:
        if not row.problems:
            by_location.setdefault(row.location_id, []).append(row)
    for group in by_location.values():
        for start in range(0, len(group), SENSORS_MAX):
            yield group[start : start + SENSORS_MAX]


def _judge(row: Row, result: Result) -> Outcome:
    if result.error is not None:
        return _outcome(row, Fate.FAILED, name_column(result.error))
    return structs.replace(_outcome(row, Fate.PROVISIONED), broken=result.broken)


def _outcome(row: Row, fate: Fate, reason: str = "") -> Outcome:
    return Outcome(row.number, row.location_id, row.sensor_id, fate, reason=reason)


class Summary:
    """Counts rows by their fate, shows how far they are, and prints a line for each that failed."""

    def __init__(self, console: Console, show: Callable[[int, str], None]) -> None:
        self._console = console
        self._show = show
        self._fates: Counter[Fate] = Counter()
        self._broken = 0

    @property
    def failed(self) -> int:
        """The rows that failed."""
        return self._fates[Fate.FAILED]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Take in some outcomes."""
        for outcome in outcomes:
            self._fates[outcome.fate] += 1
            self._broken += outcome.broken
            if outcome.fate is Fate.FAILED:
                text = f"row {outcome.row}: {outcome.reason}"
                self._console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)
        self._show(self._fates.total(), str(self))

    def __str__(self) -> str:
        return f"{self._fates[Fate.PROVISIONED]} provisioned, {self.failed} failed"

    def describe(self, *, is_complete: bool) -> str:
        """Describe the whole in a few lines."""
        lines = [str(self) if is_complete else f"{self}, the rest not sent: the same command goes on"]
        if self._broken:
            lines.append(f"{self._broken} of them have been broken before, which is for good")
        return "\n".join(lines)


def provision_file(path: Path, url: str, token: str, stage: str, results: Path) -> int:
    """Provision the sensors of a file over the API, with the thermistor types of the stage, and print a summary.

    Writes the outcome of each row as CSV to `results`. Returns the exit code: 0 when every sensor was provisioned,
    1 when any was not, 128 + signal when interrupted.
    Raises ValidationError for a file without a header, a wrong URL or token, ApiError when the API takes nothing more,
    OSError when a file cannot be read or written.
    """
    if results.resolve() == path.resolve():
        raise ValidationError("results: must be another file than the one that is read")
    thermistors = Thermistors(load_settings(stage).thermistors)
    interruption = Interruption()
    provisioning = Provisioning(SensorsApi(url, token, interruption.stop.wait).provision, interruption.stop)
    console = Console(stderr=True)
    with (
        signals_handled((signal.SIGINT, signal.SIGTERM), interruption.request),
        path.open(encoding="utf-8-sig", errors="replace") as file,
        progress_bar(console, _count_rows(file)) as show,
    ):
        summary = Summary(console, show)
        outcomes = provisioning.run(read_rows(file, thermistors), summary.tell)
        with results.open("w", newline="", encoding="utf-8") as written:
            writer = csv.writer(written, lineterminator="\n")
            writer.writerow(Outcome.__struct_fields__)
            writer.writerows(map(structs.astuple, outcomes))
    print(summary.describe(is_complete=not interruption.stop.is_set()), flush=True)
    if provisioning.ended_by is not None:
        raise provisioning.ended_by
    if interruption.signal_number is not None:
        return 128 + interruption.signal_number
    return 1 if summary.failed else 0


def _count_rows(file: TextIO) -> int | None:
    """Count the lines below the header of a file, which is then at its beginning; None for a pipe."""
    if not file.seekable():
        return None
    lines = sum(1 for _ in file)
    file.seek(0)
    return lines - 1
