"""Writes every reading and its answer to a CSV file, in the order in which the readings were sent."""

import csv
import heapq
from pathlib import Path
from typing import Self

from simulator.messages import Exchange

COLUMNS = ("sensor_id", "location_id", "value", "http_status", "status", "temperature", "timestamp")


class Dump:
    """An open CSV file; a row waits in memory until those sent before it are written.

    Its folder is made if need be. Not safe for use by several threads at once. Raises OSError when the file cannot be
    written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(COLUMNS)
        self._waiting: list[tuple[int, tuple[str, ...]]] = []
        self._next_number = 0

    def add(self, number: int, exchange: Exchange) -> None:
        """Add the exchange that was the `number`th to be sent, counted from 0 without gaps."""
        heapq.heappush(self._waiting, (number, _row(exchange)))
        while self._waiting and self._waiting[0][0] == self._next_number:
            self._writer.writerow(heapq.heappop(self._waiting)[1])
            self._next_number += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        with self._file:
            self._writer.writerows(row for _, row in sorted(self._waiting))


def _row(exchange: Exchange) -> tuple[str, ...]:
    sent, answer = exchange.delivery.fields, exchange.answer
    return (
        _cell(sent.get("sensor_id")),
        _cell(sent.get("location_id")),
        _cell(sent.get("value")),
        _cell(exchange.http_status),
        "" if answer is None else answer.status.value,
        "" if answer is None else _cell(answer.temperature),
        _cell(sent.get("timestamp")),
    )


def _cell(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
