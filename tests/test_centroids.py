"""Class statistics against numpy, on one process and on many."""

import numpy as np
import pytest
import torch
from helpers.rank_functions import shard_statistics
from helpers.ranks import on_ranks
from hypothesis import example as example_case
from hypothesis import given, settings
from hypothesis import strategies as st

from drolt_pl.centroids import StatisticsSums, class_statistics


def reference(features: np.ndarray, targets: np.ndarray, num_classes: int) -> tuple[np.ndarray, ...]:
    """Means, counts, shrunk variances and effective dimension, class by class from their definitions."""
    num, dim = features.shape
    counts = np.array([(targets == c).sum() for c in range(num_classes)])
    means = np.zeros((num_classes, dim))
    scatter = np.zeros(num_classes)
    within = np.zeros((dim, dim))
    for c in range(num_classes):
        if counts[c]:
            members = features[targets == c]
            means[c] = members.mean(0)
            centred = members - means[c]
            scatter[c] = (centred**2).sum()
            within += centred.T @ centred
    pooled = scatter.sum() / max(num - (counts > 0).sum(), 1)
    own = np.array([scatter[c] / (counts[c] - 1) if counts[c] > 1 else 0.0 for c in range(num_classes)])
    degrees = np.maximum(counts - 1, 0)
    shrunk = (degrees * own + 10 * pooled) / (degrees + 10)
    nu = np.trace(within) ** 2 / (within**2).sum() if within.any() else 1.0
    return means, counts, shrunk, np.float64(nu)


def example(num: int = 53, num_classes: int = 9, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Class 0 has one sample (on rank 0 alone), class 8 none; the number divides by neither 2 nor 3."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(1, num_classes - 1, (num,), generator=generator)
    targets[0] = 0
    return torch.randn(num, dim, generator=generator) * 3 + 10, targets


@given(seed=st.integers(0, 10_000), num=st.integers(1, 60), num_classes=st.integers(1, 8), dim=st.integers(1, 5))
@settings(max_examples=60)
@example_case(seed=314, num=2, num_classes=2, dim=2)  # a sample a class: no spread, but for rounding
def test_equals_numpy(seed: int, num: int, num_classes: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    features, targets = rng.normal(5, 2, (num, dim)), rng.integers(0, num_classes, num)
    statistics = class_statistics(torch.from_numpy(features), torch.from_numpy(targets), num_classes)
    for ours, expected in zip(statistics, reference(features, targets, num_classes), strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_the_effective_dimension_of_a_sphere_and_of_a_line() -> None:
    generator = torch.Generator().manual_seed(0)
    sphere = torch.randn(20_000, 8, generator=generator)
    targets = torch.randint(4, (20_000,), generator=generator)
    assert class_statistics(sphere, targets, 4).effective_dim == pytest.approx(8, rel=0.01)
    assert class_statistics(sphere[:, :1] * torch.ones(8), targets, 4).effective_dim == pytest.approx(1)


@pytest.mark.parametrize("world", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_agree_with_numpy(world: int) -> None:
    features, targets = example()
    expected = reference(features.double().numpy(), targets.numpy(), 9)
    for statistics in on_ranks(world, shard_statistics, features, targets, 9):
        assert statistics[1].tolist() == expected[1].tolist(), "each sample is counted once"
        for ours, theirs in zip(statistics, expected, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-6)


def test_more_ranks_than_samples() -> None:
    features, targets = example(num=2)
    expected = reference(features.double().numpy(), targets.numpy(), 9)
    for statistics in on_ranks(3, shard_statistics, features, targets, 9):
        np.testing.assert_allclose(statistics[0].numpy(), expected[0], rtol=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
    targets = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"^targets must have shape \(3,\), got \(4,\)"):
        class_statistics(torch.zeros(3, 2), torch.zeros(4, dtype=torch.long), 2)
    with pytest.raises(ValueError, match=r"^features must have shape \(N, D\), got \(3,\)"):
        class_statistics(torch.zeros(3), targets, 2)
    with pytest.raises(ValueError, match=r"^features must have shape \(N, 4\), got \(3, 2\)"):
        StatisticsSums(2, 4).update(torch.zeros(3, 2), targets)
    with pytest.raises(ValueError, match=r"^num_classes must be a whole number >= 1, got 0"):
        class_statistics(torch.zeros(3, 2), targets, 0)


def test_without_samples_there_are_zeros() -> None:
    found = class_statistics(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), 3)
    assert not found.centroids.any()
    assert not found.counts.any()
    assert found.total_variance.tolist() == [0, 0, 0]
    assert float(found.effective_dim) == 1
