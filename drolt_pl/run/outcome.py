"""The circumstances of a run, for its record: versions, hardware, commit, the shares of a batch."""

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

PACKAGES = ("drolt-pl", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "timm", "numpy")


def batch_shares(datamodule: LongTailDataModule, module: DROLTModule, trainer: pl.Trainer) -> dict[str, Any]:
    """The global batch, each rank's share, and what the learning rates are multiplied by."""
    size, ranks = datamodule.batch_size, trainer.world_size
    return {"global": size, "per_rank": size // ranks, "ranks": ranks, "lr_scale": module.stage_optimizer.lr_scale}


def batch_sentence(datamodule: LongTailDataModule, module: DROLTModule, trainer: pl.Trainer) -> str:
    """The same for the log of a run on several ranks."""
    found = batch_shares(datamodule, module, trainer)
    return (
        f"{found['ranks']} ranks: dataset.batch_size={found['global']} is {found['per_rank']} images a rank and step; "
        f"learning rates are the configuration's times {found['lr_scale']:g} (optimizer.base_batch)"
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
    processor = f"{torch.get_num_threads()} CPU threads, {platform.machine()}"
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
    return {"versions": versions, "hardware": hardware, "git": _commit(home), "command": " ".join(command)}


def _commit(home: Path) -> str | None:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(home), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
