"""The time that a run goes by, and the sensors' own."""

import math
import threading
import time
from datetime import UTC, datetime, timedelta

from chalicelib.fields import format_time
from simulator.config import TimerConfig


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


class DeviceClock:
    """The sensors' own time: `time_scale` times as fast as the clock, and level with it at the end."""

    def __init__(self, started_at: datetime, timer: TimerConfig) -> None:
        self._time_scale = timer.time_scale
        self._started_at = started_at - timedelta(seconds=timer.total_runtime_seconds * (timer.time_scale - 1))

    def time(self, measured_us: int, backdated_us: int = 0) -> datetime:
        """Tell the sensors' time `measured_us` of the clock after the start, less `backdated_us` of their own."""
        return self._started_at + timedelta(microseconds=int(measured_us * self._time_scale) - backdated_us)

    def timestamp(self, measured_us: int, backdated_us: int = 0) -> str:
        """Write that time, cut to the millisecond."""
        return format_time(self.time(measured_us, backdated_us))
