"""The robust loss of DRO-LT as free functions of tensors (Samuel & Chechik, ICCV 2021, Eqs. 6-18)."""

from typing import Literal, get_args

import torch
from torch import Tensor

from drolt_pl.classes import class_indices
from drolt_pl.errors import require, require_choice
from drolt_pl.losses.checks import check_radii, check_temperature, constant
from drolt_pl.losses.distances import (
    DISTANCES,
    Distance,
    distance_of_radius,
    is_transformed,
    pairwise_distance,
    unit_vectors,
)
from drolt_pl.losses.euclidean import EuclideanRobustLoss

Bound = Literal["paper", "negatives", "sample", "tight"]
BOUNDS: tuple[str, ...] = get_args(Bound)


def robust_loss(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    *,
    temperature: float = 1.0,
    bound: Bound = "paper",
    distance: Distance = "euclidean",
    keys: Tensor | None = None,
    key_targets: Tensor | None = None,
    key_log_weights: Tensor | None = None,
    self_index: Tensor | None = None,
) -> Tensor:
    r"""Worst-case contrastive loss of each sample over the eps-ball of its class (Samuel & Chechik 2021, Eq. 18).

    ``robust_i = log sum_j exp(a_ij / T + w_j)`` with ``a_ii = 0`` and a_ij as in :func:`exponents`.

    Args:
        features: Embeddings of the queries, (B, D), any float dtype.
        targets: Class indices, (B,), integers in [0, C).
        centroids: Class means over the training set, (C, D); no gradient flows into them.
        eps: Radius of each class's ball, (C,), >= 0, in units of the Euclidean distance.
        temperature: Softmax temperature T, > 0.
        bound: Form of a_ij; ``negatives``, ``sample`` and ``tight`` are upper bounds of the worst case.
        distance: ``euclidean`` r, ``student_t`` log(1 + r^2), or ``cosine`` r^2 / 2 of unit vectors.
        keys: Samples in the denominator, (K, D), queries included; default: the queries.
        key_targets: Their classes, (K,); needed with ``keys``.
        key_log_weights: w_j, (K,), default 0. With ``negatives`` the own key weighs 1: it represents itself alone.
        self_index: Position of each query among the keys, (B,); default: query i is key i.

    Returns:
        Loss per sample, (B,), in nats; float32, or float64 for float64 features.

    Raises:
        SettingError: an option that is not allowed.
        ValueError: a shape that does not fit; on CPU also a target or radius out of range.
    """
    check_temperature(temperature)
    self_index = torch.arange(len(features), device=features.device) if self_index is None else self_index
    num_keys = len(features if keys is None else keys)
    weights = None
    if key_log_weights is not None:
        if key_log_weights.shape != (num_keys,):
            raise ValueError(f"key_log_weights must be ({num_keys},), got {tuple(key_log_weights.shape)}")
        weights = key_log_weights
        if bound == "negatives":
            weights = weights.expand(len(features), -1).masked_fill(own_pairs(self_index, num_keys), 0.0)
    with torch.autocast(features.device.type, enabled=False):
        rest = (targets, centroids, eps, bound, distance, keys, key_targets, self_index)
        fused = distance == "euclidean" and bound != "tight" and features.dtype != torch.float64 and num_keys
        if fused and not is_transformed(features, eps, features if keys is None else keys):
            return _fused(features, *rest, weights, temperature)
        logits = exponents(features, *rest) / temperature  # (B, K)
        if weights is not None:
            logits = logits + weights
        return logits.logsumexp(1).to(torch.promote_types(features.dtype, torch.float32))


def _fused(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    bound: Bound,
    distance: Distance,
    keys: Tensor | None,
    key_targets: Tensor | None,
    self_index: Tensor,
    weights: Tensor | None,
    temperature: float,
) -> Tensor:
    """As :func:`exponents` and logsumexp, at less cost, for the bounds that are linear in Euclidean distances."""
    keys, key_targets = _keys(features, targets, keys, key_targets)
    targets, key_targets = _checked_targets(features, targets, centroids, eps, keys, key_targets, self_index)
    require_choice("bound", bound, BOUNDS)
    is_other_class = targets[:, None] != key_targets[None, :]
    hostile = ~own_pairs(self_index, len(keys)) if bound == "sample" else is_other_class
    left_out = ~(is_other_class | own_pairs(self_index, len(keys))) if bound == "negatives" else None
    others = None if keys is features else keys
    inputs = (features, others, eps[targets], targets, constant(centroids), hostile, left_out, self_index)
    loss: Tensor = EuclideanRobustLoss.apply(*inputs, weights, temperature)
    return loss


def exponents(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    bound: Bound = "paper",
    distance: Distance = "euclidean",
    keys: Tensor | None = None,
    key_targets: Tensor | None = None,
    self_index: Tensor | None = None,
) -> Tensor:
    """Exponents a_ij of the robust loss, before the temperature; arguments as in :func:`robust_loss`.

    With d_j the distance of key j to the centroid of the query's class, ``plain = d_i - d_j`` and
    ``worst = d_i - d_j + 2 eps`` (``f(r_i + eps) - f(max(r_j - eps, 0))`` where d = f(r)):

    - ``paper``: ``worst`` for keys of other classes, ``plain`` for keys of the own class: Eq. 18. It bounds the
      worst-case negative log-likelihood over the query and the other classes, not over Z as Theorem 1 says.
    - ``negatives``: ``worst`` for other classes; the own class is left out (-inf): Theorem 1 repaired.
    - ``sample``: ``worst`` for all: an upper bound over Z.
    - ``tight``: ``min(worst, |z_i - z_j|)`` for all: an upper bound over Z, exact at eps = 0; Euclidean only.

    Returns:
        (B, K) in float64, whatever the dtype of the features (float32 on MPS, which has no float64).
    """
    require_choice("bound", bound, BOUNDS)
    require_choice("distance", distance, DISTANCES)
    fits = bound != "tight" or distance == "euclidean"
    require("distance", distance, fits, "must be 'euclidean' where bound is 'tight'")
    keys, key_targets = _keys(features, targets, keys, key_targets)
    self_index = torch.arange(len(features), device=features.device) if self_index is None else self_index
    targets, key_targets = _checked_targets(features, targets, centroids, eps, keys, key_targets, self_index)
    # a_ij is the difference of two distances: at d = 1e4 and T = 0.01, float32 would err by 0.1 nat.
    dtype = torch.float32 if features.device.type == "mps" else torch.float64
    z, z_keys, mu = features.to(dtype), keys.to(dtype), constant(centroids)[targets].to(dtype)  # (B, D), (K, D), (B, D)
    if distance == "cosine":
        z, z_keys, mu = unit_vectors(z), unit_vectors(z_keys), unit_vectors(mu)
    radius = eps[targets].to(dtype)  # (B,)
    r_own = torch.linalg.vector_norm(z - mu, dim=1)  # (B,)
    # The faster way errs by less than the rounding of float32 features.
    by_product = dtype == torch.float64 != features.dtype
    r = pairwise_distance(mu, z_keys, by_product=by_product)  # (B, K): every key to the centroid of the query's class
    if distance == "euclidean":
        plain = r_own[:, None] - r
        worst = plain + 2 * radius[:, None]
    else:
        f = distance_of_radius(distance)
        plain = f(r_own)[:, None] - f(r)
        worst = f(r_own + radius)[:, None] - f((r - radius[:, None]).clamp(min=0.0))
    same_class = targets[:, None] == key_targets[None, :]
    if bound == "paper":
        a = torch.where(same_class, plain, worst)
    elif bound == "negatives":
        a = worst.masked_fill(same_class, -torch.inf)
    elif bound == "sample":
        a = worst
    else:
        a = torch.minimum(worst, pairwise_distance(z, z_keys, by_product=by_product))
    return a.masked_fill(own_pairs(self_index, len(keys)), 0.0)


@torch.no_grad()
def second_branch_share(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    *,
    keys: Tensor | None = None,
    key_targets: Tensor | None = None,
    self_index: Tensor | None = None,
) -> Tensor:
    """Share of the pairs i != j in which the bound ``tight`` takes |z_i - z_j|, 0-d; see :func:`robust_loss`."""
    rest = (keys, key_targets, self_index)
    worst = exponents(features, targets, centroids, eps, "sample", "euclidean", *rest)  # (B, K)
    tight = exponents(features, targets, centroids, eps, "tight", "euclidean", *rest)
    return (tight < worst).sum() / max(worst.numel() - len(worst), 1)


def own_pairs(self_index: Tensor, num_keys: int) -> Tensor:
    """A mask of the pairs in which key j is query i itself, (B, K) bool."""
    return self_index[:, None] == torch.arange(num_keys, device=self_index.device)[None, :]


def _keys(features: Tensor, targets: Tensor, keys: Tensor | None, key_targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The keys and their classes; by default the queries and theirs."""
    if keys is None and key_targets is None:
        return features, targets
    if keys is None or key_targets is None:
        raise ValueError("keys and key_targets must be given together")
    return keys, key_targets


def _checked_targets(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    keys: Tensor,
    key_targets: Tensor,
    self_index: Tensor,
) -> tuple[Tensor, Tensor]:
    """Both targets as class indices; raises ValueError where an argument does not fit the others."""
    if features.ndim != 2 or centroids.ndim != 2 or keys.ndim != 2:
        raise ValueError("features, centroids and keys must be matrices: (B, D), (C, D) and (K, D)")
    (size, width), num_classes, num_keys = features.shape, len(centroids), len(keys)
    for name, tensor, shape in (
        ("centroids", centroids, (num_classes, width)),
        ("eps", eps, (num_classes,)),
        ("keys", keys, (num_keys, width)),
        ("self_index", self_index, (size,)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if num_keys < size:
        raise ValueError(f"keys must hold every query: {size} queries, {num_keys} keys")
    check_radii(eps)
    indices = class_indices(targets, size, num_classes)
    own = key_targets is targets
    return indices, indices if own else class_indices(key_targets, num_keys, num_classes, "key_targets")
