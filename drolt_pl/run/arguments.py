"""Reads from the words of a command line which folder the run gets, and checks that it holds no run yet."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from drolt_pl.errors import SettingError, require
from drolt_pl.run.leftovers import is_begun

PLACES = ("root", "manifest", "index", "file")  # keys of a data set that say where its samples lie


def argument(words: Sequence[str], key: str) -> str | None:
    """The last value that a command line gives a key (`KEY=`, `+KEY=`, `++KEY=`); None where it gives none.

    What Hydra's grammar has no reading for, a path with a comma, is taken as it stands.
    """
    found = next((word for word in reversed(words) if is_of(word, key)), None)
    return None if found is None else _unquoted(found.partition("=")[2])


def is_of(word: str, key: str) -> bool:
    """Whether a word sets a key."""
    return word.lstrip("+").startswith(f"{key}=")


def quoted(text: object) -> str:
    """A value as Hydra's grammar reads it back, whatever characters it has: quotes, `=`, `,`, `$`."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", str(text))  # backslashes count before quotes and `${` alone
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"


def typed(key: str, value: object) -> str:
    """A word that gives a key a value, as a shell takes it."""
    is_plain = re.fullmatch(r"[\w./-]+", str(value), re.ASCII)
    return shlex.quote(f"{key}={value if is_plain else quoted(value)}")


def refuse_existing(words: Sequence[str]) -> None:
    """Refuses a `hydra.run.dir` that holds a run, by the words alone: `occupied` looks again, at the folder itself.

    Raises:
        SettingError: the folder holds a run, or no folder can be there, also for the jobs of a sweep.
    """
    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        given = argument(words, key)
        if given is not None:
            path = Path(os.path.realpath(given))
            there = next(place for place in (path, *path.parents) if os.path.lexists(place))
            require(key, given, given != "" and there.is_dir(), "must be a folder, or a place for a new one")
    run_dir = argument(words, "hydra.run.dir")
    if run_dir and is_begun(Path(os.path.realpath(run_dir))):
        remedy = f"go on with it by resume={run_dir}, or name another folder"
        raise SettingError(f"hydra.run.dir={run_dir}", "holds a run already", remedy=remedy)


def _unquoted(text: str) -> str:
    if text[:1] not in ("'", '"'):
        return text
    try:
        value = OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return text
    return re.sub(r"\\+\$\{", lambda found: "\\" * ((len(found.group()) - 2) // 2) + "${", str(value))
