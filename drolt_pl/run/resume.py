"""`resume=FOLDER`: what a run that goes on is composed of, and what may change in it."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from drolt_pl.errors import SettingError, require_choice
from drolt_pl.run.arguments import argument
from drolt_pl.run.elsewhere import configuration

RESUMABLE = ("trainer.", "logger.", "logger=", "hydra.")
SAVED = "saved_configuration"  # name under which Hydra knows the configuration of the run that goes on


@dataclass(frozen=True)
class Composition:
    """What Hydra composes a run's configuration from.

    Attributes:
        folder: The folder of configurations.
        overrides: What is set in it.
        name: Of the configuration to start from.
    """

    folder: Path
    overrides: tuple[str, ...]
    name: str = "config"


def resumed(words: Sequence[str], conf: Path) -> Composition | None:
    """A run of a folder's own configuration, in that folder; None where nothing is resumed.

    Args:
        words: The command line.
        conf: The folder of configurations: its schema, its loggers and its settings of Hydra hold.

    Raises:
        SettingError: no run's folder, one that must not be trusted, or a change of what a run keeps.
    """
    run = argument(words, "resume")
    if run in (None, "", "null"):
        return None
    folder = Path(str(run)).resolve()
    if not (folder / ".hydra" / "config.yaml").exists():
        raise SettingError(f"resume={run}", "is not a run's folder: it has no .hydra/config.yaml")
    changes = [word for word in words if not word.startswith(("resume=", "trust="))]
    refused = [change for change in changes if not change.lstrip("+~").startswith(RESUMABLE)]
    if refused:
        demand = f"keeps the run's configuration, so {refused[0]} is refused: only trainer.* and logger.* may change"
        raise SettingError("resume", demand)
    config = store_saved(words, conf)
    loggers = argument(changes, "logger")
    if loggers is not None:
        before = OmegaConf.select(config, "logger") or {}
        changes = [change for change in changes if not change.startswith("logger=")]
        changes = [*_changed_loggers(loggers, list(before)), *changes]
    return Composition(
        conf,
        (
            *changes,
            f"resume='{folder}'",
            f"trust={str(config.trust).lower()}",
            f"hydra.run.dir='{folder}'",
            f"hydra.output_subdir={_unused(folder)}",
        ),
        SAVED,
    )


def store_saved(words: Sequence[str], conf: Path) -> DictConfig:
    """Makes the configuration of the run that goes on known to Hydra, in this process.

    Args:
        words: The command line, which names the run's folder.
        conf: The folder of configurations.

    Raises:
        SettingError: as `elsewhere.configuration`.
    """
    typed = argument(words, "trust") or "false"
    require_choice("trust", typed, ("true", "false"))
    config = configuration(Path(str(argument(words, "resume"))).resolve(), conf, trust=typed == "true")
    config.trust = typed == "true"
    ConfigStore.instance().store(name=SAVED, node=config)
    return config


def _unused(folder: Path) -> str:
    """A folder for Hydra's record of this attempt, which does not exist: what lies there might be read back."""
    return next(name for number in count() if not os.path.lexists(folder / (name := f".hydra/resume_{number}")))


def _changed_loggers(chosen: str, saved: Sequence[str]) -> list[str]:
    """`logger=CHOSEN` for a saved configuration: its loggers go on as they are or are dropped, others are added."""
    wanted = [name for name in re.findall(r"[^\[\],\s]+", chosen) if name != "none"]
    added = [name for name in wanted if name not in saved]
    return [
        *(f"~logger.{name}" for name in saved if name not in wanted),
        *([f"+logger=[{','.join(added)}]"] if added else []),
    ]
