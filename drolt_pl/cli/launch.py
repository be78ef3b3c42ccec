"""What surrounds a training task: refusing to overwrite a run, resuming, jobs of a sweep, errors in one sentence."""

import difflib
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

RESUMABLE = ("trainer.", "logger.", "logger=", "hydra.")
SHOWS_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"  # as the user set it; `main` sets it for Hydra
LEFTOVERS = {".hydra", "train.log"}  # what Hydra puts into a run's folder before the task starts


class UserError(Exception):
    """Something the caller can mend; its text is one sentence that names the key, the value and the remedy."""


def build(config: DictConfig, key: str, **known: Any) -> Any:
    """Instantiates a node of the configuration; what its constructor refuses becomes a `UserError` with its key."""
    node = OmegaConf.select(config, key)
    try:
        return instantiate(node, **known, _convert_="all")
    except InterpolationKeyError as error:
        wanted = re.search(r"'([^']+)\.([^'.]+)'", str(error))
        hint = f": choose a {wanted.group(1)} that has {wanted.group(2)}" if wanted else ""
        raise UserError(f"{key} refers to another choice: {_sentence(error)}{hint}") from error
    except InstantiationException as error:
        # Hydra names the target in its own sentence; the cause has ours.
        raise UserError(f"{key}.{_sentence(error.__cause__ or error)}") from error


def checked(key: str, call: Callable[[], Any]) -> Any:
    """Calls a step of the set-up; what it refuses becomes a `UserError` under `key`."""
    try:
        return call()
    except (ValueError, OSError) as error:
        raise UserError(f"{key}.{_sentence(error)}".lstrip(".")) from error


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())


def main(task: Callable[[], Any], conf: Path) -> int:
    """Runs the Hydra task; an error that a user can cause ends in one sentence and exit code 1.

    With `HYDRA_FULL_ERROR=1` the traceback is shown as well.
    """
    # Hydra then raises instead of printing its own several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        if "LOCAL_RANK" not in os.environ:
            _refuse_existing(sys.argv[1:])
            sys.argv[1:] = _resumed(sys.argv[1:])
        task()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if SHOWS_TRACEBACKS:
            raise
        print(f"error: {explain(error, conf)}", file=sys.stderr)
        return 1
    return 0


def explain(error: BaseException, conf: Path) -> str:
    """One sentence about an error of composition: the key, and what is allowed."""
    text = _sentence(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read as key=value ({str(error.__cause__ or error).splitlines()[0]})"
    missing = re.search(r"Could not find '([^']+)/([^']+)'.*?Available options in '[^']+': (.*)", text)
    if missing:
        group, choice, options = missing.groups()
        allowed = options.split(" Config search path")[0].split()
        return f"{group} must be one of {', '.join(allowed)}, got {choice!r}{_suggest(choice, allowed)}"
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    cause = _sentence(error.__cause__) if error.__cause__ else text
    if key and ("is not in struct" in cause or "No match in the defaults list" in text):
        parent, _, last = key.group(1).rpartition(".")
        allowed = _keys(conf, parent)
        hint = f"{_suggest(last, allowed)}; {parent or 'the top level'} has {', '.join(allowed)}"
        return f"{key.group(1)} is not a key of the configuration{hint}"
    if key:
        return f"{key.group(1)}: {cause}"
    return text


def _suggest(typed: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(typed, allowed, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _keys(conf: Path, parent: str) -> list[str]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        config = compose("config")
    node = OmegaConf.select(config, parent) if parent else config
    return sorted(str(key) for key in node if key != "_target_") if isinstance(node, DictConfig) else []


def _argument(argv: Sequence[str], key: str) -> str | None:
    return next((value[len(key) + 1 :].strip("\"'") for value in reversed(argv) if value.startswith(f"{key}=")), None)


def _refuse_existing(argv: Sequence[str]) -> None:
    run_dir = _argument(argv, "hydra.run.dir")
    if run_dir and Path(run_dir).is_dir() and {path.name for path in Path(run_dir).iterdir()} - LEFTOVERS:
        raise UserError(
            f"hydra.run.dir={run_dir} holds a run already: go on with it by resume={run_dir}, or name another folder"
        )


def _resumed(argv: list[str]) -> list[str]:
    """`resume=DIR` becomes a run of DIR's own configuration in DIR; only trainer and logger may change."""
    run = _argument(argv, "resume")
    if run in (None, "", "null"):
        return argv
    folder = Path(str(run)).resolve()
    if not (folder / ".hydra" / "config.yaml").exists():
        raise UserError(f"resume={run} is not a run's folder: it has no .hydra/config.yaml")
    changes = [argument for argument in argv if not argument.startswith("resume=")]
    refused = [change for change in changes if not change.lstrip("+~").startswith(RESUMABLE)]
    if refused:
        raise UserError(
            f"resume keeps the run's configuration, so {refused[0]} is refused: only trainer.* and logger.* may change"
        )
    past = len(list((folder / ".hydra").glob("resume_*")))
    return [
        "--config-path",
        str(folder / ".hydra"),
        "--config-name",
        "config",
        *changes,
        f"resume='{folder}'",
        f"hydra.run.dir='{folder}'",
        f"hydra.output_subdir=.hydra/resume_{past}",
    ]


def start(config: DictConfig, train: Callable[[DictConfig, Path], float | None]) -> float | None:
    """Trains in this process; as a job of a sweep, in a fresh one, so that no job inherits another's state."""
    run_dir = Path(HydraConfig.get().runtime.output_dir).resolve()
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return _run_job(list(HydraConfig.get().overrides.task), run_dir)
    try:
        return train(config, run_dir)
    except UserError as error:
        if "LOCAL_RANK" not in os.environ:
            _remove_leftovers(run_dir)
        if SHOWS_TRACEBACKS:
            raise
        # Not the error itself: Hydra would add a line of its own.
        raise SystemExit(f"error: {error}") from None


def _remove_leftovers(run_dir: Path) -> None:
    if run_dir.is_dir() and {path.name for path in run_dir.iterdir()} <= LEFTOVERS:
        shutil.rmtree(run_dir)
        for parent in list(run_dir.parents)[:2]:
            if parent.name and parent != Path.cwd() and not any(parent.iterdir()):
                parent.rmdir()


def _run_job(overrides: list[str], run_dir: Path) -> float:
    """Runs one job of a sweep as `python train.py OVERRIDES` and reads its validation objective; nan if it failed."""
    from drolt_pl.report import load_results

    if not (run_dir / "results.json").exists():
        begun = (run_dir / "checkpoints" / "last.ckpt").exists()
        arguments = [f"resume={run_dir}"] if begun else [*overrides, f"hydra.run.dir='{run_dir}'"]
        environment = {**os.environ, "HYDRA_FULL_ERROR": str(int(SHOWS_TRACEBACKS))}
        finished = subprocess.run([sys.executable, sys.argv[0], *arguments], env=environment)
        if finished.returncode:
            print(f"job failed with exit code {finished.returncode}: {' '.join(overrides)}", file=sys.stderr)
            return math.nan
    objective = load_results(run_dir / "results.json").get("objective")
    return math.nan if objective is None else float(objective)
