"""Accuracy by shot group, calibration, and nearest-centroid prediction."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from drolt_pl.classes import class_indices, class_sizes
from drolt_pl.errors import require_choice, require_int
from drolt_pl.groups import FEW, MANY, group_masks

CONFIDENCE_UNITS = 2**30  # integer steps of a confidence from 0 to 1
DISTANCES = ("euclidean", "student_t", "cosine")


def shot_groups(class_counts: Tensor, many: int = MANY, few: int = FEW) -> dict[str, Tensor]:
    """Class indices of each shot group, by the rule of `groups.group_masks`.

    Args:
        class_counts: Training images per class, (C,).
        many: Classes with more images than this are "many".
        few: Classes with fewer images than this are "few"; the rest, both limits included, are "medium".

    Returns:
        ``{"many": ..., "medium": ..., "few": ...}``, index tensors (int64) that may be empty.

    Raises:
        SettingError: the limits overlap.

    Examples:
        >>> shot_groups(torch.tensor([500, 101, 100, 20, 19]))
        {'many': tensor([0, 1]), 'medium': tensor([2, 3]), 'few': tensor([4])}
    """
    return {name: mask.nonzero().flatten() for name, mask in group_masks(class_counts, many, few).items()}


def shot_accuracy(
    correct: Tensor, total: Tensor, class_counts: Tensor, many: int = MANY, few: int = FEW
) -> dict[str, Tensor]:
    """Computes accuracies from sums per class.

    ``acc`` and the accuracies of groups are macro: the mean over the classes that have samples. On a test set with
    equally many images of every class, ``acc`` is what the field calls accuracy. ``acc_micro`` is the share of correct
    samples.

    Args:
        correct: Correctly classified samples per class, (C,).
        total: Evaluated samples per class, (C,).
        class_counts: Training images per class, (C,).
        many: Upper limit of the medium group.
        few: Lower limit of the medium group.

    Returns:
        ``acc, acc_micro, many, medium, few`` (scalars) and ``per_class`` (C,), fractions in [0, 1]; nan where there is
        nothing to average over, never 0.

    Examples:
        >>> result = shot_accuracy(torch.tensor([9, 1]), torch.tensor([10, 2]), torch.tensor([500, 5]))
        >>> {name: round(result[name].item(), 3) for name in ("acc", "acc_micro", "many", "medium", "few")}
        {'acc': 0.7, 'acc_micro': 0.833, 'many': 0.9, 'medium': nan, 'few': 0.5}
    """
    per_class = correct / total  # a class without samples is 0 / 0 = nan
    groups = group_masks(class_counts.to(per_class.device), many, few)
    means = {name: per_class.where(mask, math.nan).nanmean() for name, mask in groups.items()}
    return {"acc": per_class.nanmean(), "acc_micro": correct.sum() / total.sum(), **means, "per_class": per_class}


class ShotAccuracy(Metric):
    """Accuracy overall and by shot group, from sums per class: memory O(C), exact over any number of ranks.

    Args:
        class_counts: Training images per class, (C,); the groups follow from them.
        many: Upper limit of the medium group.
        few: Lower limit of the medium group.
        kwargs: Passed to `torchmetrics.Metric`.

    Shapes:
        ``update`` takes predicted classes (B,), integers, or logits (B, C), and targets (B,); ``compute`` returns what
        `shot_accuracy` does.

    Raises:
        SettingError: counts that are no whole numbers >= 0, or limits that overlap.
        ValueError: shapes that do not fit; on CPU also a target outside [0, C).

    Examples:
        >>> metric = ShotAccuracy([500, 50, 5])
        >>> metric.update(torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 1, 2]))
        >>> {name: value.tolist() for name, value in metric.compute().items() if name in ("acc_micro", "few")}
        {'acc_micro': 0.75, 'few': 0.0}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    class_counts: Tensor
    correct: Tensor
    total: Tensor

    def __init__(
        self, class_counts: Sequence[int] | Tensor, *, many: int = MANY, few: int = FEW, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        counts = class_sizes(class_counts, at_least=0)
        group_masks(counts, many, few)  # wrong limits are refused here, not after an epoch
        self.many = many
        self.few = few
        self.register_buffer("class_counts", counts, persistent=False)
        self.add_state("correct", torch.zeros(len(counts), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(len(counts), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, targets: Tensor) -> None:
        """Adds a batch."""
        num_classes = len(self.total)
        if preds.ndim == 2 and preds.shape[1] != num_classes:
            raise ValueError(f"preds must have {num_classes} columns, one per class, got shape {tuple(preds.shape)}")
        if preds.ndim != 2 and (preds.ndim != 1 or preds.is_floating_point()):
            got = f"{preds.dtype} of {tuple(preds.shape)}"
            raise ValueError(f"preds must be class indices (B,) or logits (B, {num_classes}), got {got}")
        predicted = preds.argmax(dim=1) if preds.ndim == 2 else preds
        targets = class_indices(targets, len(preds), num_classes)
        # scatter_add, not bincount: bincount reads its largest index back to the host.
        self.correct = self.correct.scatter_add(0, targets, (predicted == targets).to(self.correct.dtype))
        self.total = self.total.scatter_add(0, targets, torch.ones_like(targets, dtype=self.total.dtype))

    def compute(self) -> dict[str, Tensor]:
        """Accuracies over all batches and ranks."""
        return shot_accuracy(self.correct, self.total, self.class_counts, self.many, self.few)


class CalibrationError(Metric):
    """Expected calibration error over equal-width bins of the confidence (Guo et al. 2017).

    Confidences are summed as whole multiples of 2^-30, so that neither the order of the batches nor the number of ranks
    changes the result by a bit; torchmetrics' own keeps every confidence, and its sums follow the order.

    Args:
        bins: Number of bins; a confidence of 1 belongs to the last one.
        kwargs: Passed to `torchmetrics.Metric`.

    Shapes:
        ``update`` takes logits (B, C) and targets (B,); ``compute`` returns a 0-d float32 in [0, 1].

    Raises:
        SettingError: no bins.
        ValueError: shapes that do not fit; on CPU also a target outside [0, C).
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    total: Tensor
    correct: Tensor
    confidence: Tensor

    def __init__(self, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_int("bins", bins, at_least=1)
        for state in ("total", "correct", "confidence"):
            self.add_state(state, torch.zeros(bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch."""
        if logits.ndim != 2:
            raise ValueError(f"logits must have shape (B, C), got {tuple(logits.shape)}")
        targets = class_indices(targets, *logits.shape)
        confidence, predicted = logits.float().softmax(1).max(1)
        confidence = confidence.nan_to_num(0.0)  # of logits that are no numbers; nobody is confident there
        index = (confidence * len(self.total)).long().clamp(max=len(self.total) - 1)
        for state, values in (
            (self.total, torch.ones_like(index)),
            (self.correct, (predicted == targets).long()),
            (self.confidence, (confidence.double() * CONFIDENCE_UNITS).round().long()),
        ):
            state.index_add_(0, index, values)

    def compute(self) -> Tensor:
        """The error over all batches and ranks."""
        gaps = (
            self.correct.double() - self.confidence.double() / CONFIDENCE_UNITS
        )  # (bins,): size of the bin times its gap
        return (gaps.abs().sum() / self.total.sum()).float()


def ncm_predict(features: Tensor, centroids: Tensor, counts: Tensor, distance: str = "euclidean") -> Tensor:
    """Predicts the class of the nearest centroid.

    ``student_t`` is a monotone function of the Euclidean distance, so it predicts as ``euclidean`` does. The memory is
    O(B C + B D). The computation is in at least float32, whatever the precision of the features and of autocast.

    Args:
        features: (B, D).
        centroids: Class means, (C, D).
        counts: Images behind each mean, (C,); a class with 0 has no centroid and is never predicted.
        distance: ``euclidean``, ``student_t`` or ``cosine``.

    Returns:
        Predicted classes, (B,), int64.

    Raises:
        SettingError: an unknown distance.
        ValueError: shapes that do not fit; on CPU also no class with images.

    Examples:
        >>> centroids = torch.tensor([[0.0, 1.0], [4.0, 4.0], [1.0, 0.0]])
        >>> ncm_predict(torch.tensor([[1.0, 1.2], [3.0, 0.1]]), centroids, torch.tensor([5, 2, 0]))
        tensor([0, 0])
        >>> ncm_predict(torch.tensor([[1.0, 1.2], [3.0, 0.1]]), centroids, torch.tensor([5, 2, 0]), "cosine")
        tensor([1, 1])
    """
    require_choice("distance", distance, DISTANCES)
    if features.ndim != 2 or centroids.ndim != 2 or features.shape[1] != centroids.shape[1]:
        raise ValueError(
            f"features and centroids must be (B, D) and (C, D), got {tuple(features.shape)}, {tuple(centroids.shape)}"
        )
    if counts.shape != (len(centroids),):
        raise ValueError(f"counts must have shape ({len(centroids)},), got {tuple(counts.shape)}")
    present = counts > 0
    if counts.device.type == "cpu" and not bool(present.any()):
        raise ValueError("counts must hold at least one class with images, got none")
    with torch.autocast(features.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(features.dtype, centroids.dtype), torch.float32)
        queries, means = features.to(dtype), centroids.to(dtype)
        if distance == "cosine":
            nearness = F.normalize(queries, dim=1) @ F.normalize(means, dim=1).T  # (B, C)
        else:
            # argmin |z - mu|^2 = argmax z.mu - |mu|^2 / 2; centring keeps the two terms small, and so exact.
            origin = means.where(present[:, None], 0).sum(dim=0) / present.sum()
            queries, means = queries - origin, means - origin
            nearness = queries @ means.T - means.square().sum(dim=1) / 2  # (B, C)
        return nearness.where(present, -math.inf).argmax(dim=1)
