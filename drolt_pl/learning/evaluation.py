"""What is measured of a model on one data set, and the evaluation of a run's checkpoints after training."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from drolt_pl.centroids import broadcast_buffers
from drolt_pl.metrics import CalibrationError, ShotAccuracy, ncm_predict

ECE_BINS = 15


class Evaluator(nn.Module):
    """Accuracy of the classifier and of the nearest centroid, and calibration, exact over any number of ranks.

    Args:
        class_counts: Training images per class, (C,): they decide the shot groups.
        many: Classes with more training images are "many".
        few: Classes with fewer are "few".
        distance: The loss's distance, for the nearest centroid.
    """

    def __init__(self, class_counts: Sequence[int], *, many: int = 100, few: int = 20, distance: str = "euclidean"):
        super().__init__()
        self.distance = distance
        self.accuracy = ShotAccuracy(class_counts, many=many, few=few)
        self.ncm = ShotAccuracy(class_counts, many=many, few=few)
        self.ncm_cosine = ShotAccuracy(class_counts, many=many, few=few)
        self.ece = CalibrationError(ECE_BINS)

    def update(
        self, logits: Tensor, features: Tensor, targets: Tensor, centroids: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """Adds a batch: logits (B, C), features (B, D), targets (B,), against centroids (C, D) of counts (C,)."""
        self.accuracy.update(logits, targets)
        self.ece.update(logits, targets)
        if centroids is None:
            return
        means, counts = centroids
        self.ncm.update(ncm_predict(features, means, counts, distance=self.distance), targets)
        self.ncm_cosine.update(ncm_predict(features, means, counts, distance="cosine"), targets)

    def compute(self) -> dict[str, Tensor]:
        """All metrics; nan where there is nothing to average over."""
        result: dict[str, Tensor] = {**self.accuracy.compute(), "ece": self.ece.compute()}
        if not self.ncm.update_called:
            return result
        ncm, cosine = self.ncm.compute(), self.ncm_cosine.compute()
        extra = {f"{group}_ncm": ncm[group] for group in ("many", "medium", "few")}
        return {
            **result,
            "acc_ncm": ncm["acc"],
            "acc_ncm_cosine": cosine["acc"],
            **extra,
            "per_class_ncm": ncm["per_class"],
        }

    def reset(self) -> None:
        """Forgets every batch."""
        for metric in (self.accuracy, self.ncm, self.ncm_cosine, self.ece):
            metric.reset()


def plain(metrics: Mapping[str, Tensor]) -> dict[str, Any]:
    """Metrics as JSON values: lists and floats, null for nan."""

    def value(number: float) -> float | None:
        return None if number != number else number

    return {
        key: [value(entry) for entry in metric.tolist()] if metric.ndim else value(metric.item())
        for key, metric in metrics.items()
    }


class EvaluatedModule(pl.LightningModule):
    """The evaluation half of a module: validation during fit, and tests of several data sets at once after it.

    The other half has `features(images)`, `to_measured(features)`, `classifier`, `has_current_centroids()` and the
    buffers `centroids` and `centroid_counts`.
    """

    def measure_with(self, class_counts: Sequence[int], **options: Any) -> None:
        """Sets what is measured; the arguments are those of `Evaluator`."""
        self._new_evaluator: Callable[[], Evaluator] = partial(Evaluator, class_counts, **options)
        self.evaluator = self._new_evaluator()
        self.test_evaluators: list[Evaluator] = []
        self.test_names: list[str] = []
        self.test_results: dict[str, dict[str, Any]] = {}
        self._measures_ncm = False

    def on_validation_epoch_start(self) -> None:
        # Until here the ranks' BatchNorm statistics were their own.
        broadcast_buffers(self)
        self.evaluator.reset()
        self._measures_ncm = self.has_current_centroids()  # type: ignore[operator]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(self.evaluator, batch)

    def on_validation_epoch_end(self) -> None:
        for name, value in self.evaluator.compute().items():
            if not value.ndim and not bool(value.isnan()):
                self.log(f"val/{name}", value, prog_bar=name in ("acc", "acc_ncm"))

    def on_test_epoch_start(self) -> None:
        self.test_names = self.test_names or ["test"]
        self.test_evaluators = [self._new_evaluator().to(self.device) for _ in self.test_names]
        self._measures_ncm = bool(self.centroid_counts.any())  # type: ignore[operator,union-attr]

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._measure(self.test_evaluators[dataloader_idx], batch)

    def on_test_epoch_end(self) -> None:
        measured = zip(self.test_names, self.test_evaluators, strict=True)
        self.test_results = {name: plain(evaluator.compute()) for name, evaluator in measured}

    def _measure(self, evaluator: Evaluator, batch: tuple[Tensor, Tensor]) -> None:
        module: Any = self
        features = module.features(batch[0])
        centroids = (module.centroids, module.centroid_counts) if self._measures_ncm else None
        evaluator.update(module.classifier(features), module.to_measured(features), batch[1], centroids)


@torch.no_grad()
def evaluate_checkpoint(
    trainer: Any, module: Any, checkpoint: Mapping[str, Any], stage: str, loaders: Mapping[str, Any]
) -> dict[str, dict[str, Any] | None]:
    """Loads a checkpoint's weights and measures them on every loader, in one `trainer.test`.

    Args:
        trainer: The run's trainer, after fit.
        module: The run's `DROLTModule`.
        checkpoint: A loaded checkpoint of the run.
        stage: The stage whose classifier is measured.
        loaders: Data sets by name; a null loader gives a null result.

    Returns:
        Plain metrics by data set name.
    """
    module.load_state_dict(checkpoint["state_dict"])
    module.use_stage(stage)
    present = {name: loader for name, loader in loaders.items() if loader is not None}
    module.test_names = list(present)
    trainer.test(module, dataloaders=list(present.values()), verbose=False)
    return {name: module.test_results.get(name) for name in loaders}
