"""Shows on a terminal how a command comes along."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress_bar(console: Console, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """Give the function that takes how much of the total is done, and a few words; the total may not be known."""
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=total)
        yield lambda completed, text: bars.update(task, completed=completed, description=text)
