"""Callbacks that watch a run for the tests; configurations name them by `watching.NAME`."""

import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch


class StageWatch(pl.Callback):
    """Saves the module's state at each stage's first and last moment, and the losses and random state per epoch."""

    seen: dict[str, Any] = {}  # noqa: RUF012 - read by the test after the run

    def __init__(self) -> None:
        StageWatch.seen = {"states": {}, "losses": [], "random": []}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            state = {key: value.clone() for key, value in pl_module.backbone.state_dict().items()}
            self.seen["states"].setdefault(f"{pl_module.stage.name}/start", state)
            self.seen["random"].append(torch.get_rng_state().clone())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen["losses"].append(outputs["loss"].item())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        state = {key: value.clone() for key, value in pl_module.backbone.state_dict().items()}
        self.seen["states"][f"{pl_module.stage.name}/end"] = state


class BitIdentical(pl.Callback):
    """Writes, for each rank, whether the re-balance stage left the backbone as it was."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.stage.name == "rebalance" and not hasattr(self, "before"):
            self.before = {key: value.clone() for key, value in pl_module.backbone.state_dict().items()}

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        after = pl_module.backbone.state_dict()
        same = all(torch.equal(self.before[key], after[key]) for key in after)
        name = f"frozen_{trainer.global_rank}"
        (Path(trainer.default_root_dir) / name).write_text("identical" if same else "moved")


class Snapshots(pl.Callback):
    """Keeps the run's folder as it stands when an epoch begins."""

    def __init__(self, run_dir: str, folder: str) -> None:
        self.run_dir, self.folder = Path(run_dir), Path(folder)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch:
            shutil.copytree(self.run_dir, self.folder / str(trainer.current_epoch))
