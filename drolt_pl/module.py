"""The LightningModule that owns backbone, classifiers, loss and stage schedule."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drolt_pl.centroids import ClassStatistics, broadcast_buffers, step_centroids
from drolt_pl.evaluation import EvaluatedModule
from drolt_pl.losses import CrossEntropy, DROLTLoss
from drolt_pl.metrics import shot_groups
from drolt_pl.objectives import Batch, Classification, Objective, Robust
from drolt_pl.optim import StageOptimizer
from drolt_pl.schedule import Schedule, Stage

CENTROIDS = ("epoch", "batch", "ema")


class NonFiniteLossError(RuntimeError):
    """A term of the loss became infinite or not a number."""


class DROLTModule(EvaluatedModule):
    """DRO-LT training: CE warm-up, joint training with the robust loss, classifier re-balancing, in one `fit`.

    Args:
        backbone: images -> features (B, D), with an attribute `num_features`.
        classifiers: Classifiers by the stage that owns them (see `Schedule.classifier_of`); each has
            `begin(previous, generator=...)`.
        loss: The robust loss and its mixing weight.
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
        recipe: Plain containers from which `load_model` builds backbone and classifiers; stored in checkpoints.
        checkpoint_dir: Where `start_from: best` finds the best epoch of the stage before.

    Buffers: `centroids` (C, D), `centroid_counts` (C,), `total_variance` (C,), `effective_dim` (0-d).
    """

    centroids: Tensor
    centroid_counts: Tensor
    total_variance: Tensor
    effective_dim: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        classifiers: Mapping[str, nn.Module],
        *,
        loss: DROLTLoss,
        schedule: Schedule,
        optimizer: StageOptimizer,
        class_counts: Sequence[int],
        objectives: Mapping[str, Objective] | None = None,
        centroids: str = "epoch",
        ema_decay: float = 0.9,
        many: int = 100,
        few: int = 20,
        seed: int = 0,
        recipe: Mapping[str, Any] | None = None,
        checkpoint_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        if centroids not in CENTROIDS:
            raise ValueError(f"centroids must be one of {CENTROIDS}, got {centroids!r}")
        # Channels last is faster on CPUs and GPUs alike (0.19 against 0.23 s a ResNet-32 step in bf16 on two cores).
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.classifiers, self.loss = nn.ModuleDict(classifiers), loss
        self.schedule, self.stage_optimizer = schedule, optimizer
        if objectives is None:
            criterion = CrossEntropy(class_counts)
            objectives = {"ce": Classification(criterion=criterion), "dro_lt": Robust(criterion=criterion)}
        self.objectives = nn.ModuleDict(objectives)
        self.centroid_source, self.ema_decay, self.seed = centroids, ema_decay, seed
        self.recipe, self.checkpoint_dir = recipe, checkpoint_dir
        self.groups = shot_groups(torch.as_tensor(class_counts), many, few)
        num_classes, num_features = len(class_counts), int(backbone.num_features)  # type: ignore[arg-type]
        self.register_buffer("centroids", torch.zeros(num_classes, num_features))
        self.register_buffer("centroid_counts", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("total_variance", torch.zeros(num_classes))
        self.register_buffer("effective_dim", torch.tensor(float(num_features)))
        self.measure_with(class_counts, many=many, few=few, distance=loss.distance)
        self.images_seen = 0
        self.stage: Stage = schedule.stage_at(0)
        self._entered: str | None = None
        self._sums: dict[str, Any] = {}
        # Equal on all ranks by construction: DDP need not send them again at every step.
        self._ddp_params_and_buffers_to_ignore = ["centroids", "centroid_counts", "total_variance", "effective_dim"]
        for name, classifier in self.classifiers.items():
            self._begin_classifier(name, classifier)

    # ---- the model ----

    @property
    def classifier(self) -> nn.Module:
        """The classifier of the stage in force."""
        return self.classifiers[self.schedule.classifier_of(self.stage.name)]

    def embed(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, ...), as the loss measures them and centroids are means of them."""
        return self.to_measured(self.features(images))

    def to_measured(self, features: Tensor) -> Tensor:
        """Features as the loss measures them."""
        return self.loss.normalise(features)

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, ...), as the classifier takes them."""
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the stage's classifier."""
        logits: Tensor = self.classifier(self.features(images))
        return logits

    def train(self, mode: bool = True) -> "DROLTModule":
        """Train mode, but for the parts that the stage freezes: a frozen BatchNorm must not move its statistics."""
        super().train(mode)
        for name in ("backbone", "classifier"):
            if not self.stage.trains(name):
                getattr(self, name).eval()
        if mode and self.stage.shift_bn:
            for part in self.backbone.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.train()
        return self

    # ---- stages ----

    def use_stage(self, name: str) -> None:
        """Makes `name` the stage in force, without training it: for evaluation."""
        self.stage = next(stage for stage in self.schedule.stages if stage.name == name)

    def prepare_epoch(self, epoch: int) -> None:
        """Puts the stage of `epoch` in force; at its first epoch enters it. Called by the first hook of the epoch."""
        self.stage = self.schedule.stage_at(epoch)
        if self.schedule.enters(epoch) and self._entered != self.stage.name:
            self._enter(self.stage)
        self._entered = self.stage.name
        self.objectives[self.stage.objective].begin_epoch(self.schedule.progress(epoch))  # type: ignore[operator]
        self.train()

    def _enter(self, stage: Stage) -> None:
        """The edge of a stage: the best epoch of the stage before, its own classifier, no momentum."""
        before = self.schedule.before(stage.name)
        if before is not None and stage.start_from == "best" and before.epochs:
            path = Path(self.checkpoint_dir or ".") / f"{before.name}_best.ckpt"
            self.load_state_dict(torch.load(path, map_location=self.device, weights_only=True)["state_dict"])
        broadcast_buffers(self.backbone)
        if stage.classifier != "keep":
            self._begin_classifier(stage.name, self.classifiers[stage.name])
        if before is not None:
            optimizer = self.optimizers(use_pl_optimizer=False)
            assert isinstance(optimizer, torch.optim.Optimizer)
            optimizer.state.clear()

    def _begin_classifier(self, name: str, classifier: nn.Module) -> None:
        before = self.schedule.before(name)
        previous = None if before is None else self.classifiers[self.schedule.classifier_of(before.name)]
        order = [stage.name for stage in self.schedule.stages].index(name)
        generator = torch.Generator().manual_seed(self.seed * 1000 + order)
        try:
            classifier.begin(previous, generator=generator)  # type: ignore[operator]
        except TypeError as error:
            raise ValueError(f"schedule.stages.{name}.classifier: {error}") from error

    # ---- centroids: the protocol of RefreshCentroids ----

    def needs_centroids(self, epoch: int) -> bool:
        """Whether the epoch's stage measures against centroids."""
        return self.schedule.stage_at(epoch).uses_centroids

    def set_statistics(self, statistics: ClassStatistics) -> None:
        """Takes over centroids, counts, variances and dimension, here and in the loss."""
        self.centroids.copy_(statistics.centroids)
        self.centroid_counts.copy_(statistics.counts)
        self.total_variance.copy_(statistics.total_variance)
        self.effective_dim.copy_(statistics.effective_dim)
        self.loss.set_statistics(self.total_variance, self.effective_dim)

    def step_centroids(self, features: Tensor, targets: Tensor) -> Tensor:
        """The centroids that the loss of this step uses, (C, D), of its features (B, D) and targets (B,)."""
        used, kept = step_centroids(self.centroid_source, self.centroids, features, targets, decay=self.ema_decay)
        if kept is not self.centroids:
            self.centroids.copy_(kept)
        return used

    def has_current_centroids(self) -> bool:
        """Whether centroids are there, and are those of the weights in force."""
        unmoved = not self.stage.trains("backbone") and not self.stage.shift_bn
        return (self.needs_centroids(self.current_epoch) or unmoved) and bool(self.centroid_counts.any())

    # ---- training ----

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.stage_optimizer.build(
            {
                "backbone": self.backbone.parameters(),
                "classifier": [*self.classifiers.parameters(), *self.objectives.parameters()],
                "eps": self.loss.parameters(),
            }
        )

    def on_train_epoch_start(self) -> None:
        self.prepare_epoch(self.current_epoch)
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        factor = self.schedule.lr_factor(self.current_epoch)
        rates = self.stage_optimizer.set_rates(optimizer, self.stage, factor)
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
        terms: dict[str, Tensor] = self.objectives[self.stage.objective](self, Batch(*batch))
        self._add_up(terms, len(batch[1]))
        self._check_finite(terms, batch_idx)
        return terms["loss"]

    def _add_up(self, terms: Mapping[str, Tensor], size: int) -> None:
        """Logs the epoch's mean of every term with its last batch: `log` in every step takes a millisecond of it."""
        self._sums["size"] = self._sums.get("size", 0) + size
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + size * value.detach()
        if self.trainer.is_last_batch:
            total = self._sums.pop("size")
            means = {f"train/{name}": value / total for name, value in self._sums.items()}
            self.log_dict(means, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
            self._sums = {}

    def _check_finite(self, terms: Mapping[str, Tensor], step: int) -> None:
        # Reading a value back makes the host wait for an accelerator: there, only every 50 steps.
        if (self.device.type != "cpu" and step % 50) or bool(terms["loss"].isfinite()):
            return
        name, value = next((name, value) for name, value in terms.items() if not bool(value.isfinite()))
        raise NonFiniteLossError(
            f"train/{name} is {value.item()} in epoch {self.current_epoch} (stage {self.stage.name}), step {step}: "
            "lower optimizer.lr or the stage's lr, or set loss.feature_norm=l2"
        )

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        # Every rank's share of a global batch is equal in size (data.samplers).
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
