"""The DRO-LT loss in explicit float64 loops, written from the equations, and the worst centroid of a ball."""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from drolt_pl.losses import DROLTLoss

Row = list[float]


def euclidean(x: Row, y: Row) -> float:
    return math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def unit(x: Row) -> Row:
    norm = math.sqrt(math.fsum(a * a for a in x))
    return [a / norm for a in x] if norm > 0 else x


def log_sum_exp(values: Row) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def exponent(bound: str, distance: str, *, r_i: float, r_j: float, between: float, same: bool, eps: float) -> float:
    """a_ij of the table of bounds for two different samples; -inf where the pair is left out."""
    if distance == "euclidean":
        plain, worst = r_i - r_j, r_i - r_j + 2 * eps
    elif distance == "student_t":
        plain = math.log1p(r_i**2) - math.log1p(r_j**2)
        worst = math.log1p((r_i + eps) ** 2) - math.log1p(max(r_j - eps, 0.0) ** 2)
    else:
        plain = r_i**2 / 2 - r_j**2 / 2
        worst = (r_i + eps) ** 2 / 2 - max(r_j - eps, 0.0) ** 2 / 2
    if bound == "paper":
        return plain if same else worst
    if bound == "negatives":
        return -math.inf if same else worst
    return worst if bound == "sample" else min(worst, between)


def reference_robust(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    *,
    temperature: float,
    bound: str,
    distance: str,
    key_weights: Row | None = None,
) -> Row:
    """robust_i of every sample of the batch; key_weights multiply the terms of the sum."""
    z, mu, y = features.double().tolist(), centroids.double().tolist(), targets.tolist()
    if distance == "cosine":
        z, mu = [unit(row) for row in z], [unit(row) for row in mu]
    losses = []
    for i, c in enumerate(y):
        values = []
        for j, other in enumerate(y):
            if i == j:
                a = 0.0
                # Alone of its class in Z_i, the sample of `negatives` stands for itself.
                weight = 1.0 if key_weights is None or bound == "negatives" else key_weights[j]
            else:
                a = exponent(
                    bound,
                    distance,
                    r_i=euclidean(mu[c], z[i]),
                    r_j=euclidean(mu[c], z[j]),
                    between=euclidean(z[i], z[j]),
                    same=c == other,
                    eps=float(eps[c]),
                )
                weight = 1.0 if key_weights is None else key_weights[j]
            values.append(a / temperature + math.log(weight))
        losses.append(log_sum_exp(values))
    return losses


def reference_loss(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    class_counts: list[int],
    *,
    denominator: str,
    class_weight: str,
    **options: Any,
) -> float:
    """L_robust of the batch."""
    y = targets.tolist()
    in_batch = {c: y.count(c) for c in y}
    weights = [class_counts[c] / in_batch[c] for c in y] if denominator == "weighted" else None
    robust = reference_robust(features, targets, centroids, eps, key_weights=weights, **options)
    if class_weight == "present":
        of_class = {c: [value for value, other in zip(robust, y, strict=True) if other == c] for c in in_batch}
        return sum(sum(values) / len(values) for values in of_class.values()) / len(of_class)
    if class_weight == "uniform":
        return sum(robust) / len(y)
    scale = sum(class_counts) / (len(y) * len(class_counts))
    return sum(scale / class_counts[c] * value for value, c in zip(robust, y, strict=True))


def distance_of(distance: str, mu: Tensor, z: Tensor) -> Tensor:
    """d(mu, z) by broadcasting; for cosine of unit z, while mu may be any point of the ball."""
    r = torch.linalg.vector_norm(mu - z, dim=-1)
    return {"euclidean": r, "student_t": torch.log1p(r**2), "cosine": r**2 / 2}[distance]


def worst_nll(z: Tensor, mu: Tensor, eps: Tensor, temperature: Tensor, member: Tensor, distance: str) -> Tensor:
    """Largest -log P(z_0 | q) over the ball |q - mu| <= eps, by projected gradient ascent from several starts.

    Shapes: z (M, K, D), mu (M, D), eps and temperature (M,), member (M, K): the samples in Z. Returns (M,).
    """
    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(len(z), 8, z.shape[2], generator=generator, dtype=z.dtype)
    starts[:, 0] = 0.0
    starts[:, 1] = mu - z[:, 0]  # away from the sample
    starts[:, 2:4] = z[:, 1:3] - mu[:, None]  # towards others

    def project(shift: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(shift, dim=-1, keepdim=True).clamp(min=1e-12)
        return shift * (eps[:, None, None] / norm).clamp(max=1.0)

    def nll(shift: Tensor) -> Tensor:  # (M, starts)
        d = distance_of(distance, (mu[:, None] + shift)[:, :, None], z[:, None])  # (M, starts, K)
        logits = (d[..., :1] - d) / temperature[:, None, None]
        return logits.masked_fill(~member[:, None], -torch.inf).logsumexp(-1)

    shift, best = project(starts), torch.full((len(z),), -torch.inf, dtype=z.dtype)
    for step in range(120):
        shift = shift.detach().requires_grad_()
        value = nll(shift)
        best = torch.maximum(best, value.detach().amax(1))
        (slope,) = torch.autograd.grad(value.sum(), shift)
        slope = slope / torch.linalg.vector_norm(slope, dim=-1, keepdim=True).clamp(min=1e-12)
        shift = project(shift + 0.5 * 0.96**step * eps[:, None, None] * slope)
    return best


def gathered_steps(
    rank: int, world: int, choices: list[dict[str, Any]], batch: tuple[Tensor, ...]
) -> list[tuple[Tensor, ...]]:
    """For each choice of options: loss and gradients of this rank's part of the batch, averaged over ranks like DDP."""
    features, targets, centroids, class_counts, matrix = batch
    mine = slice(rank * len(targets) // world, (rank + 1) * len(targets) // world)
    steps = []
    for options in choices:
        loss = DROLTLoss(len(centroids), centroids.shape[1], class_counts, gather=True, **options)
        loss.set_statistics(torch.ones(len(centroids)), 2.0)
        weight = matrix.clone().requires_grad_()
        value = loss(features[mine] @ weight, targets[mine], centroids)
        value.backward()
        found = [value.detach(), weight.grad, *(parameter.grad for parameter in loss.parameters())]
        if world > 1:
            for tensor in found:
                dist.all_reduce(tensor)
        steps.append((*(tensor / world for tensor in found), loss.updates))
    return steps


def unequal_batches(rank: int, world: int) -> str:
    loss = DROLTLoss(2, 1, [3, 3], gather=True)
    try:
        loss(torch.zeros(2 + rank, 1), torch.zeros(2 + rank, dtype=torch.long), torch.zeros(2, 1))
    except ValueError as error:
        return str(error)
    return ""
