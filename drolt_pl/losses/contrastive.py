"""Supervised contrastive losses of embeddings on the unit sphere."""

import torch
import torch.nn.functional as F
from torch import Tensor

from drolt_pl.classes import class_indices
from drolt_pl.losses.batch import class_histogram
from drolt_pl.losses.checks import check_temperature, check_vectors


def supervised_contrastive(embeddings: Tensor, targets: Tensor, *, temperature: float = 0.1) -> Tensor:
    r"""SupCon, the form with the mean outside the logarithm (Khosla et al. 2020, L_out).

    .. math:: -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log \frac{e^{z_i z_p / T}}{\sum_{j \ne i} e^{z_i z_j / T}}

    averaged over the samples i with a non-empty P(i): the other samples of i's class in the batch.

    Args:
        embeddings: (B, E), any float dtype; normalised here, computed in at least float32.
        targets: (B,). Each view of an image counts as a sample.
        temperature: T, > 0.
    """
    similarity, own = cosines(embeddings, embeddings, temperature)
    if targets.shape != (len(embeddings),):
        raise ValueError(f"targets must have shape ({len(embeddings)},), got {tuple(targets.shape)}")
    positives = (targets[:, None] == targets[None, :]) & ~own
    log_p = similarity - _log_sum(similarity, own)
    number = positives.sum(1)
    losses = -log_p.masked_fill(~positives, 0.0).sum(1) / number.clamp(min=1)
    return losses.sum() / (number > 0).sum().clamp(min=1)


def balanced_contrastive(
    embeddings: Tensor, targets: Tensor, prototypes: Tensor, *, temperature: float = 0.1
) -> Tensor:
    r"""Balanced contrastive loss (Zhu et al., CVPR 2022): every class weighs the same in the denominator.

    .. math:: -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log
        \frac{e^{z_i z_p / T}}{\sum_c \frac{1}{|B_c \setminus i|} \sum_{j \in B_c \setminus i} e^{z_i z_j / T}}

    averaged over the batch. B_c holds the samples of class c and its prototype, P(i) those of i's class without i.

    Args:
        embeddings: (B, E), any float dtype; normalised here, computed in at least float32.
        targets: (B,).
        prototypes: One a class, (C, E); normalised here.
        temperature: T, > 0.
    """
    check_vectors(embeddings, prototypes)
    num_classes = len(prototypes)
    targets = class_indices(targets, len(embeddings), num_classes)
    dtype = torch.promote_types(embeddings.dtype, prototypes.dtype)
    keys = torch.cat([embeddings.to(dtype), prototypes.to(dtype)])
    similarity, own = cosines(embeddings, keys, temperature)
    key_targets = torch.cat([targets, torch.arange(num_classes, device=targets.device)])
    same = targets[:, None] == key_targets[None, :]  # (B, B + C)
    sizes = class_histogram(key_targets, num_classes)[key_targets] - same.long()  # of each key's class, without i
    log_total = _log_sum(similarity - sizes.clamp(min=1).to(similarity.dtype).log(), own)
    positives = same & ~own
    return (-(similarity - log_total).masked_fill(~positives, 0.0).sum(1) / positives.sum(1)).mean()


def _log_sum(similarity: Tensor, own: Tensor) -> Tensor:
    """Logsumexp over all keys but the anchor itself, (B, 1); value and gradient are finite even if no key is left."""
    return similarity.masked_fill(own, torch.finfo(similarity.dtype).min).logsumexp(1, keepdim=True)


def cosines(anchors: Tensor, keys: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cosines over T of B anchors to K keys, and a mask of where a key is the anchor; (B, K) each.

    The first B keys are the anchors.
    """
    check_temperature(temperature)
    check_vectors(anchors, keys)
    with torch.autocast(anchors.device.type, enabled=False):
        dtype = torch.promote_types(anchors.dtype, torch.float32)
        similarity = F.normalize(anchors.to(dtype), dim=1) @ F.normalize(keys.to(dtype), dim=1).T / temperature
    return similarity, torch.eye(*similarity.shape, dtype=torch.bool, device=anchors.device)
