"""The command `run`: sensors against a URL, with progress, summary, and a clean end on a signal."""

import contextlib
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console

from chalicelib.settings import load_settings
from simulator.config import load_config
from simulator.fleet import simulate
from simulator.progress import show_progress
from simulator.summary import format_summary

_SEEDS = 2**32


class Interruption:
    """Remembers the signal that asked for the end."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def request(self, signal_number: int, _frame: FrameType | None) -> None:
        """Ask for the end; the next signal of the same kind ends the process at once."""
        # Only a flag is set, since locks taken in a signal handler may be held by the very thread it runs in.
        self.signal_number = signal_number
        signal.signal(signal_number, signal.SIG_DFL)

    def is_requested(self) -> bool:
        """Tell whether the end was asked for."""
        return self.signal_number is not None


def run_sensors(stage: str, config_path: Path, url: str, seed: int | None, dump: Path | None, token: str | None) -> int:
    """Run the sensors against an API with the stage's settings and print the summary.

    Returns the exit code: 0 when every reading was answered as it should be, 1 when any was not, 128 + signal when
    interrupted.
    Raises ValidationError for a wrong configuration, URL or token, OSError when the dump cannot be written.
    """
    config = load_config(config_path)
    thermistor = load_settings(stage).thermistor
    chosen_seed = random.randrange(_SEEDS) if seed is None else seed
    runtime_seconds = config.timer.total_runtime_seconds
    with _interruption() as interruption:
        with show_progress(runtime_seconds, Console(stderr=True)) as update:
            summary = simulate(
                config,
                url,
                thermistor,
                seed=chosen_seed,
                dump=dump,
                token=token,
                should_stop=interruption.is_requested,
                on_progress=update,
            )
        print(format_summary(summary), flush=True)
        if interruption.signal_number is not None:
            return 128 + interruption.signal_number
    return 1 if summary.failed or summary.mismatches else 0


@contextlib.contextmanager
def _interruption() -> Iterator[Interruption]:
    interruption = Interruption()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interruption.request) for number in signals}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
