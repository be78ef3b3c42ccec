"""`resume=FOLDER` composes a run that goes on, and refuses changes other than of trainer and loggers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from drolt_pl.errors import SettingError, require_choice
from drolt_pl.run.arguments import argument
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
    changes = [word for word in words if not word.startswith(("resume=", "trust="))]
    refused = [change for change in changes if not change.lstrip("+~").startswith(RESUMABLE)]
    if refused:
        demand = f"keeps the run's configuration, so {refused[0]} is refused: only trainer.* and logger.* may change"
        raise SettingError("resume", demand)
    loggers = argument(changes, "logger")
    if loggers is not None:
        before = OmegaConf.select(OmegaConf.load(saved / "config.yaml"), "logger") or {}
        changes = [change for change in changes if not change.startswith("logger=")]
        changes = [*_changed_loggers(loggers, list(before)), *changes]
    return Composition(
        saved,
        (
            f"hydra.searchpath=['file://{conf}']",
            *changes,
            f"resume='{folder}'",
            f"hydra.run.dir='{folder}'",
            f"hydra.output_subdir=.hydra/resume_{len(list(saved.glob('resume_*')))}",
        ),
    )


def _changed_loggers(chosen: str, saved: Sequence[str]) -> list[str]:
    """`logger=CHOSEN` for a saved configuration: its loggers go on as they are or are dropped, others are added."""
    wanted = [name for name in re.findall(r"[^\[\],\s]+", chosen) if name != "none"]
    added = [name for name in wanted if name not in saved]
    return [
        *(f"~logger.{name}" for name in saved if name not in wanted),
        *([f"+logger=[{','.join(added)}]"] if added else []),
    ]
