"""Radii against class sizes, against the measured errors of centroids, and against their nominal probabilities."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from drolt_pl.centroids import ClassStatistics
from drolt_pl.groups import group_masks, group_of
from drolt_pl.losses.radius import coverage_radius, log_ball_probability
from drolt_pl.results import Groups
from drolt_pl.rows import Row

LEVELS = [round(0.02 * step, 2) for step in range(1, 50)]  # nominal probabilities of Appendix A
LEAST = 20  # held-out images of a class, below which its mean says little about the true centroid


def learned_radii(
    eps: Sequence[float], updates: Sequence[int] | None, counts: Sequence[int], groups: Groups, degree: int = 2
) -> list[Row]:
    """The paper's Figure 2: the radius of each class, with a polynomial fit over the logarithm of the class size.

    Args:
        eps: Radii by class, (C,).
        updates: Updates that each radius received, (C,); None if they were not counted.
        counts: Training images by class, (C,).
        groups: Limits of the shot groups.
        degree: Of the polynomial; lowered where there are too few class sizes.

    Returns:
        Rows `class, images, group, radius, fit, updates`, the largest class first.
    """
    sizes = np.log(np.asarray(counts, dtype=float))
    fit = np.polynomial.Polynomial.fit(sizes, np.asarray(eps, dtype=float), min(degree, len(set(counts)) - 1))(sizes)
    order = sorted(range(len(counts)), key=lambda index: -counts[index])
    return [
        {
            "class": index,
            "images": counts[index],
            "group": group_of(counts[index], groups.many, groups.few),
            "radius": float(eps[index]),
            "fit": float(fit[index]),
            "updates": math.nan if updates is None else updates[index],
        }
        for index in order
    ]


def nominal_and_found(
    train: ClassStatistics, held_out: ClassStatistics, counts: Tensor, groups: Groups, num_features: int
) -> list[Row]:
    """Appendix A: in which share of classes the true centroid lies in a ball of nominal probability p(eps).

    The true centroid is not known; the mean of m held-out images stands for it. Its own error is allowed for: the
    distance between the two means has the variance tau^2 (1 / n + 1 / m) in place of tau^2 / n.

    Args:
        train: Statistics of the training features.
        held_out: Of the features of images that no weight was trained on.
        counts: Training images by class, (C,).
        groups: Limits of the shot groups.
        num_features: D.

    Returns:
        Rows `variance, dimension, group, nominal, found, classes`: tau^2 of training or of held-out features, in the
        effective dimension or in D. Classes with fewer than 20 held-out images are left out.
    """
    known = (held_out.counts >= LEAST) & (train.counts > 0)
    distance = (train.centroids - held_out.centroids).norm(dim=1)
    masks = {"all": known} | {
        name: mask & known for name, mask in group_masks(counts.to(known.device), groups.many, groups.few).items()
    }
    share = 1 + train.counts / held_out.counts.clamp(min=1)
    rows: list[Row] = []
    for variance, source in (("training", train), ("held-out", held_out)):
        for dimension, dim in (("effective", source.effective_dim), ("features", torch.tensor(float(num_features)))):
            inside = (train.counts.clamp(min=1), source.total_variance * share, dim.to(distance.device))
            probability = log_ball_probability(distance, *inside).exp()
            rows += [
                {
                    "variance": variance,
                    "dimension": dimension,
                    "group": name,
                    "nominal": level,
                    "found": (probability[mask] <= level).double().mean().item(),
                    "classes": int(mask.sum()),
                }
                for name, mask in masks.items()
                if bool(mask.any())
                for level in LEVELS
            ]
    return rows


def radius_and_error(
    eps: Tensor | None, train: ClassStatistics, held_out: ClassStatistics, counts: Tensor, groups: Groups
) -> list[Row]:
    """Appendix C: each class's radius, 1 / sqrt(n), and the measured error of its centroid.

    The error is the distance to the mean of m held-out images, whose own share tau^2 / m is taken off its square.

    Args:
        eps: The run's radii, (C,); None for a run without.
        train: Statistics of the training features.
        held_out: Of the features of held-out images.
        counts: Training images by class, (C,).
        groups: Limits of the shot groups.

    Returns:
        Rows `class, images, held_out, group, radius, error, expected, coverage_radius`: expected is
        sqrt(tau^2 / n) of training features, coverage_radius the one of probability 0.9. Largest classes first.
    """
    squared = (train.centroids.double() - held_out.centroids.double()).square().sum(1)
    own = held_out.total_variance.double() / held_out.counts.clamp(min=1)
    error = (squared - own).clamp(min=0).sqrt().where(held_out.counts >= LEAST, torch.nan)
    expected = (train.total_variance.double() / train.counts.clamp(min=1)).sqrt()
    nominal = coverage_radius(0.9, train.counts.clamp(min=1), train.total_variance, train.effective_dim)
    radius = torch.full_like(error, torch.nan) if eps is None else eps.double()
    return [
        {
            "class": index,
            "images": int(counts[index]),
            "held_out": int(held_out.counts[index]),
            "group": group_of(int(counts[index]), groups.many, groups.few),
            "radius": radius[index].item(),
            "error": error[index].item(),
            "expected": expected[index].item(),
            "coverage_radius": nominal[index].item(),
        }
        for index in sorted(range(len(counts)), key=lambda index: -int(counts[index]))
    ]
