"""Class indices of any whole-number type, wherever a function takes targets; and the sizes of classes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from drolt_pl import losses
from drolt_pl.centroids import class_statistics
from drolt_pl.classes import class_indices, class_sizes
from drolt_pl.errors import SettingError
from drolt_pl.losses.parametric import parametric_contrastive
from drolt_pl.metrics import CalibrationError, ShotAccuracy

COUNTS = [200, 50, 5]
GENERATOR = torch.Generator().manual_seed(0)
FEATURES = torch.randn(6, 3, generator=GENERATOR)  # as many features as classes, so that they serve as logits
CENTROIDS, EPS = torch.randn(3, 3, generator=GENERATOR), torch.ones(3)
TARGETS = torch.tensor([0, 1, 2, 0, 1, 1])


def measured(metric: Any) -> Callable[[Tensor], Tensor]:
    def measure(targets: Tensor) -> Tensor:
        metric.reset()
        metric.update(FEATURES, targets)
        found = metric.compute()
        value: Tensor = found["acc"] if isinstance(found, dict) else found
        return value

    return measure


def criterion(kind: type[losses.Criterion]) -> Callable[[Tensor], Tensor]:
    return lambda targets: kind(COUNTS)(FEATURES, targets)


def drolt(**options: Any) -> Callable[[Tensor], Tensor]:
    return lambda targets: losses.DROLTLoss(3, 3, COUNTS, **options)(FEATURES, targets, CENTROIDS)


TAKE_TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "robust_loss": lambda targets: losses.robust_loss(FEATURES, targets, CENTROIDS, EPS),
    "robust_loss, tight": lambda targets: losses.robust_loss(FEATURES, targets, CENTROIDS, EPS, bound="tight"),
    "classwise_loss": lambda targets: losses.classwise_loss(FEATURES, targets, CENTROIDS, EPS),
    "DROLTLoss": drolt(),
    "DROLTLoss, weighted": drolt(denominator="weighted", class_weight="train_set"),
    "DROLTLoss, class": drolt(likelihood="class", prior="train"),
    "own_mass": lambda targets: losses.DROLTLoss(3, 3, COUNTS).own_mass(FEATURES, targets, CENTROIDS),
    "balanced_contrastive": lambda targets: losses.balanced_contrastive(FEATURES, targets, CENTROIDS),
    "parametric_contrastive": lambda targets: parametric_contrastive(FEATURES, targets, FEATURES, FEATURES, TARGETS),
    "class_statistics": lambda targets: class_statistics(FEATURES, targets, 3).centroids,
    "ShotAccuracy": measured(ShotAccuracy(COUNTS)),
    "CalibrationError": measured(CalibrationError()),
    **{
        kind.__name__: criterion(kind)
        for kind in (
            losses.CrossEntropy,
            losses.FrequencyWeighted,
            losses.LDAM,
            losses.LogitAdjusted,
            losses.LabelAwareSmoothing,
            losses.Focal,
            losses.SigmoidFocal,
            losses.WeightedFocal,
        )
    },
}


@pytest.mark.parametrize("name", TAKE_TARGETS)
def test_targets_are_whole_numbers_of_any_type(name: str) -> None:
    expected = TAKE_TARGETS[name](TARGETS)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert torch.equal(TAKE_TARGETS[name](TARGETS.to(dtype)), expected), dtype


@pytest.mark.parametrize("name", TAKE_TARGETS)
def test_other_targets_are_refused_in_one_sentence(name: str) -> None:
    for targets, message in (
        (TARGETS.float(), "targets must be integers, got torch.float32"),
        (TARGETS[:1], r"targets must have shape \(6,\), got \(1,\)"),
        (TARGETS[:, None], r"targets must have shape \(6,\), got \(6, 1\)"),
        (TARGETS + 1, r"targets must be in \[0, 3\), got 1 to 3"),
        (TARGETS - 1, r"targets must be in \[0, 3\), got -1 to 1"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            TAKE_TARGETS[name](targets)


def test_no_targets_and_two_classes() -> None:
    assert class_indices(torch.zeros(0, dtype=torch.int32), 0, 3).dtype == torch.int64
    assert class_indices(torch.tensor([True, False]), 2, 2).tolist() == [1, 0]


@pytest.mark.parametrize(
    "counts", [[3, 1], (3, 1), np.array([3, 1], np.uint8), torch.tensor([3.0, 1.0]), torch.tensor([3, 1])]
)
def test_sizes_of_classes(counts: Any) -> None:
    found = class_sizes(counts)
    assert found.tolist() == [3, 1]
    assert found.dtype == torch.int64
    found += 1  # they are a copy
    assert list(counts) == [3, 1]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("ab", "must hold numbers, one per class, got 'ab'"),
        (None, "must hold numbers, one per class, got None"),
        ([[1, 2], [3]], "must hold numbers, one per class, got"),
        ([[3, 1]], r"must hold numbers, one per class, got \(1, 2\)"),
        (3, r"must hold numbers, one per class, got \(\)"),
        ([], r"must hold numbers, one per class, got \(0,\)"),
        ([1.5, 2], r"must be whole numbers of at least 1, got \[1.5, 2.0\]"),
        ([float("inf"), 2], r"must be whole numbers of at least 1, got \[inf, 2.0\]"),
        ([float("nan"), 2], "must be whole numbers of at least 1"),
        ([3, 0], r"must be whole numbers of at least 1, got \[3, 0\]"),
    ],
)
@pytest.mark.parametrize("kind", [class_sizes, losses.CrossEntropy])
def test_what_are_no_sizes_of_classes(kind: Any, counts: Any, message: str) -> None:
    with pytest.raises(SettingError, match=f"^class_counts {message}"):
        kind(counts)


def test_a_class_without_training_images_has_a_group_and_no_loss() -> None:
    assert ShotAccuracy([200, 0]).class_counts.tolist() == [200, 0]
    with pytest.raises(SettingError, match=r"^class_counts must be whole numbers of at least 0, got \[200, -1\]"):
        ShotAccuracy([200, -1])
