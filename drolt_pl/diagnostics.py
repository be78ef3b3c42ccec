"""What the robust loss rests on, measured while training: how far centroids move, and how far they are off."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

MAX_CONFUSION = 200  # classes up to which the confusion matrix is kept


class Diagnostics(pl.Callback):
    """Logs how far centroids move and are off, per shot group and epoch of a stage that uses centroids.

    - `drift/*`: distance that a class's centroid has moved since the epoch before, mean over classes, and
      `drift_over_eps/*`, the same over the class's radius: at 1 the centroid leaves its ball within an epoch.
    - `coverage/*`: probability p_c(eps_c) that the ball holds the true centroid, mean over classes (where the loss
      measures Euclidean distance).
    - `inflation/*`: distance between a class's training centroid and its mean over validation images, over the
      distance that their numbers n and m explain: sqrt(sum_c |mu_c - v_c|^2 / sum_c tau_c^2 (1/n_c + 1/m_c)). It is 1
      where training images are samples like any other, and grows as the network learns them by heart: by that factor
      radii from training features are too small.

    - `coverage_held_out/*`: share of classes whose mean over validation images lies in the ball, and
      `coverage_held_out_expected/*`, the share to be expected if training images were samples like any other. A mean of
      few images has an error of its own, so that both lie below `coverage` where n is large.

    Further `batch/global`, `batch/per_rank`, `images_seen`, `time/epoch_s` and `time/images_per_s` for every epoch.
    Radii by class go to loggers with `log_histogram`. `confusion` (C, C) is that of the last test set named `test`,
    null beyond 200 classes.
    """

    def __init__(self) -> None:
        self.confusion: Tensor | None = None
        self._before: Tensor | None = None
        self._features: Tensor | None = None
        self._hook: Any = None
        self._started, self._images = 0.0, 0

    # ---- per epoch ----

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._started, self._images = time.perf_counter(), pl_module.images_seen
        batch = getattr(trainer.datamodule, "batch_size", None)  # type: ignore[attr-defined]
        if batch is not None:
            pl_module.log_dict({"batch/global": float(batch), "batch/per_rank": batch / trainer.world_size})
        if not pl_module.needs_centroids(trainer.current_epoch):
            self._before = None
            return
        eps = pl_module.loss.radii().detach()
        of_features = eps.ndim == 1  # radii of inner layers say nothing about the centroids of the last
        logged: dict[str, Tensor] = {}
        if self._before is not None:
            drift = (pl_module.centroids - self._before.to(pl_module.centroids)).norm(dim=1)
            logged |= _by_group(pl_module, "drift", drift)
            # eps of the cosine distance lies on the unit sphere, where the centroids do not.
            if of_features and pl_module.loss.distance != "cosine" and bool((eps > 0).all()):
                logged |= _by_group(pl_module, "drift_over_eps", drift / eps)
        self._before = pl_module.centroids.clone()
        if of_features and pl_module.loss.distance == "euclidean":
            logged |= _by_group(pl_module, "coverage", pl_module.loss.balls.log_probability(eps).exp().float())
        pl_module.log_dict(logged, on_step=False, on_epoch=True)
        for logger in trainer.loggers:
            if hasattr(logger, "log_histogram"):
                logger.log_histogram("eps_by_class", eps, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        seconds = time.perf_counter() - self._started
        pl_module.log("images_seen", float(pl_module.images_seen))
        pl_module.log("time/epoch_s", seconds)
        pl_module.log("time/images_per_s", (pl_module.images_seen - self._images) / max(seconds, 1e-9))

    def state_dict(self) -> dict[str, Any]:
        return {"before": self._before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = state_dict["before"]

    # ---- validation images against training centroids ----

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit" and pl_module.needs_centroids(trainer.current_epoch):
            self._watch(pl_module.backbone)
            self._sums = torch.zeros_like(pl_module.centroids, dtype=torch.float64)
            self._counts = torch.zeros_like(pl_module.centroid_counts)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        if self._features is not None:
            self._sums.index_add_(0, batch[1], pl_module.to_measured(self._features).double())
            self._counts.index_add_(0, batch[1], torch.ones_like(batch[1]))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._hook is None:
            return
        self._unwatch()
        for total in (self._sums, self._counts):
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(total)
        held_out = (self._sums / self._counts.clamp(min=1)[:, None]).to(pl_module.centroids)
        known = (self._counts > 0) & (pl_module.centroid_counts > 0)
        found = (pl_module.centroids - held_out).square().sum(1)
        share = 1 / pl_module.centroid_counts.clamp(min=1) + 1 / self._counts.clamp(min=1)
        explained = pl_module.total_variance * share
        covered = pl_module.loss.held_out_coverage(found.sqrt(), self._counts)
        for name, index in pl_module.groups.items():
            part = index.to(known.device)
            part = part[known[part]]
            if len(part):
                pl_module.log(f"inflation/{name}", (found[part].sum() / explained[part].sum()).sqrt())
                pl_module.log_dict({f"{key}/{name}": values[part].mean() for key, values in covered.items()})

    # ---- confusion matrix ----

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        num_classes = len(pl_module.centroid_counts)
        if num_classes <= MAX_CONFUSION:
            self._watch(pl_module.classifier)
            self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=pl_module.device)

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.confusion is not None and pl_module.test_names[dataloader_idx] == "test":
            cells = batch[1] * len(self.confusion) + self._features.argmax(1)  # type: ignore[union-attr]
            self.confusion += cells.bincount(minlength=self.confusion.numel()).view_as(self.confusion)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._unwatch()
        if self.confusion is not None and dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.confusion)

    def _watch(self, part: torch.nn.Module) -> None:
        """Keeps the last output of a part of the module."""

        def keep(_: Any, __: Any, output: Tensor) -> None:
            self._features = output.detach()

        self._hook = part.register_forward_hook(keep)

    def _unwatch(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._features = None


def _by_group(pl_module: Any, name: str, values: Tensor) -> dict[str, Tensor]:
    """Means of a value per class over the classes of each shot group."""
    groups = pl_module.groups.items()
    return {f"{name}/{group}": values[index.to(values.device)].mean() for group, index in groups if len(index)}
