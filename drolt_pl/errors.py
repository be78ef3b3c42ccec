"""The one exception for values that a user has set; whatever else is raised is a fault of ours."""

from collections.abc import Iterable
from functools import partial

from drolt_pl import escape


class SettingError(ValueError):
    """A user's value that cannot be used.

    Its text is one sentence: what the value must be, what it is, and where needed what to do. The command line
    prints the sentence alone; every other exception keeps its traceback. Control characters, which names out of files
    may hold, are spelt out.

    Args:
        name: The key, as a user would type it; below the object that refuses it (`under` completes it).
        demand: What is asked of it, starting with a verb: "must be >= 0".
        value: What was given, shown by its `repr`; leave it out where the demand says it.
        remedy: What to do about it, where the demand does not say.

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
        """Pickles the parts: worker processes and other ranks hand the error on."""
        return partial(type(self), remedy=self.remedy), (self.name, self.demand, *self.value)

    def under(self, key: str) -> "SettingError":
        """The same error with its name completed: `loader` under `dataset` is `dataset.loader`."""
        return SettingError(f"{key}.{self.name}" if key else self.name, self.demand, *self.value, remedy=self.remedy)


def require(name: str, value: object, holds: bool, demand: str) -> None:
    """Refuses a value for which a demand does not hold: `require("tau", tau, tau >= 0, "must be >= 0")`."""
    if not holds:
        raise SettingError(name, demand, value)


def require_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Refuses a value that is not one of those allowed."""
    options = tuple(allowed)
    require(name, value, value in options, f"must be one of {options}")


def require_int(name: str, value: object, *, at_least: int) -> None:
    """Refuses what is no whole number of at least a value; `True` is no number."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= at_least
    require(name, value, whole, f"must be a whole number >= {at_least}")
