"""A bar for commands that take minutes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Shows a bar on the error stream of a terminal, with the time that is left where the total is known.

    Yields:
        A function that takes what is newly done, and the total or None.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, advance=done, total=total)


def shown() -> bool:
    """Whether a bar would be seen."""
    from rich.console import Console

    return Console(stderr=True).is_terminal
