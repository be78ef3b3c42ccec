"""Measures a model: during fit on validation images, and after it on several data sets at once."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from drolt_pl.losses import Measure
from drolt_pl.metrics import CalibrationError, ShotAccuracy, ncm_predict

ECE_BINS = 15


class Evaluator(nn.Module):
    """Accuracy of the classifier and of the nearest centroid, and calibration, exact over any number of ranks.

    Args:
        class_counts: Training images per class, (C,); they decide the shot groups.
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
        """Adds a batch: logits (B, C), features (B, D), targets (B,), and centroids (C, D) with their counts (C,)."""
        self.accuracy.update(logits, targets)
        self.ece.update(logits, targets)
        if centroids is None:
            return
        means, counts = centroids
        self.ncm.update(ncm_predict(features, means, counts, distance=self.distance), targets)
        self.ncm_cosine.update(ncm_predict(features, means, counts, distance="cosine"), targets)

    def compute(self) -> dict[str, Tensor]:
        """Computes all metrics; a metric is nan if there is nothing to average over."""
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


class Evaluation(nn.Module):
    """The measurements of a module: validation during fit, and tests of several data sets at once after it.

    Args:
        class_counts: Training images per class, (C,).
        measure: How features and centroids are compared.
        many: Classes with more training images are "many".
        few: Classes with fewer are "few".

    Attributes:
        names: The data sets of the next test, in the order of its loaders.
        finite: Whether all logits since `begin_*` were numbers, 0-d; None before the first.
        results: Plain metrics of the last test, by data set.
    """

    def __init__(self, class_counts: Sequence[int], measure: Measure, *, many: int, few: int) -> None:
        super().__init__()
        self.measure = measure
        self._new = partial(Evaluator, class_counts, many=many, few=few, distance=measure.distance)
        self.validation = self._new()
        self.tests: list[Evaluator] = []
        self.names: list[str] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.finite: Tensor | None = None
        self._centroids: tuple[Tensor, Tensor] | None = None

    def begin_validation(self, centroids: tuple[Tensor, Tensor] | None) -> None:
        """Forgets the last validation. With centroids (C, D) and counts (C,) nearest centroids are measured too."""
        self.validation.reset()
        self._centroids, self.finite = centroids, None

    def begin_test(self, centroids: tuple[Tensor, Tensor] | None, device: torch.device) -> None:
        """Begins a test of every data set in `names`, by default one named `test`."""
        self.names = self.names or ["test"]
        self.tests = [self._new().to(device) for _ in self.names]
        self._centroids, self.finite = centroids, None

    def update(self, logits: Tensor, features: Tensor, targets: Tensor, test: int | None = None) -> None:
        """Adds a batch of logits (B, C), features (B, D) and targets (B,) to validation or to a test's data set."""
        finite = logits.isfinite().all()  # read back once, by the guard
        self.finite = finite if self.finite is None else self.finite & finite
        evaluator = self.validation if test is None else self.tests[test]
        evaluator.update(logits, self.measure.normalise(features), targets, self._centroids)

    def validated(self) -> dict[str, Tensor]:
        """The scalars of the validation, without those that have nothing to average over."""
        found = self.validation.compute().items()
        return {name: value for name, value in found if not value.ndim and not bool(value.isnan())}

    def end_test(self) -> None:
        """Puts the test's metrics into `results`."""
        self.results = {name: plain(test.compute()) for name, test in zip(self.names, self.tests, strict=True)}
