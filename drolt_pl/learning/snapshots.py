"""Keeps the weights of many epochs, for measurements over the course of a training."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from drolt_pl.ranges import Count


class Snapshots(Checkpoint):
    """Writes `checkpoints/epochNNNN.ckpt` without the optimizer's state, N counted from 0 over all stages.

    A command that takes the `--stage` of a run takes such a name too.

    Args:
        every: Epochs from one file to the next; the first epoch has one.
    """

    def __init__(self, every: Count = 1) -> None:
        self.every = every

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch % self.every == 0:
            folder = Path(trainer.default_root_dir) / "checkpoints"
            trainer.save_checkpoint(folder / f"epoch{trainer.current_epoch:04d}.ckpt", weights_only=True)
