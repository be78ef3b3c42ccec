"""Radii of the uncertainty balls, and the probability that such a ball holds the true centroid.

Our reading of the paper's Appendix A: with n samples of total variance tau^2 in nu effective dimensions,
``nu n |mu_hat - mu|^2 / tau^2`` follows chi-square with nu degrees of freedom, so a ball of radius eps holds the true
centroid with probability ``p(eps) = F_nu(nu n eps^2 / tau^2)``. Along one direction, whose variance is tau^2 / nu, the
error is at most eps with probability ``F_1(nu n eps^2 / tau^2)``: the radius is smaller there by about sqrt(nu).
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EpsMode = Literal["zero", "shared", "sqrt_n", "learned", "coverage"]
RadiusDim = Literal["effective", "features"]
RadiusOf = Literal["ball", "direction"]

SERIES_TERMS = 256  # of the lower incomplete gamma function below its mean: 1e-12 relative up to 2048 dimensions
TINY = 1e-30  # in place of a zero radius or variance, whose logarithm is infinite


def fixed_radii(eps_mode: EpsMode, eps: float, class_counts: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Radii that depend on the class sizes alone, (C,): ``zero`` 0, ``shared`` eps, ``sqrt_n`` eps / sqrt(n_c)."""
    counts = class_counts.to(dtype)
    if eps_mode == "zero":
        return torch.zeros_like(counts)
    return torch.full_like(counts, eps) if eps_mode == "shared" else eps * counts.rsqrt()


def inverse_softplus(x: float) -> float:
    """The argument at which softplus is x > 0."""
    return x + math.log(-math.expm1(-x))


def log_ball_probability(
    eps: Tensor, class_counts: Tensor, total_variance: Tensor, dim: Tensor, freedom: Tensor | None = None
) -> Tensor:
    """Log-probability that the true centroid lies in the ball, log p_c(eps_c), (C,) float64; finite gradient in eps.

    Args:
        eps: Radii, (C,), >= 0; below 1e-30 they count as 1e-30.
        class_counts: Training images of each class, (C,), >= 1.
        total_variance: tau_c^2, expected squared distance of a sample to its true centroid, (C,), >= 0.
        dim: Effective dimension nu of the features within a class, 0-d, > 0.
        freedom: Degrees of freedom of the error, 0-d; nu by default, 1 for the error along one direction.
    """
    squared = eps.double().clamp(min=TINY).square()
    scaled = dim.double() * class_counts * squared / total_variance.double().clamp(min=TINY)
    return log_chi2_cdf(scaled, dim if freedom is None else freedom)


def coverage_radius(
    coverage: float, class_counts: Tensor, total_variance: Tensor, dim: Tensor, freedom: Tensor | None = None
) -> Tensor:
    """Radius whose ball holds the true centroid with probability `coverage`, (C,) float64.

    It is ``tau_c sqrt(F_nu^-1(coverage) / (nu n_c))``; arguments as in :func:`log_ball_probability`.
    """
    quantile = chi2_quantile(coverage, dim if freedom is None else freedom)
    return (total_variance.double() * quantile / (dim.double() * class_counts)).sqrt()


def mean_coverage_factor(
    coverage: float,
    radii: Tensor,
    class_counts: Tensor,
    total_variance: Tensor,
    dim: Tensor,
    freedom: Tensor | None = None,
) -> Tensor:
    """Factor on `radii` (C,), > 0, at which the mean of p_c over classes is `coverage`, 0-d float64.

    It is found by bisection as in :func:`chi2_quantile`; arguments as in :func:`log_ball_probability`.
    """
    statistics = (class_counts, total_variance, dim, freedom)
    of_class = coverage_radius(coverage, *statistics) / radii.double()  # at these factors each class alone has it
    low, high = of_class.amin(), of_class.amax()
    for _ in range(60):
        middle = (low + high) / 2
        is_below = log_ball_probability(middle * radii.double(), *statistics).exp().mean() < coverage
        low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
    return (low + high) / 2


class _LogChi2Cdf(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, shape: Tensor) -> Tensor:
        # The regularised lower incomplete gamma function at x: its series below the mean, where gammainc underflows
        # (p = exp(-9856) at D = 2048, n = 5, eps = 0.1), its complement above, where the series would be long.
        steps = torch.arange(1, SERIES_TERMS, device=x.device, dtype=x.dtype)
        log_terms = x.log()[..., None] * steps - (shape + steps).log().cumsum(0)  # (..., terms)
        log_series = torch.log1p(log_terms.exp().sum(-1))
        below = shape * x.log() - x - torch.lgamma(shape + 1) + log_series
        above = torch.log1p(-torch.special.gammaincc(shape, x))
        return torch.where(x < shape, below, above)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, shape, log_cdf = ctx.saved_tensors
        log_density = (shape - 1) * x.log() - x - torch.lgamma(shape)
        return grad * (log_density - log_cdf).exp(), None


def log_chi2_cdf(x: Tensor, dim: Tensor) -> Tensor:
    """Log of the chi-square distribution function; finite with finite gradient for any x > 0.

    Args:
        x: Tensor of any shape, > 0.
        dim: Degrees of freedom, 0-d, > 0, not differentiated.

    Returns:
        float64, of the shape of x, in nats.
    """
    half: Tensor = _LogChi2Cdf.apply(x.double() / 2, dim.double() / 2)
    return half


def chi2_quantile(probability: float, dim: Tensor) -> Tensor:
    """Point below which chi-square with `dim` > 0 degrees of freedom (0-d) falls with `probability` in (0, 1), 0-d.

    Bisection with a fixed number of steps on the tensor's device: nothing waits for an accelerator.
    """
    dim = dim.double()
    tail = -math.log1p(-probability)
    low = torch.zeros_like(dim)
    # Laurent & Massart (2000), Lemma 1: the upper tail beyond this point holds at most exp(-tail) = 1 - probability
    high = dim + 2 * (dim * tail).sqrt() + 2 * tail
    for _ in range(100):
        middle = (low + high) / 2
        is_below = torch.special.gammainc(dim / 2, middle / 2) < probability
        low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
    return (low + high) / 2
