"""Turns an error into one sentence if a user can mend it, and says whose fault every other error is."""

import difflib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from drolt_pl.errors import SettingError, reason
from drolt_pl.run.arguments import typed
from drolt_pl.run.compose import composed

USER_ERRORS = (SettingError, HydraException, OmegaConfBaseException)
# By text of Hydra's error about a package that is not installed: the extra that brings the package.
EXTRAS = {"Error locating target 'optuna.": "optuna", "Could not find 'hydra/launcher/submitit_": "slurm"}
FAULT = (
    "This is a fault of drolt_pl, not of a setting: please report it where you got drolt_pl from, with the lines above "
    "and the command."
)


def explain(error: BaseException, conf: Path, words: Sequence[str] = ()) -> str:
    """One sentence about one of `USER_ERRORS`: it names the key, and the values that are allowed.

    Args:
        error: The error.
        conf: The folder of configurations; it decides which keys and values are allowed.
        words: The overrides, whose choices decide it too.
    """
    if isinstance(error, SettingError):
        return str(error)
    text = reason(error)
    if isinstance(error.__cause__, SettingError):  # of what Hydra builds: a sweeper, a launcher
        where = re.search(r"full_key: (\S+)", text)
        return str(error.__cause__.under(where.group(1) if where else ""))
    if isinstance(error, OverrideParseException):
        why = str(error.__cause__ or error).splitlines()[0]
        return f"{error.override} cannot be read as key=value ({why}){_in_quotes(str(error.override))}"
    ambiguous = re.search(r"Ambiguous value for argument '(.*)' 1\. To use it as a list", text)
    if ambiguous is not None:
        key, _, value = ambiguous[1].partition("=")
        return f"{ambiguous[1]} is a list or a sweep: type {key}=[{value}], or add -m{_in_quotes(ambiguous[1])}"
    for said, extra in EXTRAS.items():
        if said in text:
            return f"this needs a package that is not installed: pip install 'drolt-pl[{extra}]'"
    return _missing_choice(text) or _wrong_key(error, text, conf, words) or text


def explained(conf: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration that overrides compose.

    Raises:
        SettingError: they compose none.
    """
    try:
        return composed(conf, overrides)
    except SettingError:
        raise
    except USER_ERRORS as error:
        raise SettingError("", explain(error, conf, overrides)) from error


def _in_quotes(word: str) -> str:
    """How a word is typed whose value is text with characters that Hydra's grammar reads otherwise."""
    key, _, value = word.partition("=")
    known = re.fullmatch(r"[+~]*[\w./@-]+", key) and value and value[0] not in "'\"[{"
    return f"; as text it is {typed(key, value)}, with all of its quotes" if known else ""


def _missing_choice(text: str) -> str | None:
    found = re.search(r"Could not find '([^']+)/([^']+)'.*?Available options in '[^']+': (.*)", text)
    if found is None:
        return None
    group, choice, options = found.groups()
    allowed = options.split(" Config search path")[0].split()
    return f"{group} must be one of {', '.join(allowed)}, got {choice!r}{_suggest(choice, allowed)}"


def _wrong_key(error: BaseException, text: str, conf: Path, words: Sequence[str]) -> str | None:
    cause = reason(error.__cause__) if error.__cause__ else text
    typed = re.search(r"(?:Could not override|Error merging override) '?([^'= ]+)", text)
    deeper = re.search(r"full_key: (\S+)", cause)
    named = [found.group(1).lstrip("+~") for found in (typed, deeper) if found is not None]
    if not named:
        return None
    name = max(named, key=len)  # where the value typed is a mapping, the key in it
    if "is not in struct" not in cause and "not in '" not in cause and "No match in the defaults list" not in text:
        return f"{name}: {cause.split(' full_key:')[0]}"
    parent, _, last = name.rpartition(".")
    if parent == "trainer" and last in _of_lightning():
        return f"{name} is a key of Lightning's trainer that the configuration leaves out: type +{name}"
    allowed = _keys(conf, parent, words)
    hint = f"{_suggest(last, allowed)}; {parent or 'the top level'} has {', '.join(allowed)}"
    return f"{name} is not a key of the configuration{hint}"


def _suggest(typed: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(typed, allowed, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _keys(conf: Path, parent: str, words: Sequence[str]) -> list[str]:
    groups = [(word, word.lstrip("+").partition("=")[0]) for word in words]
    chosen = [word for word, group in groups if group and (conf / group).is_dir()]
    try:
        config = composed(conf, chosen)
    except USER_ERRORS:  # a sweep over choices
        config = composed(conf)
    node = OmegaConf.select(config, parent) if parent else config
    return sorted(str(key) for key in node if key != "_target_") if isinstance(node, DictConfig) else []


def _of_lightning() -> Sequence[str]:
    """The arguments of Lightning's trainer."""
    from pytorch_lightning import Trainer  # here: a command that is right does not wait for it

    return list(inspect.signature(Trainer.__init__).parameters)
