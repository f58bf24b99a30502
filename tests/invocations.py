"""Invocations that fall asleep in the middle, are given up by who waits for them, and go on later."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any


class ProcessDiedError(BaseException):
    """The process is gone; no handler of it may run, hence no Exception."""


class GivenUpError(Exception):
    """Who waited for an answer has stopped to, while the invocation goes on."""


class Invocation:
    """A function in a thread of its own, which runs while its caller waits, and never beside it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        # What the thread tells its caller: the outcome as a function that returns or raises it, None when it sleeps.
        self._told: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        # Whether it may go on, or is to die.
        self._woken: SimpleQueue[bool] = SimpleQueue()
        self._thread = Thread(target=self._run, daemon=True)

    def play(self) -> Any:
        """Return what the function returns, or raise what it raises, or GivenUpError when it falls asleep."""
        self._thread.start()
        outcome = self._told.get()
        if outcome is None:
            raise GivenUpError
        return outcome()

    def sleep(self) -> None:
        """Give control back to the caller; for the function, in whatever thread it is."""
        self._told.put(None)
        if not self._woken.get():
            raise ProcessDiedError("asleep until the end")

    def wake(self) -> None:
        """Let a sleeping one go on to its end, of which nobody hears."""
        self._end(lives=True)

    def bury(self) -> None:
        """Let a sleeping one end without another deed."""
        self._end(lives=False)

    def _end(self, *, lives: bool) -> None:
        self._woken.put(lives)
        self._told.get()
        self._thread.join()

    def _run(self) -> None:
        try:
            result = self._function()
        except BaseException as error:
            self._told.put(lambda error=error: _throw(error))
        else:
            self._told.put(lambda: result)


def _throw(error: BaseException) -> None:
    raise error
