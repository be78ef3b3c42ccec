"""A source without pixels: stored features (N, D) train and evaluate as images do."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.data_tools import at_epoch
from torch import Tensor, nn

from drolt_pl import DROLTLoss, DROLTModule
from drolt_pl.backbones import Backbone
from drolt_pl.classifiers import LinearClassifier
from drolt_pl.data import Catalogue, CutMix, LongTailDataModule, Mixup, Sampling, Source
from drolt_pl.errors import SettingError
from drolt_pl.learning.callbacks import stage_callbacks
from drolt_pl.learning.optim import StageOptimizer
from drolt_pl.learning.schedule import Schedule
from drolt_pl.losses import CrossEntropy
from drolt_pl.objectives.robust import Robust

WIDTH = 6


class FeatureSource(Source):
    """Features that lie in memory, (N, D)."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = torch.from_numpy(features)
        self.shape, self.dtype = tuple(features.shape[1:]), self.features.dtype

    def fetch(self, indices: Any, keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1) -> Tensor:
        return self.features[torch.from_numpy(indices)]


class Clouds(LongTailDataModule):
    """Three Gaussian clouds; each sample's index is its first feature."""

    def catalogue(self) -> Catalogue:
        targets = np.repeat(np.arange(3), 60)
        features = np.random.default_rng(0).normal(targets[:, None], 0.3, (180, WIDTH)).astype(np.float32)
        features[:, 0] = np.arange(180)
        return Catalogue(
            names=np.arange(180).astype(np.bytes_),
            targets=targets,
            official=np.full(180, "train"),
            class_names=["low", "middle", "high"],
            source=FeatureSource(features),
        )


def clouds(**kwargs: Any) -> Clouds:
    rules = {"imbalance_ratio": 10, "val_per_class": 5, "test_per_class": 10}
    return Clouds(**{**rules, "batch_size": 8, **kwargs})


def stream(loader: Any) -> list[int]:
    found = []
    for features, targets in loader:
        assert (features.dtype, features.shape) == (torch.float32, (len(targets), WIDTH))
        assert (features[:, 0].long() // 60 == targets).all()
        found += features[:, 0].long().tolist()
    return found


@pytest.mark.parametrize(("loader", "num_workers"), [("memory", 0), ("workers", 0), ("workers", 2)])
def test_every_part_has_its_loader(loader: str, num_workers: int) -> None:
    module = at_epoch(clouds(loader=loader, num_workers=num_workers), 0)
    assert (module.num_classes, module.sample_shape, module.class_counts) == (3, (WIDTH,), [45, 15, 5])
    assert sorted(stream(module.train_dataloader())) == module.split.train.tolist()
    assert stream(module.centroid_dataloader()) == module.split.train.tolist()
    assert stream(module.val_dataloader()) == module.split.val.tolist()
    assert stream(module.test_dataloader()) == module.split.test.tolist()
    assert stream(module.pool_dataloader()) == module.split.pool.tolist()


def test_every_loader_gives_the_same_epoch() -> None:
    plan = partial(Sampling, "class_aware", 2)
    epochs = [
        stream(at_epoch(clouds(loader=loader, plan=lambda epoch: plan()), 3).train_dataloader())
        for loader in ("memory", "workers")
    ]
    assert epochs[0] == epochs[1]


def test_features_are_no_images() -> None:
    module = clouds()
    module.setup()
    for fact in ("in_channels", "image_size"):
        with pytest.raises(RuntimeError, match=rf"samples of shape \({WIDTH},\) are no images"):
            getattr(module, fact)
    for setting in ({"mean": [0.0], "std": [1.0]}, {"augment": lambda images, generator: images}):
        with pytest.raises(SettingError, match=rf"^{next(iter(setting))} must be null for samples that are not images"):
            clouds(**setting).setup()


def test_features_can_be_mixed_but_not_cut() -> None:
    def loader(mixing: Any) -> Any:
        plan, mixings = (lambda epoch: Sampling(mixing="mine")), {"mine": mixing}
        return at_epoch(clouds(plan=plan, mixings=mixings), 0).train_dataloader()

    plain = next(iter(at_epoch(clouds(), 0).train_dataloader()))[0]
    mixed, _, _, shares = next(iter(loader(Mixup())))
    assert mixed.shape == plain.shape
    kept = shares == 1
    assert not torch.equal(mixed[~kept], plain[~kept])
    with pytest.raises(SettingError, match=r"^mixing must not be cutmix for samples that are not images"):
        next(iter(loader(CutMix())))


class Widen(Backbone):
    """A backbone of features."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 8
        self.layer = nn.Linear(WIDTH - 1, 8)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.layer(features[:, 1:]))


def test_the_module_trains_on_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes, counts = {"num_features": 8, "num_classes": 3}, [45, 15, 5]
    stage = {"epochs": 6, "objective": "dro_lt", "sampling": "class_aware", "curve": {"shape": "constant"}}
    schedule = Schedule({"joint": stage})
    module = DROLTModule(
        Widen(),
        {"joint": LinearClassifier(**sizes)},
        objectives={"dro_lt": Robust(criterion=CrossEntropy(counts), loss=DROLTLoss(**sizes, class_counts=counts))},
        schedule=schedule,
        optimizer=StageOptimizer(partial(torch.optim.SGD, momentum=0.9), lr=0.05, weight_decay=0.0),
        class_counts=counts,
    )
    trainer = pl.Trainer(
        max_epochs=6,
        accelerator="cpu",
        callbacks=stage_callbacks(),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=clouds(plan=schedule.stage_at))
    assert float(trainer.callback_metrics["val/acc"]) > 0.9
