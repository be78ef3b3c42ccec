"""The paper's Figure 1, computed: samples, empirical and held-out centroids, and the balls, in two dimensions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from drolt_pl.centroids import ClassStatistics
from drolt_pl.groups import group_of
from drolt_pl.results import Groups
from drolt_pl.rows import Row

KINDS = ("sample", "held-out sample", "empirical centroid", "held-out centroid")


def plane_of_centroids(centroids: Tensor) -> Tensor:
    """An orthonormal map (D, 2) to the plane in which centroids (C, D) spread most; the identity for D = 2.

    The shadow of a ball under it is a disc of the same radius.
    """
    if centroids.shape[1] == 2:
        return torch.eye(2, dtype=torch.float64)
    centred = centroids.double() - centroids.double().mean(0)
    basis: Tensor = torch.linalg.svd(centred, full_matrices=False).Vh[:2].T
    return basis


def balls(
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    statistics: Sequence[ClassStatistics],
    eps: Tensor,
    names: Sequence[str],
    groups: Groups,
    *,
    samples: int = 60,
) -> list[Row]:
    """Points and discs of the figure.

    Args:
        train: Features (N, D) and targets (N,) of training images.
        held_out: Features and targets of images that no weight was trained on.
        statistics: Of both.
        eps: Radii, (C,).
        names: Classes, (C,).
        groups: Limits of the shot groups.
        samples: Samples of a class that are kept, at most.

    Returns:
        Rows `kind, class, images, group, x, y, radius`; the radius is the ball's for an empirical centroid, else nan.
    """
    basis = plane_of_centroids(statistics[0].centroids).to(train[0].device)
    counts = statistics[0].counts.tolist()
    order = sorted(range(len(counts)), key=lambda index: -counts[index])
    rows: list[Row] = []
    every = torch.arange(len(counts))
    sets = (train, held_out, *((found.centroids, every) for found in statistics))
    for kind, (points, labels) in zip(KINDS, sets, strict=True):
        for index in order:
            shown = points[labels == index][:samples]
            radius = eps[index].item() if kind == "empirical centroid" else math.nan
            rows += [
                {
                    "kind": kind,
                    "class": names[index],
                    "images": counts[index],
                    "group": group_of(counts[index], groups.many, groups.few),
                    "x": x,
                    "y": y,
                    "radius": radius,
                }
                for x, y in (shown.double() @ basis).tolist()
            ]
    return rows
