"""`drolt_pl.train` trains one run from Python, as the command does."""

import copy
import os
import signal
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from drolt_pl.errors import SettingError
from drolt_pl.run import ranks
from drolt_pl.run.arguments import argument, quoted, refuse_existing
from drolt_pl.run.choices import refuse_choices
from drolt_pl.run.compose import composed
from drolt_pl.run.conf import CONF
from drolt_pl.run.explain import USER_ERRORS, explain
from drolt_pl.run.machine import settle
from drolt_pl.run.occupy import occupied
from drolt_pl.run.resume import Composition, resumed
from drolt_pl.run.signals import Stopped

if TYPE_CHECKING:
    from drolt_pl.results import Results

RUN_DIR = "DROLT_RUN_DIR"  # the folder of a run, in the environment of the ranks that Lightning starts for it
_calls = count()


def train(overrides: Sequence[str] = ()) -> "Results":
    """Trains one run and returns its results; `drolt train OVERRIDES` does the same.

    Args:
        overrides: The overrides, as typed on the command line: `["dataset=cifar100_lt", "loss.eps=2"]`. `resume=FOLDER`
            goes on with a run. Flags, and so sweeps (-m), are for the command line.

    Raises:
        SettingError: a value cannot be used; the folder of a new run is removed again.
    """
    words = [str(word) for word in overrides]
    flags = [word for word in words if word.startswith("-")]
    if flags:
        raise SettingError("train", "takes overrides alone: flags such as -m are for the command line", flags[0])
    try:
        refuse_choices(words, CONF)
        earlier = resumed(words, CONF)
        source = earlier or Composition(CONF, tuple(words))
        run_dir = _folder(words, source)
        composition = [*source.overrides, f"hydra.run.dir={quoted(run_dir)}"]
        config = composed(source.folder, composition, name=source.name, with_hydra=True)
        settle(config)
        hydra = OmegaConf.masked_copy(config, "hydra")
        with occupied(run_dir, _without_hydra(config), hydra):
            from drolt_pl.run.train import train

            results: Results = train(_of_the_run(config), run_dir)
        return results
    except Stopped as stopped:
        # As Python says it: Ctrl-C interrupts, another signal ends the program.
        raise (KeyboardInterrupt() if stopped.number == signal.SIGINT else SystemExit(stopped.code)) from stopped
    except USER_ERRORS as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError("", explain(error, CONF, words)) from error


def _folder(words: Sequence[str], source: Composition) -> Path:
    """The run's folder. Every process of a run calls `train`, and all of them get the same folder."""
    number = next(_calls)

    def decide() -> str:
        refuse_existing(words)
        given = argument(source.overrides, "hydra.run.dir")
        if not given:
            given = str(composed(source.folder, source.overrides, name=source.name, with_hydra=True).hydra.run.dir)
        return os.path.realpath(given)

    met = ranks.meeting()
    if met is not None:
        return Path(met.decided(f"run_dir/{number}", decide, decides=met.rank == 0))
    if "LOCAL_RANK" not in os.environ:
        os.environ[RUN_DIR] = decide()
        return Path(os.environ[RUN_DIR])
    # Lightning has started this process or others beside it, and all of them run the caller's script.
    if number == 0:
        return Path(os.environ[RUN_DIR])
    given = argument(source.overrides, "hydra.run.dir")
    if given is None:
        raise SettingError("hydra.run.dir", "must be given after a run of several processes, which share the folder")
    return Path(os.path.realpath(given))


def _without_hydra(config: DictConfig) -> DictConfig:
    plain = copy.deepcopy(config)
    with open_dict(plain):
        del plain["hydra"]
    return plain


def _of_the_run(config: DictConfig) -> DictConfig:
    """The configuration without Hydra's node; the loggers' folders, which refer to that node, are resolved."""
    current = HydraConfig.instance()
    before = current.cfg
    with open_dict(config.hydra):
        config.hydra.runtime.output_dir = config.hydra.run.dir
    current.set_config(config)
    try:
        plain = _without_hydra(config)
        plain.logger = OmegaConf.to_container(plain.logger, resolve=True)
    finally:
        # Lightning would start ranks as Hydra's jobs, with words that the caller's script does not know.
        current.cfg = before
    return plain
