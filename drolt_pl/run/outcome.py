"""The outcome of a run: every stage's model measured after fit, and the record that results.json keeps."""

import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from drolt_pl.learning.evaluation import evaluate_checkpoint

PACKAGES = ("drolt-pl", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "timm", "numpy")


def measure(trainer: Any, module: Any, datamodule: Any, checkpoints: Path, *, selects: bool) -> dict[str, Any]:
    """Measures each stage's final model and the selected one; the test set is first read here.

    Args:
        trainer: After fit.
        module: The run's module.
        datamodule: The run's data.
        checkpoints: The run's checkpoint folder.
        selects: Whether the best validation epoch of the last stage is the result, else its last epoch.

    Returns:
        `stages`, `test`, `test_pool`, `val`, `selected` (stage, epoch) and `skipped_files` of the results.
    """
    loaders = {
        "train": datamodule.centroid_dataloader(),
        "val": datamodule.val_dataloader() or None,
        "test": datamodule.test_dataloader(),
    }
    stages: dict[str, Any] = {}
    final: dict[str, Any] = {}
    trained = [stage.name for stage in module.schedule.stages if stage.epochs]
    for name in trained:
        path = next(
            (path for path in (checkpoints / f"{name}.ckpt", checkpoints / f"{name}_init.ckpt") if path.exists()), None
        )
        if path is None:
            continue  # a stage before the one that init_from names
        last_of_all = name == trained[-1] and not selects
        pool = {"test_pool": datamodule.pool_dataloader()} if last_of_all else {}
        measured = evaluate_checkpoint(trainer, module, _load(path), name, {**loaders, **pool})
        stages[name] = {part: _without_classes(measured[part]) for part in ("train", "val", "test")}
        final = measured
    if selects:
        loaders.pop("train")
        checkpoint = _load(checkpoints / "best.ckpt")
        final = evaluate_checkpoint(
            trainer, module, checkpoint, trained[-1], {**loaders, "test_pool": datamodule.pool_dataloader()}
        )
    return {
        "stages": stages,
        "test": final["test"],
        "test_pool": _without_classes(final["test_pool"]),
        "val": _without_classes(final["val"]),
        "skipped_files": _skipped_files(trainer, datamodule),
    }


def _skipped_files(trainer: Any, datamodule: Any) -> list[str]:
    """The files that dataset.on_corrupt=skip went past, on any rank; printed, so that nobody overlooks them."""
    skipped: list[str] = datamodule.skipped_files()
    if skipped and trainer.is_global_zero:
        print(f"dataset.on_corrupt=skip went past {len(skipped)} unreadable files:", *skipped, sep="\n  ")
    return skipped


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def _without_classes(metrics: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if metrics is None else {key: value for key, value in metrics.items() if "per_class" not in key}


def batch_shares(datamodule: Any, module: Any, trainer: Any) -> dict[str, Any]:
    """The global batch, each rank's share, and what the learning rates are multiplied by."""
    size, ranks = datamodule.batch_size, trainer.world_size
    return {"global": size, "per_rank": size // ranks, "ranks": ranks, "lr_scale": module.stage_optimizer.lr_scale}


def batch_sentence(datamodule: Any, module: Any, trainer: Any) -> str:
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
