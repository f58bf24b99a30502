"""The time that a run goes by."""

import math
import threading
import time
from datetime import UTC, datetime


class Clock:
    """The machine's time."""

    def now(self) -> datetime:
        """Tell the time of day, in UTC."""
        return datetime.now(UTC)

    def seconds(self) -> float:
        """Tell the seconds since some moment, which never go back."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, seconds: float | None, *, others_at_work: bool) -> None:
        """Wait until something has changed, or for so many seconds.

        While nobody else is at work nothing but `close` changes anything, so that another clock may go on at once.
        """
        del others_at_work
        changed.wait(seconds)


class Stopwatch:
    """Microseconds of a clock since the last restart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Start again from zero."""
        self._started_seconds = self._clock.seconds()

    def elapsed_us(self) -> int:
        """Tell the microseconds since the last restart."""
        return round((self._clock.seconds() - self._started_seconds) * 1e6)

    def wait(self, changed: threading.Condition, until_us: float, *, others_at_work: bool) -> None:
        """Wait until something has changed, or until so many microseconds since the last restart; infinity is none."""
        seconds = None if until_us == math.inf else (until_us - self.elapsed_us()) / 1e6
        self._clock.wait(changed, seconds, others_at_work=others_at_work)
