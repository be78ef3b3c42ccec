"""Distances between batches of vectors, and unit vectors, with gradients that stay finite at zero."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Distance = Literal["euclidean", "student_t", "cosine"]
DISTANCES: tuple[str, ...] = get_args(Distance)


class _PairwiseDistance(torch.autograd.Function):
    """Distances whose gradient is a matrix product; the gradient of cdist needs (B, K, D) on CUDA."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, mode: str) -> Tensor:
        distances = torch.cdist(x, y, compute_mode=mode)
        ctx.save_for_backward(x, y, distances)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, distances = ctx.saved_tensors
        slope = torch.where(distances > 0, grad / distances, 0.0)  # the subgradient at distance 0 is 0
        grad_x = slope.sum(1)[:, None] * x - slope @ y if ctx.needs_input_grad[0] else None
        grad_y = slope.sum(0)[:, None] * y - slope.T @ x if ctx.needs_input_grad[1] else None
        return grad_x, grad_y, None


def pairwise_distance(x: Tensor, y: Tensor, *, by_product: bool) -> Tensor:
    """Euclidean distances of (B, D) to (K, D), as (B, K); gradient 0 at distance 0, memory O(B K + B D + K D).

    With `by_product` they come from matrix products: several times faster, and in float64 wrong by about 1e-8 of the
    vectors' norms. Otherwise they come from differences, which are exact near zero.
    """
    mode = "use_mm_for_euclid_dist" if by_product else "donot_use_mm_for_euclid_dist"
    if is_transformed(x, y):
        return torch.cdist(x, y, compute_mode=mode)
    distances: Tensor = _PairwiseDistance.apply(x, y, mode)
    return distances


def is_transformed(*tensors: Tensor) -> bool:
    """Whether `torch.func` differentiates or maps with respect to one of them.

    It wants autograd functions whose contexts are set up apart, which costs every call a tenth of a millisecond. A
    compiler cannot ask.
    """
    if torch.compiler.is_compiling():
        return False
    return any(torch.func.debug_unwrap(tensor) is not tensor for tensor in tensors)


def unit_vectors(x: Tensor) -> Tensor:
    """Rows of (B, D) divided by their norm; a zero row stays zero, with a finite gradient."""
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / torch.where(norm > 0, norm, 1.0)


def distance_of_radius(distance: Distance) -> Callable[[Tensor], Tensor]:
    """The increasing function f of d = f(r), r the Euclidean distance (for ``cosine``, between unit vectors)."""
    return _DISTANCES_OF_RADII[distance]


_DISTANCES_OF_RADII: dict[Distance, Callable[[Tensor], Tensor]] = {
    "euclidean": lambda r: r,
    "student_t": lambda r: torch.log1p(r.square()),
    "cosine": lambda r: 0.5 * r.square(),
}
