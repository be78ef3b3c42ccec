"""Measures what the robust loss relies on: how far centroids move, and how far they are from the true means."""

import time

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from drolt_pl.learning.module import DROLTModule, ours
from drolt_pl.learning.protocols import LogsHistograms, data_of
from drolt_pl.losses import DROLTLoss, LayeredDROLTLoss
from drolt_pl.metrics import CONFIDENCE_UNITS, CalibrationError

MAX_CONFUSION = 1000  # classes up to which the confusion matrix is kept


class Diagnostics(pl.Callback):
    """Logs the movement and the error of centroids, by shot group, in every epoch of a stage that uses centroids.

    - `drift/*`: distance that a class's centroid has moved since the epoch before, mean over classes.
      `drift_over_eps/*` is this distance over the class's radius: at 1 the centroid leaves its ball within an epoch.
    - `coverage/*`: probability p_c(eps_c) that the ball holds the true centroid, mean over classes. It is logged if the
      loss measures Euclidean distance.
    - `inflation/*`: distance between a class's training centroid and its mean over validation images, over the distance
      that their numbers n and m explain: sqrt(sum_c |mu_c - v_c|^2 / sum_c tau_c^2 (1/n_c + 1/m_c)). It is 1 if
      training images are samples like any other, and it grows as the network learns them by heart. Radii from training
      features are too small by this factor.
    - `coverage_held_out/*`: share of classes whose mean over validation images lies in the ball.
      `coverage_held_out_expected/*` is the share to expect if training images were samples like any other. A mean of
      few images has an error of its own, so both lie below `coverage` for large n.

    Every epoch also logs `batch/global`, `batch/per_rank`, `images_seen`, `time/epoch_s` and `time/images_per_s`. Radii
    by class go to loggers with `log_histogram`. The attribute `confusion` (C, C) is the confusion matrix of the last
    test set named `test`, null beyond 1,000 classes; `calibration` (3, 15) has its images, right images and summed
    confidence by bins of the confidence, null before the first test.
    """

    def __init__(self) -> None:
        self.confusion: Tensor | None = None
        self.calibration: Tensor | None = None
        self._bins = CalibrationError()
        self._before: Tensor | None = None
        self._output: Tensor | None = None
        self._hook: RemovableHandle | None = None
        self._started, self._images = 0.0, 0

    # ---- per epoch ----

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = ours(pl_module)
        self._started, self._images = time.perf_counter(), module.images_seen
        batch = data_of(trainer).batch_size
        module.log_dict({"batch/global": float(batch), "batch/per_rank": batch / trainer.world_size})
        if module.stage.uses_centroids and module.loss is not None:
            module.log_dict(_by_group(module, "eps", module.loss.radii().detach()), on_step=False, on_epoch=True)
        if not module.needs_centroids(trainer.current_epoch):
            self._before = None
            return
        moved = None if self._before is None else self._before.to(module.centroids)
        self._before = module.centroids.clone()
        logged = {} if moved is None else _by_group(module, "drift", (module.centroids - moved).norm(dim=1))
        if module.loss is not None:
            logged |= self._of_radii(trainer, module, module.loss, moved)
        module.log_dict(logged, on_step=False, on_epoch=True)

    def _of_radii(
        self, trainer: pl.Trainer, module: DROLTModule, loss: DROLTLoss | LayeredDROLTLoss, moved: Tensor | None
    ) -> dict[str, Tensor]:
        """Drift in units of the radii, and the probability that the balls hold the true centroids."""
        eps = loss.radii().detach()
        found: dict[str, Tensor] = {}
        of_features = eps.ndim == 1  # radii of inner layers say nothing about the centroids of the last
        # The radii of the cosine distance are measured on the unit sphere, and the centroids do not lie there.
        if moved is not None and of_features and loss.measure.distance != "cosine" and bool((eps > 0).all()):
            found |= _by_group(module, "drift_over_eps", (module.centroids - moved).norm(dim=1) / eps)
        coverages = loss.coverages()
        if coverages is not None:
            found |= _by_group(module, "coverage", coverages)
        for logger in trainer.loggers:
            if isinstance(logger, LogsHistograms):
                logger.log_histogram("eps_by_class", eps, trainer.current_epoch)
        return found

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds, images = time.perf_counter() - self._started, ours(pl_module).images_seen
        pl_module.log("images_seen", float(images))
        pl_module.log("time/epoch_s", seconds)
        pl_module.log("time/images_per_s", (images - self._images) / max(seconds, 1e-9))

    def state_dict(self) -> dict[str, Tensor | None]:
        return {"before": self._before}

    def load_state_dict(self, state_dict: dict[str, Tensor | None]) -> None:
        self._before = state_dict["before"]

    # ---- validation images against training centroids ----

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = ours(pl_module)
        if trainer.state.fn == "fit" and module.needs_centroids(trainer.current_epoch):
            self._watch(module.backbone)
            self._sums = torch.zeros_like(module.centroids, dtype=torch.float64)
            self._counts = torch.zeros_like(module.centroid_counts)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: tuple[Tensor, ...],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._output is not None:
            features = ours(pl_module).evaluation.measure.normalise(self._output.flatten(1))
            self._sums.index_add_(0, batch[1], features.double())
            self._counts.index_add_(0, batch[1], torch.ones_like(batch[1]))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._hook is None:
            return
        self._unwatch()
        module = ours(pl_module)
        for total in (self._sums, self._counts):
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(total)
        held_out = (self._sums / self._counts.clamp(min=1)[:, None]).to(module.centroids)
        known = (self._counts > 0) & (module.centroid_counts > 0)
        found = (module.centroids - held_out).square().sum(1)
        share = 1 / module.centroid_counts.clamp(min=1) + 1 / self._counts.clamp(min=1)
        explained = module.total_variance * share
        covered = {} if module.loss is None else module.loss.held_out_coverage(found.sqrt(), self._counts)
        for name, index in module.groups.items():
            part = index.to(known.device)
            part = part[known[part]]
            if len(part):
                module.log(f"inflation/{name}", (found[part].sum() / explained[part].sum()).sqrt())
                module.log_dict({f"{key}/{name}": values[part].mean() for key, values in covered.items()})

    # ---- confusion matrix ----

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = ours(pl_module)
        num_classes = len(module.centroid_counts)
        self._watch(module.classifier)
        self._bins = CalibrationError().to(module.device)
        if num_classes <= MAX_CONFUSION:
            self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=module.device)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: tuple[Tensor, ...],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        is_test = ours(pl_module).evaluation.names[dataloader_idx] == "test"
        if self._output is None or not is_test:
            return
        self._bins.update(self._output, batch[1])
        if self.confusion is not None:
            cells = batch[1] * len(self.confusion) + self._output.argmax(1)
            self.confusion += cells.bincount(minlength=self.confusion.numel()).view_as(self.confusion)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._unwatch()
        bins = self._bins
        self.calibration = torch.stack((bins.total, bins.correct, bins.confidence)).double()
        self.calibration[2] /= CONFIDENCE_UNITS
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.calibration)
            if self.confusion is not None:
                dist.all_reduce(self.confusion)

    def _watch(self, part: nn.Module) -> None:
        """Starts to keep the last output of a part of the module."""

        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            self._output = output.detach()

        self._hook = part.register_forward_hook(keep)

    def _unwatch(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._output = None


def _by_group(module: DROLTModule, name: str, values: Tensor) -> dict[str, Tensor]:
    """Means of a value per class over the classes of each shot group."""
    groups = module.groups.items()
    return {f"{name}/{group}": values[index.to(values.device)].mean() for group, index in groups if len(index)}
