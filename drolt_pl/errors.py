"""The one exception for values that a user has set; every other exception is a fault of this package."""

import io
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Integral

from drolt_pl import escape

NO_DOCSTRINGS = "error: PYTHONOPTIMIZE must be 0 or 1: packages that drolt_pl uses read docstrings, which 2 leaves out"


class SettingError(ValueError):
    """A user's value cannot be used.

    The text is one sentence: it says what the value must be, what it is, and if needed what to do. The command line
    prints the sentence alone; every other exception keeps its traceback. Control characters, which names out of files
    may hold, are spelt out.

    Args:
        name: The key as a user would type it, starting at the object that refuses it; `under` completes it.
        demand: The demand on the value, starting with a verb: "must be >= 0".
        value: The given value, shown by its `repr`; leave it out if the demand contains it.
        remedy: Advice to the user, if the demand does not contain it.

    Examples:
        >>> raise SettingError("loader", "must be memory or workers", "disk").under("dataset")
        Traceback (most recent call last):
        drolt_pl.errors.SettingError: dataset.loader must be memory or workers, got 'disk'
    """

    def __init__(self, name: str, demand: str, *value: object, remedy: str = "") -> None:
        self.name, self.demand, self.value, self.remedy = name, " ".join(demand.split()), value, remedy
        got = f", got {value[0]!r}" if value else ""
        text = f"{name} {self.demand}{got}{f'; {remedy}' if remedy else ''}"
        super().__init__(escape.plain(text.strip()))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles the parts, so that worker processes and other ranks can pass the error on."""
        return partial(type(self), remedy=self.remedy), (self.name, self.demand, *self.value)

    def under(self, key: str) -> "SettingError":
        """The same error with its name completed: `loader` under `dataset` is `dataset.loader`."""
        return self.renamed(lambda name: f"{key}.{name}" if key else name)

    def renamed(self, rename: Callable[[str], str]) -> "SettingError":
        """The same error with what a function makes of its name."""
        return SettingError(rename(self.name), self.demand, *self.value, remedy=self.remedy)


class SeveralSettingsError(SettingError):
    """Several values that cannot be used; its text has a line for each.

    Args:
        problems: One of each value.
    """

    def __init__(self, problems: Iterable[SettingError]) -> None:
        self.problems = tuple(problems)
        super().__init__("", "")
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        self.args = (f"{len(self.problems)} settings cannot be used:{lines}",)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.problems,)

    def renamed(self, rename: Callable[[str], str]) -> "SeveralSettingsError":
        return SeveralSettingsError(problem.renamed(rename) for problem in self.problems)


def refuse(problems: Iterable[SettingError]) -> None:
    """Raises what is wrong, all of it; nothing where nothing is."""
    found = list({str(problem): problem for problem in problems}.values())
    if found:
        raise found[0] if len(found) == 1 else SeveralSettingsError(found)


def require(name: str, value: object, holds: bool, demand: str) -> None:
    """Refuses a value for which a demand does not hold: `require("tau", tau, tau >= 0, "must be >= 0")`."""
    if not holds:
        raise SettingError(name, demand, value)


def require_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Refuses a value that is not among the allowed ones."""
    options = tuple(allowed)
    require(name, value, value in options, f"must be one of {options}")


def require_int(name: str, value: object, *, at_least: int) -> None:
    """Refuses a value that is not a whole number >= `at_least`, one of NumPy included; `True` is no number."""
    whole = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= at_least
    require(name, value, whole, f"must be a whole number >= {at_least}")


def reason(error: BaseException) -> str:
    """What an error says, on one line: of the system's errors their words, without number and path.

    Examples:
        >>> reason(OSError(28, "No space left on device"))
        'No space left on device'
    """
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(str(words).split()) or type(error).__name__


def settle_surroundings() -> None:
    """Ends a command where Python keeps no docstrings or its folder is gone; no other surroundings may end it.

    A terminal of no width is forgotten, and so is a backend of matplotlib. What a stream cannot encode is spelt out.
    """
    if sys.flags.optimize > 1:
        sys.exit(NO_DOCSTRINGS)
    try:
        os.getcwd()
    except FileNotFoundError:
        sys.exit("error: the folder that this command was typed in does not exist any more: change to another one")
    if "MPLBACKEND" in os.environ:  # no command opens a window, and a backend that nobody knows would end it
        os.environ["MPLBACKEND"] = "agg"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("COLUMNS") == "0":  # of some editors' shells; Rich would print nothing at all
        del os.environ["COLUMNS"]
