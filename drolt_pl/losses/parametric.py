"""Parametric contrastive loss: samples and learnable class centres in one softmax (PaCo, Cui et al. 2021)."""

import torch
from torch import Tensor

from drolt_pl.classes import class_indices
from drolt_pl.losses.contrastive import cosines


def parametric_contrastive(
    queries: Tensor,
    targets: Tensor,
    centre_logits: Tensor,
    keys: Tensor,
    key_targets: Tensor,
    *,
    temperature: float = 0.05,
    alpha: float = 0.01,
    smoothing: float = 0.0,
) -> Tensor:
    r"""PaCo's loss, averaged over the queries, 0-d.

    .. math:: -\frac{\sum_c y_{ic} \log p_{ic} + \alpha \sum_{j \in P(i)} \log q_{ij}}{1 + \alpha |P(i)|}

    p and q are shares in one softmax over the C centre logits and the similarities :math:`z_i k_j / T` to all keys but
    the query itself; P(i) holds the keys of its class, and y is its one-hot label, perhaps smoothed.

    Args:
        queries: (B, E), any float dtype; normalised here, computed in at least float32.
        targets: (B,).
        centre_logits: (B, C), with the logarithm of the class frequencies added in the source.
        keys: (K, E); normalised here. The first B of them are the queries.
        key_targets: (K,); keys of a negative class are left out.
        temperature: T, > 0; 0.05 in the code for CIFAR.
        alpha: Weight of a key of the own class beside the centre's 1; 0.01 in the code for CIFAR, 0.05 for large sets.
        smoothing: Share of the label that the other classes get (GPaCo).
    """
    similarity, own = cosines(queries, keys, temperature)
    centre_logits = centre_logits.to(similarity.dtype)
    out = own | (key_targets < 0)[None, :]
    lowest = torch.finfo(similarity.dtype).min
    every = torch.cat([centre_logits, similarity.masked_fill(out, lowest)], 1)  # (B, C + K)
    log_p = every - every.logsumexp(1, keepdim=True)
    num_classes = centre_logits.shape[1]
    targets = class_indices(targets, len(queries), num_classes)
    labels = torch.full_like(centre_logits, smoothing / max(num_classes - 1, 1)).scatter(
        1, targets[:, None], 1 - smoothing
    )
    positives = (targets[:, None] == key_targets[None, :]) & ~out
    weights = torch.cat([labels, alpha * positives.to(labels.dtype)], 1)
    return -((weights * log_p.masked_fill(weights == 0, 0.0)).sum(1) / weights.sum(1)).mean()
