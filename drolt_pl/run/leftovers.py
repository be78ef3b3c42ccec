"""Files that lie in a run's folder before the run has begun; a refused run removes them again."""

import re
import shutil
from pathlib import Path

from drolt_pl.folders import FAILURE
from drolt_pl.run.lock import LOCK

# What a run, on any rank, and a failed job of a sweep put into a run's folder before it trains.
LEFTOVERS = re.compile(rf"\.hydra|{re.escape(LOCK)}|train(_.*)?\.log|{re.escape(FAILURE)}")


def is_begun(run_dir: Path) -> bool:
    """Whether a folder holds more of a run than what is written before the run starts."""
    return run_dir.is_dir() and not all(LEFTOVERS.fullmatch(path.name) for path in run_dir.iterdir())


def remove_leftovers(run_dir: Path) -> None:
    """Removes the folder of a refused run, and the folders above it that are empty then."""
    if run_dir.is_dir() and not is_begun(run_dir):
        shutil.rmtree(run_dir)
        for parent in list(run_dir.parents)[:2]:
            if parent.name and parent != Path.cwd() and not any(parent.iterdir()):
                parent.rmdir()
