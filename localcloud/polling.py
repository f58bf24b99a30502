"""Asks again and again, for a while, for what comes about elsewhere."""

import random
import time
from collections.abc import Iterator

_POLL_SECONDS = 0.1


def polls(seconds: float) -> Iterator[None]:
    """Yield at once, and then every now and then until so many seconds are over."""
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() < deadline:
        # At random, so that whoever waits for the same does not ask in step.
        time.sleep(random.uniform(0, 2 * _POLL_SECONDS))
        yield
