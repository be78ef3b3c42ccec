"""Errors that a user can mend, in one sentence and with exit code 1."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_sentence() -> Iterator[None]:
    """Ends the command where its body finds something wrong with files or values."""
    try:
        yield
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ValueError as error:
        fail(str(error))


def fail(sentence: str) -> None:
    """Ends the command."""
    typer.echo(f"error: {sentence}", err=True)
    raise typer.Exit(1)
