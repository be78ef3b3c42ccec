"""Re-weighting and EM against explicit loops, and what they do on data whose truth is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drolt_pl import prior

UNIFORM = torch.full((3,), 1 / 3, dtype=torch.float64)


def reweight_loop(probabilities: list[list[float]], model: list[float], test: list[float]) -> list[list[float]]:
    rows = []
    for row in probabilities:
        joint = [p * q / m for p, q, m in zip(row, test, model, strict=True)]
        rows.append([value / sum(joint) for value in joint])
    return rows


def em_loop(probabilities: list[list[float]], model: list[float], steps: int) -> list[float]:
    """Saerens et al. 2002, Eqs. 2.5 to 2.7, step by step."""
    found = list(model)
    for _ in range(steps):
        posterior = reweight_loop(probabilities, model, found)
        found = [sum(row[c] for row in posterior) / len(posterior) for c in range(len(model))]
    return found


def gaussians(counts: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of three overlapping classes and the exact likelihoods p(x | y), (N, 3), with their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), counts)
    features = rng.normal(2.5 * labels, 1.0)
    return torch.from_numpy(np.exp(-((features[:, None] - 2.5 * np.arange(3)) ** 2) / 2)), torch.from_numpy(labels)


def test_against_loops() -> None:
    probabilities = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    model, test = [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]
    expected = torch.tensor(reweight_loop(probabilities.tolist(), model, test), dtype=torch.float64)
    torch.testing.assert_close(prior.reweight(probabilities, torch.tensor(model), torch.tensor(test)), expected)
    found = prior.estimate(probabilities, torch.tensor(model), max_iterations=9, tolerance=0.0)
    assert not found.converged
    assert found.prior.tolist() == pytest.approx(em_loop(probabilities.tolist(), model, 9), abs=1e-6)


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3), st.integers(0, 100))
def test_laws(numbers: list[float], seed: int) -> None:
    probabilities = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)).double().softmax(1)
    model, test = torch.tensor(numbers), torch.tensor([0.2, 0.5, 0.3])
    there = prior.reweight(probabilities, model, test)
    assert torch.allclose(there.sum(1), torch.ones(5).double())
    assert torch.allclose(prior.reweight(there, test, model), probabilities, atol=1e-6)  # and back
    assert torch.allclose(prior.reweight(probabilities, model, model), probabilities)
    found = prior.estimate(probabilities, model).prior
    best = prior.log_likelihood(probabilities, model, found)
    assert best >= prior.log_likelihood(probabilities, model, test) - 1e-4


def test_em_recovers_the_frequencies_of_a_calibrated_model() -> None:
    likelihoods, _ = gaussians([300, 700, 2000], seed=0)
    model = torch.tensor([0.7, 0.25, 0.05], dtype=torch.float64)
    posterior = likelihoods * model / (likelihoods @ model)[:, None]
    found = prior.estimate(posterior, model)
    assert found.converged
    assert prior.total_variation(found.prior, torch.tensor([0.1, 0.7 / 3, 2 / 3])) < 0.03
    name, kept = prior.plausible(posterior, model, {"uniform": UNIFORM, "train": model}, found.prior)
    assert name == "estimate"
    assert torch.equal(kept, found.prior)


def test_calibration_mends_what_em_would_follow() -> None:
    """Logits three times too sharp and off by a number for each class: EM alone errs, after calibration it does not."""
    model = torch.tensor([0.7, 0.25, 0.05], dtype=torch.float64)

    def wrong(counts: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        likelihoods, labels = gaussians(counts, seed)
        return 3 * (likelihoods * model).log() + torch.tensor([2.0, 0.0, -4.0]), labels

    held, labels = wrong([300, 300, 300], 2)
    found = prior.calibrated(held, labels)
    assert found.scale == pytest.approx(1 / 3, rel=0.1)
    torch.testing.assert_close(found.prior, UNIFORM, atol=1e-3, rtol=0)
    logits, labels = wrong([300, 700, 2000], 0)
    truth = prior.frequencies(torch.bincount(labels))
    plain = prior.estimate(logits.softmax(1), model).prior
    mended = prior.estimate(found.logits(logits).softmax(1), found.prior).prior
    assert prior.total_variation(plain, truth) > 0.1
    assert prior.total_variation(mended, truth) < 0.04
    one = prior.calibrated(held[:1], labels[:1])  # two classes without an image
    assert bool(one.bias.isfinite().all())
    assert bool((one.prior > 0).all())
    with torch.inference_mode():
        assert prior.calibrated(held[:10].clone(), torch.zeros(10, dtype=torch.int64)).scale > 0
    with pytest.raises(ValueError, match="at least one row"):
        prior.calibrated(held[:0], labels[:0])
    with pytest.raises(ValueError, match="logits must be finite, or -inf"):
        prior.calibrated(math.nan * held, torch.zeros(900, dtype=torch.int64))


def test_a_class_that_cannot_be_bends_no_calibration() -> None:
    """The nearest mean gives a class without training images -inf."""
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(60, 2, generator=generator), torch.arange(60) % 2
    impossible = torch.full((60, 1), -math.inf)
    held_out = torch.cat([torch.cat([logits, impossible], 1), torch.tensor([[0.0, 1.0, -math.inf]])])
    found = prior.calibrated(held_out, torch.cat([targets, torch.tensor([2])]))
    expected = prior.calibrated(logits, targets)
    assert found.scale == pytest.approx(expected.scale, rel=1e-4)
    torch.testing.assert_close(found.bias[:2], expected.bias, rtol=1e-4, atol=1e-6)
    assert found.logits(held_out)[:, 2].eq(-math.inf).all()


def test_an_estimate_that_explains_hardly_more_is_not_kept() -> None:
    likelihoods, _ = gaussians([100, 100, 100], seed=1)
    model = torch.tensor([0.7, 0.25, 0.05], dtype=torch.float64)
    posterior = likelihoods * model / (likelihoods @ model)[:, None]
    found = prior.estimate(posterior, model).prior
    known = {"uniform": UNIFORM, "train": model}
    assert prior.plausible(posterior, model, known, found)[0] == "uniform"
    gain = prior.log_likelihood(posterior, model, found) - prior.log_likelihood(posterior, model, UNIFORM)
    assert 0 <= gain < math.log(300)


def test_a_class_that_cannot_be_stays_out() -> None:
    probabilities = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    model = torch.tensor([3.0, 1.0, 0.0])
    assert prior.reweight(probabilities, model, UNIFORM)[:2, 2].tolist() == [0, 0]
    assert torch.equal(prior.reweight(probabilities, model, UNIFORM)[2], probabilities[2].double())
    assert float(prior.estimate(probabilities[:2], model).prior[2]) == 0


def test_what_is_no_prior_is_refused() -> None:
    two = torch.tensor([[0.5, 0.5]])
    with pytest.raises(ValueError, match=r"probabilities must have shape \(N, C\), got \(2,\)"):
        prior.estimate(two[0], torch.ones(2))
    for wrong in ([0.0, 0.0], [-1.0, 2.0], [math.nan, 1.0], [math.inf, 1.0]):
        with pytest.raises(ValueError, match="a prior must be"):
            prior.frequencies(torch.tensor(wrong))
    with pytest.raises(ValueError, match="2 frequencies"):
        prior.reweight(two, torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="at least one row"):
        prior.estimate(two[:0], torch.ones(2))
