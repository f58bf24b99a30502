"""Shows on a terminal how a run comes along, and says anywhere when readings go late."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from simulator.summary import Progress

# Less may be a moment's hesitation, which the server makes up for.
_TOLD_LATE_SECONDS = 5.0


@contextlib.contextmanager
def show_progress(
    total_runtime_seconds: float, console: Console, too_slow: str = "The server does not keep up"
) -> Iterator[Callable[[Progress], None]]:
    """Give the function that updates the progress bar, and says once that it is `too_slow` when readings go late."""
    lateness = _Lateness(console, too_slow)
    if not console.is_terminal:
        yield lateness.tell
        return
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with RichProgress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=total_runtime_seconds)

        def update(progress: Progress) -> None:
            lateness.tell(progress)
            bars.update(task, completed=progress.elapsed_seconds, description=_describe(progress))

        yield update


class _Lateness:
    """Says once that readings go late, since a progress bar shows by how much, and a log needs no more."""

    def __init__(self, console: Console, too_slow: str) -> None:
        self._console = console
        self._too_slow = too_slow
        self._told = False

    def tell(self, progress: Progress) -> None:
        """Say it if it is so and has not been said."""
        if progress.late_seconds < _TOLD_LATE_SECONDS or self._told:
            return
        self._told = True
        text = f"{self._too_slow}: readings go {progress.late_seconds:.0f} s late"
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)


def _describe(progress: Progress) -> str:
    text = f"{progress.sent} sent, {progress.broken} broken, {progress.failed} failed"
    if progress.mismatches:
        text += f", {progress.mismatches} answered wrong"
    return f"{text}, {progress.late_seconds:.1f} s late" if progress.late_seconds >= 1 else text
