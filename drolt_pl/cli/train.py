"""The command that trains: `python train.py`, `drolt train`, or `python -m drolt_pl.cli.train`."""

import sys

from omegaconf import DictConfig

from drolt_pl.errors import settle_surroundings
from drolt_pl.run import command
from drolt_pl.run.conf import CONF
from drolt_pl.sweeps.plugins import register


def task(config: DictConfig) -> float | None:
    """Trains one run, or starts one job of a sweep."""
    # Imported here: `--cfg job` needs no torch.
    from drolt_pl.run.train import train

    return command.start(config, lambda composed, run_dir: train(composed, run_dir).objective)


def main() -> int:
    """Trains by the words of `sys.argv`; returns the exit code."""
    settle_surroundings()
    register()
    return command.main(task, CONF)


if __name__ == "__main__":
    sys.exit(main())
