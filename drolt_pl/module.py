"""The LightningModule that owns backbone, classifiers, loss and stage schedule."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drolt_pl.centroids import ClassStatistics, step_centroids
from drolt_pl.layers import LayerTaps
from drolt_pl.losses import CrossEntropy, DROLTLoss, LayeredDROLTLoss
from drolt_pl.metrics import shot_groups
from drolt_pl.objectives import Batch, Classification, Objective, Robust
from drolt_pl.optim import StageOptimizer
from drolt_pl.schedule import Schedule
from drolt_pl.staging import StagedModule

CENTROIDS = ("epoch", "batch", "ema")


class NonFiniteLossError(RuntimeError):
    """A term of the loss became infinite or not a number."""


class DROLTModule(StagedModule):
    """DRO-LT training: CE warm-up, joint training with the robust loss, classifier re-balancing, in one `fit`.

    Args:
        backbone: images -> features (B, D), with an attribute `num_features`.
        classifiers: Classifiers by the stage that owns them (see `Schedule.classifier_of`); each has
            `begin(previous, generator=...)`.
        loss: The robust loss and its mixing weight; where it is of several layers, with `taps`.
        schedule: The stages.
        optimizer: Builds the optimizer and sets its rates per epoch.
        class_counts: Training images per class, (C,).
        objectives: What stages minimise, by the name that a stage gives; by default `ce` and `dro_lt` with plain
            cross-entropy.
        centroids: What the loss measures against: `epoch` (means over the training set at the epoch's start),
            `batch` (means of the batch) or `ema` (the epoch's, moved at every step). Paper Sec. 6 compares them.
        ema_decay: Weight of the old centroid in `ema`.
        many: Classes with more training images are "many".
        few: Classes with fewer are "few".
        seed: Seeds the classifiers built at stage borders.
        taps: The inner layers whose features the loss measures, in place of those before the classifier.
        recipe: Plain containers from which `load_model` builds backbone and classifiers; stored in checkpoints.
        checkpoint_dir: Where `start_from: best` finds the best epoch of the stage before.

    Buffers: `centroids` (C, D), `centroid_counts` (C,), `total_variance` (C,), `effective_dim` (0-d); with taps also
    `layer_centroids` (C, sum of the layers' widths).
    """

    total_variance: Tensor
    effective_dim: Tensor
    layer_centroids: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        classifiers: Mapping[str, nn.Module],
        *,
        loss: DROLTLoss | LayeredDROLTLoss,
        schedule: Schedule,
        optimizer: StageOptimizer,
        class_counts: Sequence[int],
        objectives: Mapping[str, Objective] | None = None,
        centroids: str = "epoch",
        ema_decay: float = 0.9,
        many: int = 100,
        few: int = 20,
        seed: int = 0,
        taps: LayerTaps | None = None,
        recipe: Mapping[str, Any] | None = None,
        checkpoint_dir: str | Path | None = None,
    ) -> None:
        if centroids not in CENTROIDS:
            raise ValueError(f"centroids must be one of {CENTROIDS}, got {centroids!r}")
        if objectives is None:
            criterion = CrossEntropy(class_counts)
            objectives = {"ce": Classification(criterion=criterion), "dro_lt": Robust(criterion=criterion)}
        super().__init__(
            backbone,
            classifiers,
            objectives=objectives,
            schedule=schedule,
            seed=seed,
            checkpoint_dir=checkpoint_dir,
        )
        self.loss, self.stage_optimizer, self.recipe = loss, optimizer, recipe
        self.centroid_source, self.ema_decay, self.taps = centroids, ema_decay, taps
        self.groups = shot_groups(torch.as_tensor(class_counts), many, few)
        num_classes, num_features = len(class_counts), int(backbone.num_features)  # type: ignore[arg-type]
        self.register_buffer("centroids", torch.zeros(num_classes, num_features))
        self.register_buffer("centroid_counts", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("total_variance", torch.zeros(num_classes))
        self.register_buffer("effective_dim", torch.tensor(float(num_features)))
        self.feature_widths = [num_features, *(taps.widths if taps else ())]
        if taps is not None:
            self.register_buffer("layer_centroids", torch.zeros(num_classes, sum(taps.widths)))
        self.measure_with(class_counts, many=many, few=few, distance=loss.distance)
        self.images_seen = 0
        self._sums: dict[str, tuple[Tensor | float, int]] = {}
        # Equal on all ranks by construction: DDP need not send them again at every step.
        equal = ("centroids", "centroid_counts", "total_variance", "effective_dim", "layer_centroids")
        self._ddp_params_and_buffers_to_ignore = [name for name in equal if hasattr(self, name)]

    # ---- the model ----

    def embed(self, images: Tensor) -> Tensor:
        """Features of images (B, ...) that centroids are means of: those of `feature_widths` side by side."""
        features = self.features(images)
        measured = self.to_measured(features)
        if self.taps is None:
            return measured
        return torch.cat([measured, self.loss.normalise(self.loss_features(features))], dim=1)

    def to_measured(self, features: Tensor) -> Tensor:
        """Features before the classifier (B, D) as the loss would measure them."""
        loss = self.loss if isinstance(self.loss, DROLTLoss) else self.loss.losses[0]
        return loss.normalise(features)

    def loss_features(self, features: Tensor) -> Tensor:
        """What the robust loss is of: the features (B, D), or the tapped layers' of the same forward pass."""
        return features if self.taps is None else self.taps.features()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the stage's classifier."""
        logits: Tensor = self.classifier(self.features(images))
        return logits

    # ---- centroids: the protocol of RefreshCentroids ----

    def needs_centroids(self, epoch: int) -> bool:
        """Whether the epoch's stage measures against centroids, or begins with a classifier that is fitted to them."""
        return self.schedule.stage_at(epoch).uses_centroids or self.fits(epoch)

    def set_statistics(self, statistics: ClassStatistics, *layers: ClassStatistics) -> None:
        """Takes over centroids, counts, variances and dimension, here and in the loss, and those of tapped layers."""
        self.centroids.copy_(statistics.centroids)
        self.centroid_counts.copy_(statistics.counts)
        self.total_variance.copy_(statistics.total_variance)
        self.effective_dim.copy_(statistics.effective_dim)
        if layers:
            self.layer_centroids.copy_(torch.cat([layer.centroids for layer in layers], dim=1))
        losses = [self.loss] if isinstance(self.loss, DROLTLoss) else self.loss.losses
        for loss, measured in zip(losses, layers or [statistics], strict=True):
            loss.set_statistics(measured.total_variance, measured.effective_dim)

    def step_centroids(self, features: Tensor, targets: Tensor) -> Tensor:
        """The centroids that the loss of this step uses, (C, D), of its features (B, D) and targets (B,)."""
        known = self.centroids if self.taps is None else self.layer_centroids
        used, kept = step_centroids(self.centroid_source, known, features, targets, decay=self.ema_decay)
        if kept is not known:
            known.copy_(kept)
        return used

    def has_current_centroids(self) -> bool:
        """Whether centroids are there, and are those of the weights in force."""
        unmoved = not self.stage.trains("backbone") and not self.stage.shift_bn
        return (self.needs_centroids(self.current_epoch) or unmoved) and bool(self.centroid_counts.any())

    # ---- training ----

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.stage_optimizer.build({**self.parameter_groups(), "eps": list(self.loss.parameters())})

    def on_train_epoch_start(self) -> None:
        self.prepare_epoch(self.current_epoch)
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        factor = self.schedule.lr_factor(self.current_epoch)
        rates = self.stage_optimizer.set_rates(optimizer, self.stage, factor)
        if self.fits(self.current_epoch):
            self.fit_classifier()
        logged = {f"lr/{group}": lr for group, lr in rates.items()}
        order = [stage.name for stage in self.schedule.stages].index(self.stage.name)
        self.log_dict({"stage": float(order), **logged, **self._radii_logs()}, on_step=False, on_epoch=True)

    def _radii_logs(self) -> dict[str, Tensor]:
        """Mean radius by shot group, once the statistics that it may need are there."""
        if not self.stage.uses_centroids:
            return {}
        radii = self.loss.radii().detach()
        return {
            f"eps/{name}": radii[index.to(radii.device)].mean() for name, index in self.groups.items() if len(index)
        }

    def training_features(self, images: Tensor) -> Tensor:
        """Features as by `features`, with gradient where the stage trains the backbone."""
        with nullcontext() if self.stage.trains("backbone") else torch.no_grad():
            return self.features(images)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        if not self.learns(self.stage):
            # Lightning and DDP want a loss: this one moves nothing, since the backbone's rates are 0.
            return 0.0 * next(self.backbone.parameters()).sum()
        images, targets, *mixed = batch
        partners, shares = mixed or (None, None)
        drawn = Batch(images, targets, partners, shares, views=self.stage.views)
        terms: dict[str, Tensor] = self.objectives[self.stage.objective](self, drawn)
        self._add_up(terms, len(batch[1]))
        self._check_finite(terms, batch_idx)
        return terms["loss"]

    def _add_up(self, terms: Mapping[str, Tensor], size: int) -> None:
        """Logs the epoch's mean of every term with its last batch: `log` in every step takes a millisecond of it.

        A term that some steps lack is the mean over those that have it.
        """
        for name, value in terms.items():
            total, seen = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + size * value.detach(), seen + size
        if self.trainer.is_last_batch:
            means = {f"train/{name}": total / seen for name, (total, seen) in self._sums.items()}
            self.log_dict(means, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
            self._sums = {}

    def _check_finite(self, terms: Mapping[str, Tensor], step: int) -> None:
        # Reading a value back makes the host wait for an accelerator: there, every 50 steps and at an epoch's end.
        waits = self.device.type != "cpu" and step % 50 and not self.trainer.is_last_batch
        if waits or bool(terms["loss"].isfinite()):
            return
        name, value = next((name, value) for name, value in terms.items() if not bool(value.isfinite()))
        raise NonFiniteLossError(
            f"train/{name} is {value.item()} in epoch {self.current_epoch} (stage {self.stage.name}), step {step}: "
            "lower optimizer.lr or the stage's lr, or set loss.feature_norm=l2"
        )

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        # Every rank's share of a global batch is equal in size (data.samplers).
        if self.learns(self.stage):
            self.images_seen += len(batch[1]) * self.trainer.world_size

    # ---- checkpoints ----

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["drolt_pl"] = {
            "recipe": self.recipe,
            "stage": self.stage.name,
            "classifier": self.schedule.classifier_of(self.stage.name),
            "images_seen": self.images_seen,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.images_seen = checkpoint["drolt_pl"]["images_seen"]
