"""What the benchmarks train: a set of noise, the module around a backbone, and one epoch of it in Lightning."""

import logging
import time
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from drolt_pl import DROLTLoss, DROLTModule, RefreshCentroids
from drolt_pl.classifiers import LinearClassifier
from drolt_pl.data import Catalogue, LongTailDataModule
from drolt_pl.data.augment.transforms import Augment
from drolt_pl.data.images.sources import ArraySource
from drolt_pl.learning.optim import StageOptimizer
from drolt_pl.learning.schedule import Schedule
from drolt_pl.losses import CrossEntropy
from drolt_pl.objectives import Robust

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
logging.getLogger("lightning").setLevel(logging.WARNING)
warnings.filterwarnings("ignore")
torch.set_flush_denormal(True)
MOMENTUM, WEIGHT_DECAY = 0.9, 2e-4
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class Noise(LongTailDataModule):
    """Random images, equally many of each class; one a class tests."""

    def __init__(self, pixels: np.ndarray, num_classes: int, augment: Augment | None, **kwargs: Any) -> None:
        super().__init__(mean=MEAN, std=STD, imbalance_ratio=None, protocol="published", augment=augment, **kwargs)
        self.pixels, self.classes = pixels, num_classes

    def catalogue(self) -> Catalogue:
        count = len(self.pixels)
        return Catalogue(
            names=np.arange(count).astype(np.bytes_),
            targets=np.arange(count) % self.classes,
            official=np.where(np.arange(count) < self.classes, "test", "train"),
            class_names=[str(number) for number in range(self.classes)],
            source=ArraySource(self.pixels),
        )


def noise_pixels(count: int, size: int) -> np.ndarray:
    """uint8, (count, size, size, 3)."""
    return np.random.default_rng(0).integers(256, size=(count, size, size, 3), dtype=np.uint8)


def joint_module(backbone: nn.Module, class_counts: Sequence[int], *, sampling: str = "class_aware") -> DROLTModule:
    """The module with one stage, the joint one."""
    sizes = {"num_features": int(backbone.num_features), "num_classes": len(class_counts)}  # type: ignore[arg-type]
    stage = {"epochs": 1, "objective": "dro_lt", "sampling": sampling, "curve": {"shape": "constant"}}
    return DROLTModule(
        backbone,
        {"joint": LinearClassifier(**sizes)},
        objectives={
            "dro_lt": Robust(
                criterion=CrossEntropy(class_counts), loss=DROLTLoss(**sizes, class_counts=class_counts, ce_weight=0.5)
            )
        },
        schedule=Schedule({"joint": stage}),
        optimizer=StageOptimizer(partial(torch.optim.SGD, momentum=MOMENTUM), lr=0.01, weight_decay=WEIGHT_DECAY),
        class_counts=class_counts,
    )


class EpochTime(pl.Callback):
    """Seconds of the training epoch without the centroid pass (which RefreshCentroids counts itself)."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started


def fit_one_epoch(
    module: DROLTModule, data: LongTailDataModule, *, precision: Any, **trainer: Any
) -> tuple[float, float]:
    """Trains one epoch; returns its seconds and those of the centroid pass before it."""
    centroids, clock = RefreshCentroids(), EpochTime()  # callbacks start in this order: the clock after the pass
    trainer_of([centroids, clock], precision=precision, **trainer).fit(module, datamodule=data)
    return clock.seconds, centroids.seconds


def trainer_of(callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    """A Trainer of one epoch that writes and shows nothing."""
    return pl.Trainer(
        max_epochs=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        **{"accelerator": "auto", "devices": 1, **options},
    )
