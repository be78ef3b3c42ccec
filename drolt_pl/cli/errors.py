"""Ends a command with one sentence and exit code 1 at an error that a user can mend."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from drolt_pl import escape
from drolt_pl.errors import SettingError, reason

MOVED = "Where the run's data set lies now, if it has moved: its folder, list or file."  # help of --data
TRUST = "Execute classes that the run names and conf/ does not."  # help of --trust


@contextmanager
def one_sentence() -> Iterator[None]:
    """Ends the command with one sentence if a user's value or file is at fault; our own faults keep a traceback."""
    try:
        yield
    except BrokenPipeError:  # whoever read the output has seen enough: `| head`; Typer ends the command
        raise
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else reason(error))
    except SettingError as error:
        fail(str(error))


def fail(sentence: str) -> NoReturn:
    """Ends the command with a sentence."""
    typer.echo(f"error: {escape.lines(sentence)}", err=True)
    raise typer.Exit(1)
