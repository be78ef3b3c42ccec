"""The robust loss for Euclidean distances as one autograd function, which keeps a single (B, K) matrix."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

COLUMNS = 512  # features that are in float64 at a time


class EuclideanRobustLoss(torch.autograd.Function):
    """``log sum_j exp((r_i - d_ij + 2 eps_i [j is hostile]) / T + w_ij)`` over the keys that are not left out, (B,).

    d_ij is the distance of key j to the centroid of query i's class, r_i the distance of the query itself to it.
    Distances come from matrix products in float64: they err by about 1e-8 of the features' norms, which is less than
    the rounding of float32 features. Beside its arguments the function needs under 4 (B K + B D) floats of memory.

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
        double = _widest(features.device)
        own = self_index[:, None]
        # Queries of one class share a centroid. On a GPU their number would be waited for, and is not asked.
        few = features.device.type == "cpu" and features.shape[1] >= COLUMNS
        classes, row = torch.unique(targets, return_inverse=True) if few else (targets, None)
        squared = torch.zeros(len(classes), len(keys), dtype=double, device=features.device)
        for columns in _column_blocks(features.shape[1]):
            mu, z = centroids[:, columns][classes].to(double), keys[:, columns].to(double)
            squared.addmm_(mu, z.T, alpha=-2).add_(mu.square().sum(1)[:, None]).add_(z.square().sum(1))
        del mu, z
        d = squared.clamp_(min=0).sqrt_()
        d = d if row is None else d[row]  # (B, K)
        r = d.gather(1, own)  # (B, 1)
        slopes = d.float().reciprocal_().nan_to_num_(nan=torch.nan, posinf=0.0)  # the subgradient at distance 0 is 0
        exponents = d.neg_().add_(r)
        exponents.addcmul_(hostile.to(double), eps.to(double)[:, None], value=2)
        if temperature != 1:
            exponents /= temperature
        if log_weights is not None:
            exponents += log_weights
        if left_out is not None:
            exponents.masked_fill_(left_out, -torch.inf)
        largest = exponents.amax(1)
        p = exponents.sub_(largest[:, None]).float().exp_()
        del squared, d, exponents  # one tensor, not needed any more
        total = p.sum(1, dtype=double)  # near 1 its excess is the loss
        slopes *= p.div_(total[:, None].float()).scatter_(1, own, 0.0)  # the own key's exponent is constant
        by_eps = 2 * (p * hostile).sum(1) if ctx.needs_input_grad[2] else None
        own_slope = -torch.where(r > 0, p.sum(1, keepdim=True) / r, 0.0).float()
        if in_keys:
            slopes.scatter_(1, own, own_slope)
        ctx.temperature, ctx.in_keys = temperature, in_keys
        ctx.save_for_backward(features, keys, centroids, slopes, own_slope, by_eps, classes, row)
        return (largest + total.log()).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, keys, centroids, slopes, own_slope, by_eps, classes, row = ctx.saved_tensors
        grad = grad if ctx.temperature == 1 else grad / ctx.temperature
        push = slopes.to(_widest(features.device)).mul_(-grad[:, None])  # (B, K)
        from_all = push.sum(0)[:, None]
        if row is not None:
            push = push.new_zeros(len(classes), len(keys)).index_add_(0, row, push)
        grad_features = None if ctx.in_keys else torch.empty_like(features)
        grad_keys = torch.empty_like(keys)
        for columns in _column_blocks(features.shape[1]):
            mu = centroids[:, columns][classes].to(push.dtype)
            if grad_features is not None:
                own = mu if row is None else mu[row]
                grad_features[:, columns] = (features[:, columns] - own).mul_(-grad[:, None] * own_slope)
            grad_keys[:, columns] = keys[:, columns].to(push.dtype).mul_(from_all).addmm_(push.T, mu, alpha=-1)
        grad_eps = None if by_eps is None else grad * by_eps
        own_and_keys = (grad_keys, None) if ctx.in_keys else (grad_features, grad_keys)
        return *own_and_keys, grad_eps, None, None, None, None, None, None, None


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _column_blocks(width: int) -> Iterator[slice]:
    return (slice(start, start + COLUMNS) for start in range(0, width, COLUMNS))
