"""`resume=FOLDER` composes a run that goes on, and refuses changes other than of trainer and loggers."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from drolt_pl.errors import SettingError, require, require_choice
from drolt_pl.run.arguments import PLACES, argument, is_of, quoted
from drolt_pl.run.trust import configuration

LOGGING = ["_self_", {"override hydra/job_logging": "stdout"}]  # as in conf/config.yaml
RESUMABLE = ("trainer.", "logger.", "logger=", "hydra.", *(f"dataset.{key}=" for key in PLACES))
SAVED = "saved_configuration"  # name under which Hydra knows the configuration of the run that goes on


@dataclass(frozen=True)
class Composition:
    """The parts from which Hydra composes a run's configuration.

    Attributes:
        folder: The folder of configurations.
        overrides: The overrides.
        name: The name of the configuration to start from.
    """

    folder: Path
    overrides: tuple[str, ...]
    name: str = "config"


def resumed(words: Sequence[str], conf: Path) -> Composition | None:
    """Composes the run of a folder from its own configuration; None if the command line resumes nothing.

    `trust=true` lets the folder's configuration name any class.

    Args:
        words: The command line.
        conf: The folder of configurations: its schema, its loggers and its settings of Hydra hold.

    Raises:
        SettingError: the folder holds no run, a change is refused, or a class is named that conf/ does not name.
    """
    run = argument(words, "resume")
    if run in (None, "null"):
        return None
    require("resume", run, run != "", "must name the folder of a run, or be null")
    folder = Path(os.path.realpath(str(run)))
    if not (folder / ".hydra" / "config.yaml").exists():
        raise SettingError(f"resume={run}", "is not a run's folder: it has no .hydra/config.yaml")
    config = store_saved(words, conf)
    changes = [word for word in words if not is_of(word, "resume") and not is_of(word, "trust")]
    refused = [change for change in changes if not change.lstrip("+~").startswith(RESUMABLE)]
    if refused:
        may = f"only trainer.*, logger.* and where the data lies (dataset.{', dataset.'.join(PLACES)}) may change"
        demand = f"keeps the run's configuration, so {refused[0]} is refused: {may}"
        raise SettingError("resume", demand)
    place = argument(changes, "hydra.run.dir")
    if place is not None and Path(os.path.realpath(place)) != folder:
        raise SettingError("hydra.run.dir", "must be left out with resume=RUN, which goes on in its own folder", place)
    loggers = argument(changes, "logger")
    if loggers is not None:
        before = OmegaConf.select(config, "logger") or {}
        changes = [change for change in changes if not change.startswith("logger=")]
        changes = [*_changed_loggers(loggers, list(before)), *changes]
    trust = f"trust={str(config.trust).lower()}"
    return Composition(conf, (*changes, f"resume={quoted(folder)}", trust, f"hydra.run.dir={quoted(folder)}"), SAVED)


def store_saved(words: Sequence[str], conf: Path) -> DictConfig:
    """Makes the configuration of the run that goes on known to Hydra, in this process.

    Args:
        words: The command line, which names the run's folder.
        conf: The folder of configurations.

    Raises:
        SettingError: as `trust.configuration`.
    """
    typed = argument(words, "trust")
    require_choice("trust", typed, (None, "true", "false"))
    config = configuration(Path(os.path.realpath(str(argument(words, "resume")))), conf, trust=typed == "true")
    config.trust = typed == "true"
    ConfigStore.instance().store(name=SAVED, node=OmegaConf.merge({"defaults": LOGGING}, config))
    return config


def _changed_loggers(chosen: str, saved: Sequence[str]) -> list[str]:
    """`logger=CHOSEN` for a saved configuration: its loggers go on as they are or are dropped, others are added."""
    wanted = [name for name in re.findall(r"[^\[\],\s]+", chosen) if name != "none"]
    added = [name for name in wanted if name not in saved]
    return [
        *(f"~logger.{name}" for name in saved if name not in wanted),
        *([f"+logger=[{','.join(added)}]"] if added else []),
    ]
