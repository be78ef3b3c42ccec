"""Confidence against accuracy by shot group, and what a shift of the classifier's bias buys."""

from collections.abc import Sequence

import torch
from torch import Tensor

from drolt_pl.groups import group_masks
from drolt_pl.metrics import ShotAccuracy
from drolt_pl.results import Groups
from drolt_pl.rows import Row

BINS = 10
STRENGTHS = [round(-0.5 + 0.1 * step, 1) for step in range(31)]  # tau of the post-hoc logit adjustment


def reliability(logits: Tensor, targets: Tensor, counts: Tensor, groups: Groups, bins: int = BINS) -> list[Row]:
    """Accuracy and mean confidence of the samples of each group, by equal-width bins of the confidence.

    The expected calibration error of a group is the mean over its samples of the bins' gaps (Guo et al. 2017).

    Args:
        logits: (N, C).
        targets: (N,).
        counts: Training images by class, (C,).
        groups: Limits of the shot groups.
        bins: Number of bins.

    Returns:
        Rows `group, bin, images, confidence, accuracy, ece`; empty bins are left out, `ece` is the group's.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    index = (confidence * bins).long().clamp(max=bins - 1)
    masks = group_masks(counts.to(targets.device), groups.many, groups.few)
    parts = {"all": torch.ones_like(targets, dtype=torch.bool)} | {name: mask[targets] for name, mask in masks.items()}
    rows: list[Row] = []
    for name, part in parts.items():
        images = index[part].bincount(minlength=bins)
        sure = torch.zeros(bins, dtype=torch.float64, device=logits.device).index_add_(0, index[part], confidence[part])
        right = torch.zeros_like(sure).index_add_(0, index[part], (predicted == targets)[part].double())
        ece = (right - sure).abs().sum() / images.sum().clamp(min=1)
        rows += [
            {
                "group": name,
                "bin": place,
                "images": int(images[place]),
                "confidence": (sure[place] / images[place]).item(),
                "accuracy": (right[place] / images[place]).item(),
                "ece": ece.item(),
            }
            for place in range(bins)
            if images[place] > 0
        ]
    return rows


def frontier(
    logits: Tensor, targets: Tensor, counts: Tensor, groups: Groups, strengths: Sequence[float] = tuple(STRENGTHS)
) -> list[Row]:
    """Accuracy by group after post-hoc logit adjustment (Menon et al. 2021), logits - tau log(n_c / N), for each tau.

    The curve is what a shift of the classifier's bias buys; a better representation moves the curve itself.

    Args:
        logits: (N, C).
        targets: (N,).
        counts: Training images by class, (C,), > 0.
        groups: Limits of the shot groups.
        strengths: The values of tau; 0 is the classifier as it is.

    Returns:
        Rows `tau, acc, many, medium, few`.
    """
    log_prior = (counts.double() / counts.sum()).log().to(logits.device)
    rows: list[Row] = []
    for tau in strengths:
        metric = ShotAccuracy(counts, many=groups.many, few=groups.few).to(logits.device)
        metric.update((logits.double() - tau * log_prior).argmax(1), targets)
        found = metric.compute()
        rows.append({"tau": tau} | {name: found[name].item() for name in ("acc", "many", "medium", "few")})
    return rows
