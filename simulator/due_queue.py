"""Hands out readings to workers as they fall due, in order, and at most one per sensor at a time."""

import heapq
import itertools
import math
import threading
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from simulator.clock import Stopwatch
from simulator.faults import PlannedReading

# Readings that were due before the end are still sent for this long, so that a server that keeps up gets all.
GRACE_US = 1_000_000
# A batch that does not fill goes this long after its first reading was taken.
PATIENCE_US = 1_000_000
# Counting what a much too slow server left unsent stops here.
LEFT_COUNT_MAX = 1_000_000


class Turn(Struct, frozen=True):
    """A reading to send now: the how-manieth of the run it is, and by how many microseconds it is late."""

    number: int
    reading: PlannedReading
    late_us: int
    rank: int


class DueQueue:
    """One entry per sensor, its next reading; a sensor comes back when its reading has been answered.

    So memory does not grow when the server is slow: readings just go late.
    """

    def __init__(
        self,
        fleet: Iterable[Iterator[PlannedReading]],
        end_us: int,
        stopwatch: Stopwatch,
        grace_us: int = GRACE_US,
    ) -> None:
        self._plans = list(fleet)
        self._end_us = end_us
        self._grace_us = grace_us
        self._stopwatch = stopwatch
        self._due: list[tuple[int, int, PlannedReading]] = []
        self._underway = 0
        self._handed_out = 0
        self._closed = False
        self._changed = threading.Condition()
        # Only one worker waits for the next reading; the others wait for that worker, not for the clock.
        self._turn = threading.Lock()
        for rank in range(len(self._plans)):
            self._enqueue_next(rank)

    def take(self, count: int) -> list[Turn]:
        """Wait for `count` due readings, of as many sensors; fewer if no more come soon, none when the run is over.

        Nothing new is waited for once the queue is closed.
        """
        turns: list[Turn] = []
        patient_until_us = math.inf
        with self._turn, self._changed:
            while len(turns) < count and not self._is_over(own=len(turns)):
                now_us = self._stopwatch.elapsed_us()
                next_us = self._due[0][0] if self._due else math.inf
                if next_us <= now_us:
                    patient_until_us = min(patient_until_us, now_us + PATIENCE_US)
                    turns.append(self._hand_out(late_us=now_us - self._due[0][0]))
                elif patient_until_us <= now_us:
                    break
                else:
                    until_us = min(next_us, patient_until_us)
                    self._stopwatch.wait(self._changed, until_us, others_at_work=self._underway > len(turns))
        return turns

    def finish(self, turns: Sequence[Turn]) -> None:
        """Let the turns' sensors go on to their next readings."""
        with self._changed:
            self._underway -= len(turns)
            for turn in turns:
                self._enqueue_next(turn.rank)
            self._changed.notify()

    def close(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def overdue_us(self) -> int:
        """Tell for how many microseconds the first of the waiting readings has been due; 0 when none is."""
        with self._changed:
            return max(0, self._stopwatch.elapsed_us() - self._due[0][0]) if self._due else 0

    def count_left(self) -> int:
        """Count the readings due by now or by the end of the run that were not handed out.

        To be called when the queue is over, as it uses up the plans; counts at most LEFT_COUNT_MAX.
        """
        until_us = min(self._stopwatch.elapsed_us(), self._end_us)
        waiting = [(reading, self._plans[rank]) for _, rank, reading in self._due]
        left = itertools.chain.from_iterable(
            itertools.takewhile(lambda reading: reading.due_us <= until_us, itertools.chain([first], rest))
            for first, rest in waiting
        )
        return sum(1 for _ in itertools.islice(left, LEFT_COUNT_MAX))

    def _is_over(self, own: int) -> bool:
        nothing_to_come = not self._due and self._underway == own
        return self._closed or nothing_to_come or self._stopwatch.elapsed_us() > self._end_us + self._grace_us

    def _hand_out(self, late_us: int) -> Turn:
        _, rank, reading = heapq.heappop(self._due)
        self._underway += 1
        self._handed_out += 1
        return Turn(number=self._handed_out - 1, reading=reading, late_us=late_us, rank=rank)

    def _enqueue_next(self, rank: int) -> None:
        reading = next(self._plans[rank], None)
        if reading is not None:
            heapq.heappush(self._due, (reading.due_us, rank, reading))
