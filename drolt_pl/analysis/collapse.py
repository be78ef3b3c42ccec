"""Neural collapse by shot group: how far classes have shrunk to points, and how evenly the points lie apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from drolt_pl.centroids import ClassStatistics
from drolt_pl.groups import group_masks
from drolt_pl.metrics import ncm_predict
from drolt_pl.results import Groups
from drolt_pl.rows import Row

PIECE = 16_384  # samples whose distances to all centroids are held at a time
MEASURES = ("within over between", "mean cosine", "spread of cosines", "norm over mean norm", "weight to mean cosine")


def collapse(statistics: ClassStatistics, weights: Tensor | None, groups: Groups, counts: Tensor) -> list[Row]:
    """Measures of Papyan, Han & Donoho (2020) for the classes of each group, and for all of them.

    With m_c the centroid of a class minus the mean of all centroids, and tau_c^2 its variance:

    - `within over between`: mean of tau_c^2 over the mean of |m_c|^2 of all classes (NC1; 0 in collapse).
    - `mean cosine`: of m_c to the m_k of all other classes (NC2; -1 / (C - 1) in collapse).
    - `spread of cosines`: standard deviation of these cosines (NC2; 0).
    - `norm over mean norm`: |m_c| over its mean over all classes (NC2; 1).
    - `weight to mean cosine`: between the classifier's centred weights w_c and m_c (NC3; 1); nan without weights.

    Args:
        statistics: Of the features, training or held-out.
        weights: Of a linear classifier, (C, D); None for another one.
        groups: Limits of the shot groups.
        counts: Training images by class, (C,).

    Returns:
        Rows `measure, group, value`.
    """
    known = statistics.counts > 0
    centroids = statistics.centroids.double()
    means = torch.where(known[:, None], centroids - centroids[known].mean(0), 0.0)
    norms, directions = means.norm(dim=1), F.normalize(means, dim=1)
    cosines = directions @ directions.T  # (C, C)
    pairs = known[:, None] & known[None, :] & ~torch.eye(len(known), dtype=torch.bool, device=known.device)
    between = norms[known].square().mean()
    aligned = torch.full_like(norms, torch.nan)
    if weights is not None:
        centred = weights.double() - weights.double().mean(0)
        aligned = (F.normalize(centred, dim=1) * directions).sum(1)
    rows: list[Row] = []
    for name, mask in {"all": known, **group_masks(counts.to(known.device), groups.many, groups.few)}.items():
        mask = mask & known
        if not bool(mask.any()):
            continue
        own = cosines[mask][pairs[mask]]
        values = (
            statistics.total_variance.double()[mask].mean() / between,
            own.mean(),
            own.std(correction=0),
            norms[mask].mean() / norms[known].mean(),
            aligned[mask].mean(),
        )
        rows += [
            {"measure": measure, "group": name, "value": value.item()}
            for measure, value in zip(MEASURES, values, strict=True)
        ]
    return rows


def agreement(
    predicted: Tensor, features: Tensor, targets: Tensor, statistics: ClassStatistics, groups: Groups, counts: Tensor
) -> list[Row]:
    """Share of a group's samples for which the classifier and the nearest centroid agree (NC4; 1 in collapse).

    Args:
        predicted: Classes that the classifier predicts, (N,).
        features: (N, D), with targets (N,).
        targets: (N,).
        statistics: Of the training features.
        groups: Limits of the shot groups.
        counts: Training images by class, (C,).
    """
    nearest = [ncm_predict(piece, statistics.centroids, statistics.counts) for piece in torch.split(features, PIECE)]
    same = (torch.cat(nearest) == predicted).double()
    masks = group_masks(counts.to(targets.device), groups.many, groups.few)
    parts = {"all": torch.ones_like(targets, dtype=torch.bool)} | {name: mask[targets] for name, mask in masks.items()}
    return [
        {"measure": "agreement with nearest mean", "group": name, "value": same[part].mean().item()}
        for name, part in parts.items()
        if bool(part.any())
    ]
