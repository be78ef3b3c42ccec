"""`resume=FOLDER` composes a run that goes on, and refuses changes other than of trainer and loggers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from drolt_pl.errors import SettingError, require_choice
from drolt_pl.run.arguments import argument, is_of, quoted
from drolt_pl.run.build import sentence
from drolt_pl.run.trust import refuse_foreign

RESUMABLE = ("trainer.", "logger.", "logger=", "hydra.")


@dataclass(frozen=True)
class Composition:
    """The parts from which Hydra composes a run's configuration.

    Attributes:
        folder: The folder that holds config.yaml.
        overrides: The overrides.
    """

    folder: Path
    overrides: tuple[str, ...]


def resumed(words: Sequence[str], conf: Path) -> Composition | None:
    """Composes the run of a folder from its own configuration; None if the command line resumes nothing.

    Args:
        words: The command line.
        conf: The folder of configurations, from which loggers may be added.

    `trust=true` lets the folder's configuration name any class.

    Raises:
        SettingError: the folder holds no run, a change is refused, or a class is named that conf/ does not name.
    """
    run = argument(words, "resume")
    if run in (None, "", "null"):
        return None
    folder = Path(str(run)).resolve()
    saved = folder / ".hydra"
    if not (saved / "config.yaml").exists():
        raise SettingError(f"resume={run}", "is not a run's folder: it has no .hydra/config.yaml")
    trusted = argument(words, "trust")
    require_choice("trust", trusted, (None, "true", "false"))
    if trusted != "true":
        refuse_foreign(folder, conf)
    before = OmegaConf.select(_saved_configuration(saved / "config.yaml", run), "logger") or {}
    changes = [word for word in words if not is_of(word, "resume") and not is_of(word, "trust")]
    refused = [change for change in changes if not change.lstrip("+~").startswith(RESUMABLE)]
    if refused:
        demand = f"keeps the run's configuration, so {refused[0]} is refused: only trainer.* and logger.* may change"
        raise SettingError("resume", demand)
    loggers = argument(changes, "logger")
    if loggers is not None:
        changes = [change for change in changes if not change.startswith("logger=")]
        changes = [*_changed_loggers(loggers, list(before)), *changes]
    return Composition(
        saved,
        (
            f"hydra.searchpath=[{quoted(f'file://{conf}')}]",
            *changes,
            f"resume={quoted(folder)}",
            f"hydra.run.dir={quoted(folder)}",
        ),
    )


def _saved_configuration(path: Path, run: str | None) -> DictConfig:
    try:
        config = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise SettingError(f"resume={run}", f"cannot go on: {path} is damaged ({sentence(error)})") from error
    if not isinstance(config, DictConfig):
        raise SettingError(f"resume={run}", f"cannot go on: {path} is damaged (it holds no configuration)")
    return config


def _changed_loggers(chosen: str, saved: Sequence[str]) -> list[str]:
    """`logger=CHOSEN` for a saved configuration: its loggers go on as they are or are dropped, others are added."""
    wanted = [name for name in re.findall(r"[^\[\],\s]+", chosen) if name != "none"]
    added = [name for name in wanted if name not in saved]
    return [
        *(f"~logger.{name}" for name in saved if name not in wanted),
        *([f"+logger=[{','.join(added)}]"] if added else []),
    ]
