"""Trains one run, `python train.py [group=choice] [key=value]`, or with -m a sweep; conf/ lists what can be set."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from drolt_pl.run.launch import main, start

HOME = Path(__file__).resolve().parent


@hydra.main(version_base="1.3", config_path=str(HOME / "conf"), config_name="config")
def task(config: DictConfig) -> float | None:
    from drolt_pl.run.train import train

    return start(config, train, HOME / "train.py")


if __name__ == "__main__":
    sys.exit(main(task, HOME / "conf"))
