"""The command that trains: from the words of a command line to an exit code."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from drolt_pl import escape
from drolt_pl.errors import SettingError
from drolt_pl.run import ranks, schema
from drolt_pl.run.arguments import argument, quoted, refuse_existing
from drolt_pl.run.choices import refuse_choices
from drolt_pl.run.compose import composed
from drolt_pl.run.explain import FAULT, USER_ERRORS, explain
from drolt_pl.run.jobs import end_with_parent, program, resume_command, run_job
from drolt_pl.run.leftovers import is_begun
from drolt_pl.run.machine import settle
from drolt_pl.run.mishaps import mishap
from drolt_pl.run.occupy import NOT_BY_HYDRA, occupied
from drolt_pl.run.resume import SAVED, Composition, resumed, store_saved
from drolt_pl.run.signals import Stopped, end_at_once

HELP = {"--help", "-h"}
MULTIRUN = {"-m", "--multirun"}
SHOWS_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"  # as the user set it; `main` sets it for Hydra


class Carrier(BaseException):
    """Carries an error of a run past Hydra, which would add lines of its own.

    Args:
        error: The error.
        run_dir: The run's folder, where the run can go on.
    """

    def __init__(self, error: Exception, run_dir: Path | None) -> None:
        super().__init__(error)
        self.error, self.run_dir = error, run_dir


def main(task: Callable[[DictConfig], float | None], conf: Path) -> int:
    """Runs a Hydra task on the words of `sys.argv`.

    An error that a user can mend is printed in one sentence; with `HYDRA_FULL_ERROR=1` its traceback comes first. Every
    other error is printed with its traceback and a line that says whose fault it is.

    Args:
        task: Does the work of a configuration; it calls `start`.
        conf: The folder of configurations.

    Returns:
        The exit code: 0, 1, or after a signal 128 and its number: 130 after Ctrl-C.
    """
    # Hydra then raises instead of printing its own several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        end_with_parent()
        ranks.end_with_first()
        schema.register()
        if HELP & set(sys.argv[1:]):
            print(_help(sys.argv[1:], conf), end="")
            return 0
        sys.argv[1:] = _prepared(sys.argv[1:], conf)
        hydra.main(version_base="1.3", config_path=str(conf), config_name="config")(task)()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Stopped as stopped:
        code = stopped.code
        signal.signal(signal.SIGINT, lambda *_: end_at_once(code))  # the second Ctrl-C, while Python cleans up
        if stopped.sentence:
            print(stopped.sentence, file=sys.stderr)
        return code
    except BrokenPipeError:  # whoever read the output has seen enough: `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Carrier as carrier:
        return _ended_by(carrier.error, conf, carrier.run_dir)
    except Exception as error:
        return _ended_by(_of_words(error, conf), conf)
    return 0


def start(config: DictConfig, train: Callable[[DictConfig, Path], float | None]) -> float | None:
    """Trains in this process; as a job of a sweep, in a fresh one, so that no job inherits another's state."""
    settings = HydraConfig.get()
    run_dir = Path(os.path.realpath(settings.runtime.output_dir))
    os.chdir(settings.runtime.cwd)  # hydra.job.chdir has left it, and the paths that were typed begin there
    if settings.mode == RunMode.MULTIRUN:
        return run_job(program(), list(settings.overrides.task), run_dir, settings.runtime.cwd)
    if not SHOWS_TRACEBACKS:
        os.environ.pop("HYDRA_FULL_ERROR", None)  # what ranks inherit; from here on, no error passes through Hydra
    settle(config)
    try:
        with occupied(run_dir, config, cast(DictConfig, HydraConfig.instance().cfg)):
            return train(config, run_dir)
    except Exception as error:
        raise Carrier(error, run_dir if is_begun(run_dir) else None) from error


def _help(words: list[str], conf: Path) -> str:
    # Imported here: a run has no use for it.
    from drolt_pl.run.help import render_help

    return render_help(conf, [word for word in words if not word.startswith("-")])


def _of_words(error: Exception, conf: Path) -> Exception:
    """The word that is at fault where Hydra ended in an error that is not its own, else the error."""
    if not isinstance(error, USER_ERRORS):
        try:
            composed(conf, [word for word in sys.argv[1:] if not word.startswith("-")])
        except SettingError as refused:
            return refused
        except Exception:
            return error
    return error


def _ended_by(error: Exception, conf: Path, run_dir: Path | None = None) -> int:
    """Says what an error was, and what to do; returns the exit code."""
    befallen = None if isinstance(error, USER_ERRORS) else mishap(error)
    ours = befallen is None and not isinstance(error, USER_ERRORS)
    if ours or SHOWS_TRACEBACKS:
        traceback.print_exception(error)
    if ours:
        print(FAULT, file=sys.stderr)
    elif befallen is None:
        print(f"error: {escape.lines(explain(error, conf, sys.argv[1:]))}", file=sys.stderr)
    elif befallen.speaks:
        going_on = "" if run_dir is None else f"; go on with: {resume_command(run_dir)}"
        print(f"error: {befallen.sentence}{going_on}", file=sys.stderr)
    return 1


def _prepared(words: list[str], conf: Path) -> list[str]:
    """The command line with `resume` spelt out. Of several ranks' lines, each names the folder that rank 0 decided."""
    words = sorted(words, key=lambda word: word not in MULTIRUN)  # Hydra knows no flag between two overrides
    refuse_choices(words, conf)
    met = ranks.meeting()
    if met is None and "LOCAL_RANK" in os.environ:
        if SAVED in words:
            store_saved(words, conf)
        return words  # the process that started this one has prepared them
    if met is None or MULTIRUN & set(words):
        refuse_existing(words)
        spelt = _flags(resumed(words, conf), words)
        return spelt if MULTIRUN & set(words) else [*spelt, NOT_BY_HYDRA]

    def run_dir() -> str:
        refuse_existing(words)
        return os.path.realpath(argument(spelt, "hydra.run.dir") or _default_run_dir(words, conf))

    spelt = _flags(resumed(words, conf), words)
    shared = met.decided("run_dir", run_dir, decides=met.rank == 0)
    return [*spelt, f"hydra.run.dir={quoted(shared)}", NOT_BY_HYDRA]


def _flags(composition: Composition | None, words: list[str]) -> list[str]:
    if composition is None:
        return words
    return ["--config-path", str(composition.folder), "--config-name", composition.name, *composition.overrides]


def _default_run_dir(words: Sequence[str], conf: Path) -> str:
    config = composed(conf, [word for word in words if not word.startswith("-")], with_hydra=True)
    return str(config.hydra.run.dir)
