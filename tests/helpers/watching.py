"""Callbacks that watch a run for the tests; configurations name them by `watching.NAME`."""

import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from drolt_pl.backbones import Backbone


class PlainNet(Backbone):
    """A network without normalisation: no image's features depend on the others of its batch."""

    num_features = 16

    def __init__(self, in_channels: int, **_: int) -> None:
        convolutions = torch.nn.Conv2d(in_channels, 16, 3, padding=1), torch.nn.Conv2d(16, 16, 3, stride=2)
        super().__init__()
        self.layers = torch.nn.Sequential(convolutions[0], torch.nn.ReLU(), convolutions[1], torch.nn.ReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images).mean((2, 3))


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
    """Writes, for each rank, its last weights, and whether the re-balance stage left the backbone as it was."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.stage.name == "rebalance" and not hasattr(self, "before"):
            self.before = {key: value.clone() for key, value in pl_module.backbone.state_dict().items()}

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        after = pl_module.backbone.state_dict()
        same = all(torch.equal(self.before[key], after[key]) for key in after)
        name = f"frozen_{trainer.global_rank}"
        folder = Path(trainer.default_root_dir)
        (folder / name).write_text("identical" if same else "moved")
        torch.save(pl_module.state_dict(), folder / f"weights_{trainer.global_rank}.pt")


class Steps(pl.Callback):
    """Writes each rank's losses and the gradients it steps by, of the first 20 steps, and the centroids tested with."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradients: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if len(self.gradients) < 20:
            parts = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
            self.gradients.append(torch.cat(parts).clone())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].item())

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        steps = {"losses": self.losses[:20], "gradients": self.gradients, "centroids": pl_module.centroids}
        torch.save(steps, Path(trainer.default_root_dir) / f"steps_{trainer.global_rank}.pt")


class Snapshots(pl.Callback):
    """Keeps the run's folder as it stands when an epoch begins."""

    def __init__(self, run_dir: str, folder: str) -> None:
        self.run_dir, self.folder = Path(run_dir), Path(folder)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        is_whole_run = Path(trainer.default_root_dir) == self.run_dir
        if trainer.is_global_zero and trainer.current_epoch and is_whole_run:
            shutil.copytree(self.run_dir, self.folder / str(trainer.current_epoch))
