"""What surrounds a training task: refusing to overwrite a run, resuming, jobs of a sweep, errors in one sentence."""

import difflib
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from drolt_pl.run import ranks, schema
from drolt_pl.run.build import UserError, sentence
from drolt_pl.run.jobs import end_with_parent, is_begun, run_job

MULTIRUN = {"-m", "--multirun"}
RESUMABLE = ("trainer.", "logger.", "logger=", "hydra.")
# What an error of composition says of a package that is not installed, and the extra that brings it.
EXTRAS = {"Error locating target 'optuna.": "optuna", "Could not find 'hydra/launcher/submitit_": "slurm"}
SHOWS_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"  # as the user set it; `main` sets it for Hydra


def main(task: Callable[[], Any], conf: Path) -> int:
    """Runs the Hydra task; an error that a user can cause ends in one sentence and exit code 1.

    With `HYDRA_FULL_ERROR=1` the traceback is shown as well.
    """
    # Hydra then raises instead of printing its own several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    schema.register()
    try:
        end_with_parent()
        sys.argv[1:] = _prepared(sys.argv[1:], conf)
        task()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if SHOWS_TRACEBACKS:
            raise
        print(f"error: {explain(error, conf)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _prepared(argv: list[str], conf: Path) -> list[str]:
    """The command line with `resume` spelt out and, where others run it too, the folder that rank 0 writes to."""
    met = ranks.meeting()
    if met is None and "LOCAL_RANK" in os.environ:
        return argv  # started by a process that has been here
    if met is None or MULTIRUN & set(argv):
        _refuse_existing(argv)
        return _resumed(argv, conf)

    def run_dir() -> str:
        _refuse_existing(argv)
        return str(Path(_argument(resumed, "hydra.run.dir") or _default_run_dir(argv, conf)).resolve())

    resumed = _resumed(argv, conf)
    shared = met.decided("run_dir", run_dir, decides=met.rank == 0)
    # As Lightning starts its own processes: only rank 0 writes .hydra and train.log.
    others = ["hydra.output_subdir=null", f"hydra.job.name=train_rank_{met.rank}"] if met.rank else []
    return [*resumed, f"hydra.run.dir='{shared}'", *others]


def _default_run_dir(argv: Sequence[str], conf: Path) -> str:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        config = compose("config", [word for word in argv if not word.startswith("-")], return_hydra_config=True)
    GlobalHydra.instance().clear()
    return str(config.hydra.run.dir)


def explain(error: BaseException, conf: Path) -> str:
    """One sentence about an error of composition: the key, and what is allowed."""
    text = sentence(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read as key=value ({str(error.__cause__ or error).splitlines()[0]})"
    for said, extra in EXTRAS.items():
        if said in text:
            return f"this needs a package that is not installed: pip install 'drolt-pl[{extra}]'"
    missing = re.search(r"Could not find '([^']+)/([^']+)'.*?Available options in '[^']+': (.*)", text)
    if missing:
        group, choice, options = missing.groups()
        allowed = options.split(" Config search path")[0].split()
        return f"{group} must be one of {', '.join(allowed)}, got {choice!r}{_suggest(choice, allowed)}"
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    cause = sentence(error.__cause__) if error.__cause__ else text
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
    if run_dir and is_begun(Path(run_dir)):
        raise UserError(
            f"hydra.run.dir={run_dir} holds a run already: go on with it by resume={run_dir}, or name another folder"
        )


def _resumed(argv: list[str], conf: Path) -> list[str]:
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
    loggers = _argument(changes, "logger")
    if loggers is not None:
        saved = OmegaConf.select(OmegaConf.load(folder / ".hydra" / "config.yaml"), "logger") or {}
        changes = [change for change in changes if not change.startswith("logger=")]
        changes = [*_changed_loggers(loggers, list(saved)), *changes]
    past = len(list((folder / ".hydra").glob("resume_*")))
    return [
        "--config-path",
        str(folder / ".hydra"),
        "--config-name",
        "config",
        "--config-dir",
        str(conf),
        *changes,
        f"resume='{folder}'",
        f"hydra.run.dir='{folder}'",
        f"hydra.output_subdir=.hydra/resume_{past}",
    ]


def _changed_loggers(chosen: str, saved: Sequence[str]) -> list[str]:
    """`logger=CHOSEN` for a saved configuration: its loggers go on as they are or are dropped, others are added."""
    wanted = [name for name in re.findall(r"[^\[\],\s]+", chosen) if name != "none"]
    added = [name for name in wanted if name not in saved]
    return [
        *(f"~logger.{name}" for name in saved if name not in wanted),
        *([f"+logger=[{','.join(added)}]"] if added else []),
    ]


def start(config: DictConfig, train: Callable[[DictConfig, Path], float | None], script: Path) -> float | None:
    """Trains in this process; as a job of a sweep, in a fresh one, so that no job inherits another's state."""
    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir).resolve()
    if hydra.mode == RunMode.MULTIRUN:
        return run_job(script, list(hydra.overrides.task), run_dir, hydra.runtime.cwd)
    try:
        return train(config, run_dir)
    except UserError as error:
        if ranks.is_first():
            _remove_leftovers(run_dir)
        if SHOWS_TRACEBACKS:
            raise
        # Not the error itself: Hydra would add a line of its own.
        raise SystemExit(f"error: {error}") from None


def _remove_leftovers(run_dir: Path) -> None:
    if run_dir.is_dir() and not is_begun(run_dir):
        shutil.rmtree(run_dir)
        for parent in list(run_dir.parents)[:2]:
            if parent.name and parent != Path.cwd() and not any(parent.iterdir()):
                parent.rmdir()
