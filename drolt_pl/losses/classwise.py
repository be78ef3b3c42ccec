"""The exact robust loss: the likelihood of a sample's class when each centroid may lie anywhere in its ball."""

import math

import torch
from torch import Tensor

from drolt_pl.classes import can_be_read, class_indices
from drolt_pl.errors import require_choice
from drolt_pl.losses.checks import check_radii, check_temperature, constant
from drolt_pl.losses.distances import DISTANCES, Distance, distance_of_radius, pairwise_distance, unit_vectors


def classwise_loss(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    *,
    temperature: float = 1.0,
    distance: Distance = "euclidean",
    log_prior: Tensor | None = None,
    own_factor: Tensor | None = None,
) -> Tensor:
    r"""Largest -log P(c | z) of each sample over all centroids that lie in their balls.

    ``l(z, c) = log(1 + sum_{k != c} pi_k / pi_c exp((f(d_c + eps_c) - f(max(d_k - eps_k, 0))) / T))``,
    ``d_k = |mu_k - z|``. The maximum is attained: the own centroid lies at the far side of its ball, every other one at
    the point of its ball nearest to z. The loss of a sample does not depend on other samples, so neither the batch nor
    the number of ranks changes it.

    Args:
        features: Embeddings, (B, D), any float dtype.
        targets: Class indices, (B,), integers in [0, C).
        centroids: Class means over the training set, (C, D); no gradient flows into them.
        eps: Radius of each class's ball, (C,), >= 0, in units of the Euclidean distance.
        temperature: Softmax temperature T, > 0.
        distance: ``euclidean`` r, ``student_t`` log(1 + r^2), or ``cosine`` r^2 / 2 of unit vectors.
        log_prior: log pi_k up to a constant, (C,), default 0. At -inf the sum leaves the class out: a class without
            centroid needs this.
        own_factor: Factor on d_c by class, (C,), default 1; see :func:`leave_one_out_factor`.

    Returns:
        Loss per sample, (B,), in nats; float32, or float64 for float64 features. Memory O(B C + B D + C D).

    Raises:
        SettingError: an option that is not allowed.
        ValueError: a shape that does not fit; on CPU also a value out of range.
    """
    check_temperature(temperature)
    require_choice("distance", distance, DISTANCES)
    targets = _checked_targets(features, targets, centroids, eps, log_prior, own_factor)
    # The loss is a difference of two distances: at d = 1e4 and T = 0.01, float32 would err by 0.1 nat.
    dtype = torch.float32 if features.device.type == "mps" else torch.float64
    with torch.autocast(features.device.type, enabled=False):
        z, mu, radii = features.to(dtype), constant(centroids).to(dtype), eps.to(dtype)
        if log_prior is not None:  # a mean of no samples may be nan
            mu = mu.masked_fill((log_prior == -math.inf)[:, None], 0.0)
        if distance == "cosine":
            z, mu = unit_vectors(z), unit_vectors(mu)
        f = distance_of_radius(distance)
        own = torch.linalg.vector_norm(z - mu[targets], dim=1)  # (B,)
        if own_factor is not None:
            own = own * own_factor.to(dtype)[targets]
        # The faster way errs by less than the rounding of float32 features.
        d = pairwise_distance(z, mu, by_product=dtype == torch.float64 != features.dtype)  # (B, C)
        logits = (f(own + radii[targets])[:, None] - f((d - radii).clamp(min=0.0))) / temperature
        if log_prior is not None:
            logits = logits + (log_prior - log_prior[targets][:, None])
        is_own = targets[:, None] == torch.arange(len(mu), device=targets.device)
        return logits.masked_fill(is_own, 0.0).logsumexp(1).to(torch.promote_types(features.dtype, torch.float32))


def leave_one_out_factor(class_counts: Tensor) -> Tensor:
    """Factor n / (n - 1) by class, (C,), and 1 for a class of one sample.

    It is a sample's distance to the mean of its class's other samples, over its distance to the mean of all of them.
    """
    return torch.where(class_counts > 1, class_counts / (class_counts - 1).clamp(min=1), 1.0)


def _checked_targets(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    log_prior: Tensor | None,
    own_factor: Tensor | None,
) -> Tensor:
    """The targets as class indices; raises ValueError where an argument does not fit the others."""
    if features.ndim != 2 or centroids.ndim != 2:
        raise ValueError("features and centroids must be matrices: (B, D) and (C, D)")
    (size, width), num_classes = features.shape, len(centroids)
    for name, tensor, shape in (
        ("centroids", centroids, (num_classes, width)),
        ("eps", eps, (num_classes,)),
        ("log_prior", log_prior, (num_classes,)),
        ("own_factor", own_factor, (num_classes,)),
    ):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    targets = class_indices(targets, size, num_classes)
    check_radii(eps)
    if log_prior is not None and can_be_read(log_prior):
        if not bool((log_prior < math.inf).all()):
            raise ValueError(f"log_prior must be < inf, got {log_prior.max().item()}")
        if not bool(log_prior[targets].isfinite().all()):
            raise ValueError("log_prior must be finite for the classes of targets")
    return targets
