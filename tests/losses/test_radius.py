"""Radii and ball probabilities against scipy, and against sampled centroids."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from drolt_pl.losses.radius import (
    chi2_quantile,
    coverage_radius,
    fixed_radii,
    inverse_softplus,
    log_ball_probability,
    log_chi2_cdf,
)

DIMS = (0.5, 1.0, 3.5, 10.0, 64.0, 500.0, 2048.0)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def test_fixed_radii() -> None:
    counts = torch.tensor([100, 25, 1])
    assert fixed_radii("zero", 3.0, counts).tolist() == [0.0, 0.0, 0.0]
    assert fixed_radii("shared", 3.0, counts).tolist() == [3.0, 3.0, 3.0]
    assert fixed_radii("sqrt_n", 3.0, counts, torch.float64).tolist() == pytest.approx([0.3, 0.6, 3.0], rel=1e-15)


@pytest.mark.parametrize("eps", [1e-6, 0.1, 1.0, 70.0, 1e4])
def test_inverse_softplus(eps: float) -> None:
    assert float(torch.nn.functional.softplus(double(inverse_softplus(eps)))) == pytest.approx(eps, rel=1e-9)


@pytest.mark.parametrize("dim", DIMS)
def test_log_cdf_equals_scipy_where_that_is_finite(dim: float) -> None:
    x = torch.logspace(-6, 6, 400, dtype=torch.float64)
    x = torch.cat([x, dim * torch.linspace(0.3, 3, 400, dtype=torch.float64)])  # around the mean
    expected = torch.from_numpy(chi2.logcdf(x.numpy(), dim))
    compared = expected.isfinite() & (expected > -600)  # 1e-8 is the accuracy of torch's incomplete gamma function
    assert int(compared.sum()) > 300
    torch.testing.assert_close(log_chi2_cdf(x, double(dim))[compared], expected[compared], rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("dim", DIMS)
def test_log_cdf_is_finite_with_its_gradient_everywhere(dim: float) -> None:
    x = torch.logspace(-60, 12, 1000, dtype=torch.float64, requires_grad=True)
    value = log_chi2_cdf(x, double(dim))
    value.sum().backward()
    assert x.grad is not None
    assert bool(value.isfinite().all())
    assert bool(x.grad.isfinite().all())
    assert bool((value.diff() >= 0).all())
    assert bool((x.grad >= 0).all())


def test_log_cdf_far_below_the_smallest_float() -> None:
    # P(a, x) = x^a e^-x / Gamma(a + 1) (1 + x / (a + 1) + ...), in plain floats
    a, x = 1024.0, 50.0
    series, term = 1.0, 1.0
    for k in range(1, 60):
        term *= x / (a + k)
        series += term
    expected = a * math.log(x) - x - math.lgamma(a + 1) + math.log(series)
    assert expected < -2000
    assert float(log_chi2_cdf(double(2 * x), double(2 * a))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dim", DIMS)
def test_log_cdf_gradient(dim: float) -> None:
    x = dim * torch.tensor([0.02, 0.5, 0.9, 1.1, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: log_chi2_cdf(x, double(dim)), x.requires_grad_(), eps=1e-6 * dim)


def test_ball_probability_in_many_dimensions() -> None:
    # D = 2048, n = 5, eps = 0.1, unit variance in each dimension: p is about exp(-9856)
    eps = torch.full((1,), 0.1, requires_grad=True)
    value = log_ball_probability(eps, torch.tensor([5]), torch.tensor([2048.0]), torch.tensor(2048.0))
    value.sum().backward()
    assert eps.grad is not None
    assert float(value.detach()) == pytest.approx(-9856, abs=1)
    assert float(eps.grad) == pytest.approx(2048 / 0.1, rel=0.01)  # p ~ eps^D near zero


@pytest.mark.parametrize("eps", [0.0, 1e-30, 1e-4, 0.1, 10.0, 1e4])
@pytest.mark.parametrize("count", [1, 5, 1280])
def test_ball_probability_is_finite_over_a_grid(eps: float, count: int) -> None:
    for dim in DIMS:
        for variance in (0.0, 1e-6, 1.0, 1e8):
            radius = torch.full((1,), eps, requires_grad=True)
            value = log_ball_probability(radius, torch.tensor([count]), torch.tensor([variance]), torch.tensor(dim))
            value.sum().backward()
            assert radius.grad is not None
            assert math.isfinite(value.item())
            assert math.isfinite(radius.grad.item())
            assert value.item() <= 0


@settings(max_examples=80, database=None)
@given(probability=st.floats(1e-3, 1 - 1e-9), dim=st.floats(1.0, 4096.0))
def test_quantile_equals_scipy(probability: float, dim: float) -> None:
    assert float(chi2_quantile(probability, double(dim))) == pytest.approx(chi2.ppf(probability, dim), rel=1e-8)


@settings(max_examples=80, database=None)
@given(coverage=st.floats(0.01, 0.999), dim=st.sampled_from(DIMS), variance=st.floats(1e-6, 1e6))
def test_coverage_radius_has_that_coverage(coverage: float, dim: float, variance: float) -> None:
    counts, variances, nu = torch.tensor([1, 7, 500]), double(variance, 2 * variance, variance / 3), double(dim)
    radii = coverage_radius(coverage, counts, variances, nu)
    assert log_ball_probability(radii, counts, variances, nu).exp().tolist() == pytest.approx([coverage] * 3, rel=1e-8)


def test_coverage_of_sampled_centroids() -> None:
    # Means of 6 spherical Gaussian samples in 4 dimensions, variance 2 in each: total variance 8, nu = 4.
    generator = torch.Generator().manual_seed(0)
    means = math.sqrt(2.0) * torch.randn(20000, 6, 4, generator=generator).mean(1)
    radius = coverage_radius(0.9, torch.tensor([6]), torch.tensor([8.0]), torch.tensor(4.0))
    assert float((means.norm(dim=1) <= radius).float().mean()) == pytest.approx(0.9, abs=0.01)
