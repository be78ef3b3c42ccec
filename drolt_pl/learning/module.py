"""The LightningModule that owns backbone, classifiers, objectives and stage schedule."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from drolt_pl.backbones import Backbone
from drolt_pl.centroids import ClassStatistics, broadcast_buffers
from drolt_pl.classifiers import Classifier
from drolt_pl.groups import FEW, MANY
from drolt_pl.learning.evaluation import Evaluation
from drolt_pl.learning.objectives import Objectives
from drolt_pl.learning.optim import StageOptimizer
from drolt_pl.learning.schedule import Schedule, Stage
from drolt_pl.learning.stages import ByName, Stages, freeze
from drolt_pl.learning.terms import TermMeans
from drolt_pl.lightning_internals import not_sent_by_ddp
from drolt_pl.losses import DROLTLoss, LayeredDROLTLoss, Measure
from drolt_pl.metrics import shot_groups
from drolt_pl.objectives import Batch, Objective


class DROLTModule(pl.LightningModule):
    """Trains all stages of a method in one `fit`; for DRO-LT: CE warm-up, the robust loss, a re-balanced classifier.

    The trainer needs the callbacks that `stage_callbacks()` makes.

    Args:
        backbone: images -> features (B, D), or (B, E, D) of E experts.
        classifiers: Classifiers by the stage that owns them, see `Schedule.classifier_of`.
        objectives: The objectives by name; each stage names one.
        schedule: The stages.
        optimizer: Builds the optimizer and sets its rates per epoch.
        class_counts: Training images per class, (C,).
        measure: How the nearest centroid is measured; by default as in the robust loss.
        many: Classes with more training images are "many".
        few: Classes with fewer are "few".
        seed: Seeds the classifiers that stages start.
        description: Plain values from which `Model.load` builds the model; stored in checkpoints.
        checkpoint_dir: Where `start_from: best` finds the best epoch of the stage before.

    Attributes:
        stages: The stage in force, and its classifier.
        evaluation: The metrics of validation and tests.
        groups: Class indices by shot group.
        images_seen: Images that went forward in training, on all ranks.
        centroids_are_current: Whether the centroids are those of the weights in force.

    Buffers are `centroids` (C, D), `centroid_counts` (C,), `total_variance` (C,) and `effective_dim` (0-d).
    """

    centroids: Tensor
    centroid_counts: Tensor
    total_variance: Tensor
    effective_dim: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classifiers: Mapping[str, Classifier],
        *,
        objectives: Mapping[str, Objective],
        schedule: Schedule,
        optimizer: StageOptimizer,
        class_counts: Sequence[int],
        measure: Measure | None = None,
        many: int = MANY,
        few: int = FEW,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
        checkpoint_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        # Channels last is faster on CPUs and GPUs alike (0.19 against 0.23 s a ResNet-32 step in bf16 on two cores).
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.classifiers, self.objectives = ByName(classifiers), Objectives(objectives)
        self.schedule, self.description = schedule, description
        self.stages = Stages(schedule, classifiers, seed=seed, checkpoint_dir=checkpoint_dir)
        self.stage_optimizer, self.images_seen, self.centroids_are_current = optimizer, 0, False
        measure = measure or (Measure() if self.loss is None else self.loss.measure)
        self.evaluation = Evaluation(class_counts, measure, many=many, few=few)
        self.groups = shot_groups(torch.as_tensor(class_counts), many, few)
        self.terms = TermMeans()
        num_classes, width = len(class_counts), backbone.num_features * backbone.num_experts
        self.register_buffer("centroids", torch.zeros(num_classes, width))
        self.register_buffer("centroid_counts", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("total_variance", torch.zeros(num_classes))
        self.register_buffer("effective_dim", torch.tensor(float(width)))
        robust = [f"objectives.{name}.centroids" for name in self.objectives.robust]
        not_sent_by_ddp(self, ["centroids", "centroid_counts", "total_variance", "effective_dim", *robust])

    # ---- the model ----

    @property
    def stage(self) -> Stage:
        """The stage in force."""
        return self.stages.stage

    @property
    def classifier(self) -> Classifier:
        """The classifier of the stage in force."""
        return self.stages.classifier

    @property
    def loss(self) -> DROLTLoss | LayeredDROLTLoss | None:
        """The robust loss; null for a method without one."""
        return self.objectives.loss

    @property
    def objective(self) -> Objective:
        """The objective of the stage in force."""
        return self.objectives.named(self.stage.objective)

    def features(self, images: Tensor) -> Tensor:
        """The classifier's features of images (B, ...): (B, D), or (B, E, D) of E experts."""
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone(images)
        return features

    def training_features(self, images: Tensor) -> Tensor:
        """The same features, with gradient if the stage trains the backbone."""
        with nullcontext() if self.stage.trains("backbone") else torch.no_grad():
            return self.features(images)

    def embed(self, images: Tensor) -> Tensor:
        """Concatenates all features that have centroids, (B, sum of `feature_widths`)."""
        features = self.features(images).flatten(1)
        return torch.cat([self.evaluation.measure.normalise(features), *self.objectives.tapped()], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the stage's classifier."""
        logits: Tensor = self.classifier(self.features(images))
        return logits

    def train(self, mode: bool = True) -> "DROLTModule":
        """Sets train mode, except for frozen parts: a frozen BatchNorm must not move its statistics."""
        super().train(mode)
        freeze(self.stage, self.backbone, self.classifier)
        return self

    # ---- centroids: the protocol of RefreshCentroids ----

    @property
    def feature_widths(self) -> list[int]:
        """Widths of the features that `embed` concatenates; the first is that of `centroids`."""
        return [self.centroids.shape[1], *self.objectives.layer_widths]

    def needs_centroids(self, epoch: int) -> bool:
        """Whether the epoch's stage measures against centroids, or the epoch begins with a fit to them."""
        return self.schedule.stage_at(epoch).uses_centroids or self.stages.fits(epoch)

    def set_statistics(self, statistics: Sequence[ClassStatistics]) -> None:
        """Takes the statistics of every kind of features that `embed` concatenates."""
        own = statistics[0]
        self.centroids.copy_(own.centroids)
        self.centroid_counts.copy_(own.counts)
        self.total_variance.copy_(own.total_variance)
        self.effective_dim.copy_(own.effective_dim)
        self.objectives.set_statistics(own, statistics[1:])
        self.centroids_are_current = True

    def known_centroids(self) -> tuple[Tensor, Tensor] | None:
        """Centroids (C, D) and counts (C,); null before the first centroid pass."""
        return (self.centroids, self.centroid_counts) if bool(self.centroid_counts.any()) else None

    # ---- training ----

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.stage_optimizer.build(self.objectives.parameter_groups(self.backbone, self.stages), self.backbone)

    def on_train_epoch_start(self) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        rates = self.stage_optimizer.set_rates(optimizer, self.stage, self.schedule.lr_factor(self.current_epoch))
        logged = {"stage": float(self.schedule.place(self.stage.name)), **{f"lr/{g}": lr for g, lr in rates.items()}}
        self.log_dict(logged, on_step=False, on_epoch=True)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        parts = Batch.of(batch, self.stage.views)
        terms: dict[str, Tensor] = self.objective(self, parts)
        self.terms.add(terms, len(parts.targets))
        return terms["loss"]

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self.centroids_are_current = False

    def on_train_batch_end(self, outputs: object, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        # Every rank's share of a global batch is equal in size (data.samplers).
        self.images_seen += Batch.of(batch).size() * self.stage.passes * self.trainer.world_size
        if self.trainer.is_last_batch:
            self.log_dict(self.terms.means(), on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    # ---- evaluation ----

    def on_validation_epoch_start(self) -> None:
        broadcast_buffers(self)  # until here the ranks' BatchNorm statistics were their own
        unmoved = not self.stage.trains("backbone") and not self.stage.shift_bn
        current = self.needs_centroids(self.current_epoch) or unmoved
        self.evaluation.begin_validation(self.known_centroids() if current else None)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch)
        self.objective.validate(*batch)

    def on_validation_epoch_end(self) -> None:
        for name, value in (found := self.evaluation.validated()).items():
            self.log(f"val/{name}", value, prog_bar=name in ("acc", "acc_ncm"))
        self.objective.validated(found)

    def on_test_epoch_start(self) -> None:
        self.evaluation.begin_test(self.known_centroids(), self.device)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._measure(batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        self.evaluation.end_test()

    def _measure(self, batch: tuple[Tensor, Tensor], test: int | None = None) -> None:
        features = self.features(batch[0])
        self.evaluation.update(self.classifier(features), features.flatten(1), batch[1], test)

    # ---- checkpoints ----

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["drolt_pl"] = {
            "description": self.description,
            "stage": self.stage.name,
            "classifier": self.schedule.classifier_of(self.stage.name),
            "images_seen": self.images_seen,
            "ended": dict(self.schedule.ended),
            "radii": self.objectives.known_radii(self.schedule, self.stage.name),
            "prior": self.objectives.prior(self.stage),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.images_seen = checkpoint["drolt_pl"]["images_seen"]


def ours(pl_module: pl.LightningModule) -> DROLTModule:
    """The module as a `DROLTModule`; raises TypeError for another one, which these callbacks cannot serve."""
    if not isinstance(pl_module, DROLTModule):
        raise TypeError(f"this callback needs a DROLTModule, got {type(pl_module).__name__}")
    return pl_module
