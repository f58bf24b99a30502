"""Shows on a terminal how a run comes along; says nothing elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from simulator.summary import Progress


@contextlib.contextmanager
def show_progress(total_runtime_seconds: float, console: Console) -> Iterator[Callable[[Progress], None]]:
    """Give the function that updates the progress bar."""
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with RichProgress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=total_runtime_seconds)

        def update(progress: Progress) -> None:
            bars.update(task, completed=progress.elapsed_seconds, description=_describe(progress))

        yield update


def _describe(progress: Progress) -> str:
    text = f"{progress.sent} sent, {progress.broken} broken, {progress.failed} failed"
    if progress.mismatches:
        text += f", {progress.mismatches} answered wrong"
    return f"{text}, {progress.late_seconds:.1f} s late" if progress.late_seconds >= 1 else text
