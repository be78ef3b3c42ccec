"""Holds the options of a command to the ranges in their annotations, before it does anything."""

import functools
from collections.abc import Callable
from typing import Annotated, get_args, get_origin, get_type_hints

from drolt_pl.checked import problems
from drolt_pl.cli.errors import one_sentence
from drolt_pl.errors import refuse

Command = Callable[..., None]


def ranged(command: Command) -> Command:
    """The command, which ends in one sentence where an option is out of its range, nan or infinite.

    An option has one where a type of `ranges` stands in its annotation: `Annotated[Rate, typer.Option(...)]`.
    """
    hints = get_type_hints(command, include_extras=True)
    numbers = {name: _number(hint) for name, hint in hints.items() if _number(hint) is not None}

    @functools.wraps(command)
    def held(*args: object, **given: object) -> None:
        with one_sentence():
            refuse(
                problem
                for name, hint in numbers.items()
                if name in given
                for problem in problems(f"--{name.replace('_', '-')}", given[name], hint)
            )
        command(*args, **given)

    return held


def _number(hint: object) -> object:
    """The number and its bounds of an annotation, without Typer's part; None where it is not of a number."""
    base, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if base not in (int, float):
        return None
    for extra in (extra for extra in extras if not type(extra).__module__.startswith("typer")):
        base = Annotated[base, extra]
    return base
