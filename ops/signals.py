"""Handles the signals that ask a command to end, so that it cleans up behind itself."""

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from threading import Event
from types import FrameType


class Interruption:
    """Remembers the signal that asked for the end; `stop` is set from then on."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.stop = Event()

    def request(self, signal_number: int, _frame: FrameType | None) -> None:
        """Ask for the end; the next signal of the same kind ends the process at once."""
        signal.signal(signal_number, signal.SIG_DFL)
        self.signal_number = signal_number
        # The thread that a signal interrupts must not be one that waits for this, or that sets it otherwise.
        self.stop.set()


@contextlib.contextmanager
def signals_handled(
    signals: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Let a function handle the signals for a while, even where a shell had SIGINT ignored."""
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def signals_as_interrupt() -> contextlib.AbstractContextManager[None]:
    """Make every signal that asks to end look like Ctrl-C."""
    return signals_handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
