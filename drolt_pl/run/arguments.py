"""Reads from the words of a command line which folder the run gets, and checks that it holds no run yet."""

from collections.abc import Sequence
from pathlib import Path

from drolt_pl.errors import SettingError
from drolt_pl.run.leftovers import is_begun


def argument(words: Sequence[str], key: str) -> str | None:
    """The last value that a command line gives a key, without its quotes; None if it gives none."""
    return next((word[len(key) + 1 :].strip("\"'") for word in reversed(words) if word.startswith(f"{key}=")), None)


def refuse_existing(words: Sequence[str]) -> None:
    """Refuses a `hydra.run.dir` that holds a run already.

    Raises:
        SettingError: the folder holds a run.
    """
    run_dir = argument(words, "hydra.run.dir")
    if run_dir and is_begun(Path(run_dir)):
        remedy = f"go on with it by resume={run_dir}, or name another folder"
        raise SettingError(f"hydra.run.dir={run_dir}", "holds a run already", remedy=remedy)
