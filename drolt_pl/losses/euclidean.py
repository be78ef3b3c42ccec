"""The robust loss for Euclidean distances as one autograd function, which keeps a single (B, K) matrix."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

COLUMNS = 512  # features that are in float64 at a time
PAIRS = 2**17  # pairs of query and key that a CPU works on at a time: their float64 numbers fit its cache


class EuclideanRobustLoss(torch.autograd.Function):
    """``log sum_j exp((r_i - d_ij + 2 eps_i [j is hostile]) / T + w_ij)`` over the keys that are not left out, (B,).

    d_ij is the distance of key j to the centroid of query i's class, r_i the distance of the query itself to it.
    Distances come from matrix products in float64: they err by about 1e-8 of the features' norms, which is less than
    the rounding of float32 features. Beside its arguments the function needs under 4 (B K + B D) floats of memory; for
    many pairs on a CPU hardly more than the B K that it keeps.

    Args of `apply`:
        features: (B, D), float32 or less.
        keys: (K, D), or None where they are the features.
        eps: Radius of each query's class, (B,).
        targets: (B,).
        centroids: (C, D); no gradient flows into them.
        hostile: Pairs whose exponent holds 2 eps, (B, K) bool; never the own key.
        left_out: Pairs that are not in the sum, (B, K) bool, or None; never the own key.
        self_index: Position of each query among the keys, (B,).
        log_weights: w_ij, broadcastable to (B, K), or None.
        temperature: T.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        keys: Tensor | None,
        eps: Tensor,
        targets: Tensor,
        centroids: Tensor,
        hostile: Tensor,
        left_out: Tensor | None,
        self_index: Tensor,
        log_weights: Tensor | None,
        temperature: float,
    ) -> Tensor:
        in_keys, keys = keys is None, features if keys is None else keys
        blocks = _row_blocks(len(features), keys)
        # Queries of one class share a centroid. On a GPU their number would be waited for, and is not asked.
        few = features.device.type == "cpu" and (features.shape[1] >= COLUMNS or len(blocks) > 1)
        classes, row = torch.unique(targets, return_inverse=True) if few else (targets, None)
        distances = _distances(centroids, classes, keys)
        weights = None if log_weights is None else log_weights.expand(len(features), len(keys))
        with_eps = ctx.needs_input_grad[2]
        found = []
        for rows in blocks:
            d = _part(distances, rows) if row is None else distances[_part(row, rows)]
            out = None if left_out is None else _part(left_out, rows)
            weighted = None if weights is None else _part(weights, rows)
            given = _part(eps, rows), _part(hostile, rows), _part(self_index, rows), out, weighted
            found.append(_of_queries(d, *given, temperature, in_keys=in_keys, with_eps=with_eps))
        loss, own_slope, by_eps, slopes = zip(*found, strict=True)
        ctx.temperature, ctx.blocks, ctx.in_keys = temperature, blocks, in_keys
        of_eps = _joined(by_eps) if with_eps else None
        ctx.save_for_backward(features, keys, centroids, _joined(own_slope), of_eps, classes, row, *slopes)
        return _joined(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, keys, centroids, own_slope, by_eps, classes, row, *slopes = ctx.saved_tensors
        grad = grad if ctx.temperature == 1 else grad / ctx.temperature
        double = _widest(features.device)
        push = slopes[0] if row is None else slopes[0].new_zeros(len(classes), len(keys), dtype=double)
        for rows, slope in zip(ctx.blocks, slopes, strict=True):
            of_block = slope.to(double).mul_(-_part(grad, rows)[:, None])  # (b, K)
            push = of_block if row is None else push.index_add_(0, _part(row, rows), of_block)
        from_all = push.sum(0)[:, None]
        grad_features = None if ctx.in_keys else torch.empty_like(features)
        grad_keys = torch.empty_like(keys)
        for columns in _column_blocks(features.shape[1]):
            mu = centroids[:, columns][classes].to(double)
            if grad_features is not None:
                own = mu if row is None else mu[row]
                grad_features[:, columns] = (features[:, columns] - own).mul_(-grad[:, None] * own_slope)
            grad_keys[:, columns] = keys[:, columns].to(double).mul_(from_all).addmm_(push.T, mu, alpha=-1)
        grad_eps = None if by_eps is None else grad * by_eps
        own_and_keys = (grad_keys, None) if ctx.in_keys else (grad_features, grad_keys)
        return *own_and_keys, grad_eps, None, None, None, None, None, None, None


def _distances(centroids: Tensor, classes: Tensor, keys: Tensor) -> Tensor:
    """Distances of the centroids of some classes (U,) to all keys, (U, K) in float64."""
    double = _widest(keys.device)
    squared = torch.zeros(len(classes), len(keys), dtype=double, device=keys.device)
    for columns in _column_blocks(keys.shape[1]):
        mu, z = centroids[:, columns][classes].to(double), keys[:, columns].to(double)
        squared.addmm_(mu, z.T, alpha=-2).add_(mu.square().sum(1)[:, None]).add_(z.square().sum(1))
    return squared.clamp_(min=0).sqrt_()


def _of_queries(
    d: Tensor,
    eps: Tensor,
    hostile: Tensor,
    self_index: Tensor,
    left_out: Tensor | None,
    log_weights: Tensor | None,
    temperature: float,
    *,
    in_keys: bool,
    with_eps: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """The loss of a block of queries (b,), and its slopes by the own distance (b, 1), eps (b,) and distances d (b, K).

    Overwrites d.
    """
    own = self_index[:, None]
    r = d.gather(1, own)  # (b, 1)
    slopes = d.float().reciprocal_().nan_to_num_(nan=torch.nan, posinf=0.0)  # the subgradient at distance 0 is 0
    exponents = d.neg_().add_(r)
    exponents.addcmul_(hostile.to(d.dtype), eps.to(d.dtype)[:, None], value=2)
    if temperature != 1:
        exponents /= temperature
    if log_weights is not None:
        exponents += log_weights
    if left_out is not None:
        exponents.masked_fill_(left_out, -torch.inf)
    largest = exponents.amax(1)
    p = exponents.sub_(largest[:, None]).float().exp_()
    total = p.sum(1, dtype=d.dtype)  # near 1 its excess is the loss
    slopes *= p.div_(total[:, None].float()).scatter_(1, own, 0.0)  # the own key's exponent is constant
    by_eps = 2 * (p * hostile).sum(1) if with_eps else None
    own_slope = -torch.where(r > 0, p.sum(1, keepdim=True) / r, 0.0).float()
    if in_keys:
        slopes.scatter_(1, own, own_slope)
    return (largest + total.log()).float(), own_slope, by_eps, slopes


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _column_blocks(width: int) -> Iterator[slice]:
    return (slice(start, start + COLUMNS) for start in range(0, width, COLUMNS))


def _row_blocks(size: int, keys: Tensor) -> list[slice | None]:
    """Blocks of so many of `size` queries; null where one holds all, as on a GPU."""
    rows = max(PAIRS // max(len(keys), 1), 1)
    if keys.device.type != "cpu" or rows >= size:
        return [None]
    return [slice(start, start + rows) for start in range(0, size, rows)]


def _part(tensor: Tensor, rows: slice | None) -> Tensor:
    return tensor if rows is None else tensor[rows]
