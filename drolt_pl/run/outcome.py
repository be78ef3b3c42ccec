"""The circumstances of a run for its record: versions, hardware, commit, and each rank's share of a batch."""

import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from drolt_pl.data import LongTailDataModule
from drolt_pl.learning.module import DROLTModule
from drolt_pl.results import Batch

PACKAGES = ("drolt-pl", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "timm", "numpy")


def batch_shares(datamodule: LongTailDataModule, module: DROLTModule, trainer: pl.Trainer) -> Batch:
    """The global batch, each rank's share, and the factor on the learning rates."""
    size, ranks = datamodule.batch_size, trainer.world_size
    scale = module.stage_optimizer.lr_scale
    return Batch(global_=size, per_rank=size // ranks, ranks=ranks, lr_scale=scale)


def batch_sentence(datamodule: LongTailDataModule, module: DROLTModule, trainer: pl.Trainer) -> str:
    """A sentence with these numbers, for the log of a run on several ranks."""
    found = batch_shares(datamodule, module, trainer)
    return (
        f"{found.ranks} ranks: dataset.batch_size={found.global_} is {found.per_rank} images a rank and step; "
        f"learning rates are the configuration's times {found.lr_scale:g} (optimizer.base_batch)"
    )


def circumstances(command: Sequence[str], device: torch.device, home: Path) -> dict[str, Any]:
    """Versions, hardware, commit and command of a run.

    Args:
        command: The command's words.
        device: The device that trained.
        home: The folder whose git commit is recorded.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "hardware": hardware(device), "git": _commit(home), "command": " ".join(command)}


def hardware(device: torch.device) -> str:
    """What trains, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'' if threads == 1 else 's'}, {platform.machine()}"


def _commit(home: Path) -> str | None:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(home), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
