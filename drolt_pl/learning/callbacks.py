"""Callbacks of training. A stage starts in this order: it is entered, then its centroids, then its fit."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from drolt_pl.centroids import (
    ClassStatistics,
    blockwise_statistics,
    broadcast_buffers,
    dataset_features,
    dataset_statistics,
    evaluating,
)
from drolt_pl.classifiers import HeldOut
from drolt_pl.learning.averaging import AverageWeights
from drolt_pl.learning.module import DROLTModule, ours
from drolt_pl.learning.protocols import Batches, ChoosesEpochs, Embeds, HasCentroids, TakesStatistics, Tracks, data_of
from drolt_pl.ranges import Seed


class EnterStage(pl.Callback):
    """Puts the stage of every epoch in force, and starts each stage at its first epoch.

    The start loads the weights of the best epoch before (`start_from: best`), starts the stage's own classifier, and
    clears the momentum.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = ours(pl_module)
        epoch = trainer.current_epoch
        module.stages.use(module.schedule.stage_at(epoch).name)
        if module.schedule.enters(epoch):
            self._enter(module)
        module.objective.begin_epoch(module.schedule.progress(epoch))
        module.train()

    def _enter(self, module: DROLTModule) -> None:
        name = module.stage.name
        weights = module.stages.start_weights(module.device)
        if weights is not None:
            module.load_state_dict(weights)
        broadcast_buffers(module.backbone)
        module.stages.start(name)
        module.centroids_are_current = False
        if module.schedule.before(name) is not None:
            optimizer = module.optimizers(use_pl_optimizer=False)
            assert isinstance(optimizer, torch.optim.Optimizer)
            optimizer.state.clear()


class RefreshCentroids(pl.Callback):
    """Recomputes the class centroids over the whole training set, for every epoch that needs them.

    The set runs un-augmented and un-resampled through the model in eval mode, without gradient. Each rank takes its
    share, and sums are reduced in float64. Random states and train/eval flags are restored. The weights at an epoch's
    start are those of the validation before it, so one pass serves both.

    The callback works with any LightningModule that has `embed(images) -> (B, D)` and buffers `centroids` (C, D) and
    `centroid_counts` (C,). Optional are buffers `total_variance` (C,) and `effective_dim` (0-d), and
    `needs_centroids(epoch) -> bool` (default: every epoch needs them). A `TakesStatistics` takes the statistics itself.

    Args:
        dataloader: Batches (images, targets) of this rank's share of the training set; by default
            `trainer.datamodule.centroid_dataloader()`.
        always: Whether to run the pass also in epochs that do not need it.

    Attributes:
        seconds: Time spent in all passes so far; logged as `time/centroid_s`.

    Source: Samuel & Chechik 2021, Sec. 6, "Estimating centroids".
    """

    def __init__(self, dataloader: Batches | None = None, *, always: bool = False) -> None:
        self.dataloader, self.always = dataloader, always
        self.seconds = 0.0
        self._plain: _Plain | None = None
        self._trained: TakesStatistics | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._trained = owner = self._owner(pl_module)
        if self._needed(trainer, owner) and not owner.centroids_are_current:
            self.refresh(trainer, pl_module)

    def on_train_batch_start(self, *_: object) -> None:
        if self._trained is not None:  # asked once an epoch: `isinstance` of a protocol takes longer than small kernels
            self._trained.centroids_are_current = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        training = not trainer.sanity_checking and trainer.state.fn == "fit"
        if training and self._needed(trainer, self._owner(pl_module)):
            self.refresh(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The tested weights may be of any epoch, so their centroids are computed, not remembered.
        self.refresh(trainer, pl_module)

    def refresh(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Runs the pass and hands the statistics to the module; every rank must call it."""
        started = time.perf_counter()
        broadcast_buffers(pl_module)
        owner, module = self._owner(pl_module), _with_centroids(pl_module)

        def embed(images: Tensor) -> Tensor:
            with trainer.precision_plugin.forward_context():
                return module.embed(images)

        with isolate_rng(), evaluating(pl_module):
            loader = self.dataloader if self.dataloader is not None else data_of(trainer).centroid_dataloader()
            statistics = blockwise_statistics(
                embed,
                _tracked(trainer, loader),
                num_classes=len(module.centroids),
                widths=owner.feature_widths,
                device=pl_module.device,
            )
            owner.set_statistics(statistics)
        self.seconds += time.perf_counter() - started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("time/centroid_s", self.seconds)

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.seconds = state_dict["seconds"]

    def _needed(self, trainer: pl.Trainer, owner: TakesStatistics) -> bool:
        return self.always or owner.needs_centroids(trainer.current_epoch)

    def _owner(self, pl_module: pl.LightningModule) -> TakesStatistics:
        if isinstance(pl_module, TakesStatistics):
            return pl_module
        self._plain = self._plain or _Plain(_with_centroids(pl_module), dict(pl_module.named_buffers(recurse=False)))
        return self._plain


class _Plain:
    """Gives a module with plain buffers the interface of `TakesStatistics`."""

    def __init__(self, module: HasCentroids, buffers: Mapping[str, Tensor]) -> None:
        self.module, self.buffers, self.centroids_are_current = module, buffers, False

    @property
    def feature_widths(self) -> Sequence[int]:
        return [self.module.centroids.shape[1]]

    def needs_centroids(self, epoch: int, /) -> bool:
        return self.module.needs_centroids(epoch) if isinstance(self.module, ChoosesEpochs) else True

    def set_statistics(self, statistics: Sequence[ClassStatistics], /) -> None:
        found = statistics[0]
        self.module.centroids.copy_(found.centroids)
        self.module.centroid_counts.copy_(found.counts)
        for name, value in (("total_variance", found.total_variance), ("effective_dim", found.effective_dim)):
            if name in self.buffers:
                self.buffers[name].copy_(value)
        self.centroids_are_current = True


class FitClassifier(pl.Callback):
    """Fits the classifier of a starting stage to validation images and centroids, if that classifier needs a fit.

    A stage that runs no epoch fits its classifier at the start of its test.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fit(trainer, ours(pl_module))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fit(trainer, ours(pl_module))

    def _fit(self, trainer: pl.Trainer, module: DROLTModule) -> None:
        if not module.stages.to_fit:
            return
        images = data_of(trainer).val_dataloader() or None
        held_out = None
        with torch.inference_mode(False):  # in a test's inference mode no classifier could take gradient steps
            if images is not None:
                with evaluating(module), trainer.precision_plugin.forward_context():
                    held_out = HeldOut(*dataset_features(module.features, images, device=module.device))
            module.classifier.fit(held_out, module.centroids, module.centroid_counts)
            if module.classifier.measures:
                self._measure(trainer, module)
        module.stages.to_fit = False

    def _measure(self, trainer: pl.Trainer, module: DROLTModule) -> None:
        """Gives the classifier the class means of its `measured` features."""
        classifier = module.classifier

        def measured(images: Tensor) -> Tensor:
            return classifier.measured(module.features(images))

        with evaluating(module), trainer.precision_plugin.forward_context():
            means = dataset_statistics(
                measured,
                data_of(trainer).centroid_dataloader(),
                num_classes=module.centroids.shape[0],
                num_features=module.centroids.shape[1],
                device=module.device,
            ).centroids
        classifier.set_means(means)


def stage_callbacks() -> list[pl.Callback]:
    """The callbacks that a `DROLTModule` needs, in their order."""
    return [EnterStage(), AverageWeights(), RefreshCentroids(), FitClassifier()]


class SeedEpoch(pl.Callback):
    """Seeds torch's global generators from (the run's seed, epoch, rank), since checkpoints hold no random state.

    So dropout and stochastic depth draw the same in a resumed run. The data has generators of its own.
    """

    def __init__(self, seed: Seed) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        sequence = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def _with_centroids(pl_module: pl.LightningModule) -> HasCentroids:
    buffers = {name for name, _ in pl_module.named_buffers(recurse=False)}
    if not isinstance(pl_module, Embeds) or not {"centroids", "centroid_counts"} <= buffers:
        raise TypeError(
            f"RefreshCentroids needs a module with embed(images) and the buffers centroids and centroid_counts; "
            f"{type(pl_module).__name__} lacks some of them"
        )
    return cast(HasCentroids, pl_module)


def _tracked(trainer: pl.Trainer, loader: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """The loader's batches, counted in a line of the progress bar if the bar offers one."""
    bar = trainer.progress_bar_callback
    yield from bar.track(loader, "centroids") if isinstance(bar, Tracks) else loader
