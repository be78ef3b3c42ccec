"""Runs of train.py for the tests: composed here, or as a command of its own."""

import json
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

HOME = Path(__file__).resolve().parents[2]
# Seconds long, every stage with a border before and after it.
SHORT = (
    "trainer=cpu",
    "report=false",
    "schedule.stages.ce_warmup.epochs=2",
    "schedule.stages.joint.epochs=2",
    "schedule.stages.rebalance.epochs=2",
)
EPOCHS = 6


def composed(*overrides: str, with_hydra: bool = False) -> DictConfig:
    """The configuration of `python train.py OVERRIDES`, the caller's own."""
    return pickle.loads(_composed(*overrides, with_hydra=with_hydra))


@cache
def _composed(*overrides: str, with_hydra: bool) -> bytes:
    """Composing takes a hundred times as long as reading what was composed before."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(HOME / "conf"), version_base="1.3"):
        return pickle.dumps(compose("config", list(overrides), return_hydra_config=with_hydra))


def train_here(run_dir: Path, *overrides: str) -> dict[str, Any]:
    """Trains the short stages in this process and returns the run's results."""
    return train_composed(run_dir, *SHORT, *overrides)


def train_composed(run_dir: Path, *overrides: str) -> dict[str, Any]:
    """Trains what the overrides say in this process and returns the run's results."""
    from drolt_pl.run.train import train

    run_dir.mkdir(parents=True, exist_ok=True)
    train(composed(*overrides), run_dir)
    return json.loads((run_dir / "results.json").read_text())


def folder_of_a_run(run_dir: Path, *overrides: str) -> Path:
    """A run's folder as the command leaves it, with Hydra's configuration."""
    train_composed(run_dir, *overrides)
    (run_dir / ".hydra").mkdir()
    OmegaConf.save(composed(*overrides), run_dir / ".hydra" / "config.yaml")
    return run_dir


def command(*overrides: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python train.py OVERRIDES` as a user types it; `jobs.forked` imports no torch anew."""
    return subprocess.run(
        [sys.executable, str(HOME / "train.py"), *overrides],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=220,
    )


def tensors(state: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of nested containers, by path."""
    if isinstance(state, torch.Tensor):
        return {prefix: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {key: value for name, part in items for key, value in tensors(part, f"{prefix}/{name}").items()}
