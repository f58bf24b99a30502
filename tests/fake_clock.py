"""A clock for simulators that does not keep anybody waiting."""

import threading
from datetime import UTC, datetime, timedelta

from simulator.clock import Clock


class FakeClock(Clock):
    """Stands still while anybody is at work, and jumps to the time that everybody waits for."""

    def __init__(self, started_at: datetime | None = None) -> None:
        self._started_at = started_at or datetime.now(UTC)
        self._seconds = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return self._started_at + timedelta(seconds=self._seconds)

    def seconds(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Let time pass, as work does that takes long."""
        with self._lock:
            self._seconds += seconds

    def wait(self, changed: threading.Condition, seconds: float | None, *, others_at_work: bool) -> None:
        if others_at_work:
            # Not for good, since time may pass without a change.
            changed.wait(0.005)
        else:
            self.advance(max(seconds, 0.0))
