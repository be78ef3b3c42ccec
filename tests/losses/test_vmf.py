"""Laws on the sphere against SciPy, against samples, and their limits."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ive
from scipy.stats import vonmises_fisher

from drolt_pl.losses.vmf import concentrations, expected_contrast, log_bessel


@pytest.mark.parametrize(("order", "error"), [(3, 1e-4), (7, 1e-6), (31, 1e-9), (63, 1e-10)])
def test_the_bessel_function_is_scipys(order: int, error: float) -> None:
    kappa = torch.tensor([1e-3, 0.1, 1.0, 10.0, 100.0, 1000.0, 1e5], dtype=torch.float64)
    values = [ive(order, k) for k in kappa.tolist()]
    for found, k, value in zip(log_bessel(order, kappa).tolist(), kappa.tolist(), values, strict=True):
        if value > 0:  # SciPy's underflows
            assert found == pytest.approx(math.log(value) + k - order * math.log(k), abs=error)
    at_nought = -order * math.log(2) - math.lgamma(order + 1)
    assert float(log_bessel(order, torch.tensor(0.0))) == pytest.approx(at_nought, abs=error)


def test_the_contrast_is_the_expectation() -> None:
    generator = np.random.default_rng(0)
    direction = np.array([0.6, 0.8] + [0.0] * 14)
    length = 0.7
    (kappa,) = concentrations(torch.from_numpy(length * direction)[None]).tolist()
    assert kappa == pytest.approx(16 * length / (1 - length**2))
    samples = vonmises_fisher(direction, kappa).rvs(400_000, random_state=generator)
    z = generator.normal(size=(3, 16))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    measured = np.log(np.exp(samples @ z.T / 0.5).mean(0))
    found = expected_contrast(torch.from_numpy(z), torch.from_numpy(length * direction)[None], temperature=0.5)
    np.testing.assert_allclose(found[:, 0].numpy(), measured, atol=0.01)


def test_a_class_without_a_mean_is_uniform() -> None:
    """Its contrast is the same for every embedding, and the gradient is finite."""
    z = torch.randn(4, 16, dtype=torch.float64, requires_grad=True)
    found = expected_contrast(z, torch.zeros(2, 16), temperature=0.1)
    torch.testing.assert_close(found, found[:1, :1].expand(4, 2))
    found.sum().backward()
    assert z.grad is not None
    assert bool(z.grad.isfinite().all())


def test_a_concentrated_class_is_its_mean() -> None:
    z = torch.randn(4, 32, dtype=torch.float64)
    mean = torch.nn.functional.normalize(torch.randn(1, 32, dtype=torch.float64), dim=1)
    cosine = torch.nn.functional.cosine_similarity(z, mean)
    found = expected_contrast(z, mean, temperature=0.1)[:, 0]
    torch.testing.assert_close(found, cosine / 0.1, rtol=0, atol=0.01)
    means = 0.9 * mean
    assert torch.autograd.gradcheck(lambda x: expected_contrast(x, means, temperature=0.1), z.requires_grad_())


def test_what_it_is_not_for_is_refused() -> None:
    z, means = torch.ones(2, 2), torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"^embeddings must be .*E >= 3, got \(2, 2\) and \(3, 2\)"):
        expected_contrast(z, means)
    with pytest.raises(ValueError, match=r"^temperature must be finite and > 0, got 0"):
        expected_contrast(torch.ones(2, 8), torch.ones(3, 8), temperature=0)
