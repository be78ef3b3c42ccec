"""Losses of experts against loops from their formulas, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drolt_pl.losses.experts import class_temperatures, diversity, frequency_shifts, routing

COUNTS = torch.tensor([50, 20, 5, 1])


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def test_diversity_is_its_formula() -> None:
    logits = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    temperature = torch.tensor([1.0, 0.9, 0.8, 0.7], dtype=torch.float64)
    total = 0.0
    for sample in logits:
        mean = softmax((sample.mean(0) / temperature).tolist())
        for expert in sample:
            own = softmax((expert / temperature).tolist())
            total += sum(p * math.log(p / q) for p, q in zip(mean, own, strict=True)) / len(logits)
    assert float(diversity(logits, temperature)) == pytest.approx(0.85**2 * total, rel=1e-9)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 100.0]))
def test_diversity_is_nought_for_equal_experts_alone(seed: int, scale: float) -> None:
    logits = scale * torch.randn(6, 1, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert float(diversity(logits.expand(6, 3, 4), torch.ones(4))) == pytest.approx(0, abs=1e-12)
    assert float(diversity(torch.cat([logits, -logits], 1), torch.ones(4))) > 0


def test_the_mean_has_no_gradient() -> None:
    logits = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    diversity(logits, torch.ones(4)).backward()
    assert logits.grad is not None
    mean = logits.detach().mean(1, keepdim=True).softmax(2)
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(2) - mean) / 3)


def test_temperatures_rise_with_the_class() -> None:
    raw = [0.05 * 4 * n / 76 + 0.95 for n in COUNTS.tolist()]
    torch.testing.assert_close(class_temperatures(COUNTS, 0.05), torch.tensor([value / max(raw) for value in raw]))
    assert bool((class_temperatures(COUNTS, 0.0) == 1).all())


def test_routing_asks_where_a_later_expert_knows_better() -> None:
    right, wrong = [0.0, 5.0], [5.0, 0.0]
    running = torch.tensor([[wrong, right, wrong], [right, right, right], [wrong, wrong, wrong], [wrong, wrong, right]])
    wishes = torch.tensor([[0.3, -0.4], [1.0, 0.2], [-2.0, 0.1], [0.7, -0.6]], dtype=torch.float64)
    ask = [[1, 0], [0, 0], [0, 0], [1, 1]]
    total = 0.0
    for row, wanted in zip(wishes.tolist(), ask, strict=True):
        for wish, want in zip(row, wanted, strict=True):
            total += 20 * math.log1p(math.exp(-wish)) if want else math.log1p(math.exp(wish))
    found = routing(wishes, running, torch.tensor([1, 1, 1, 1]), weight=20.0)
    assert float(found) == pytest.approx(total / 8, rel=1e-9)


@pytest.mark.parametrize("counts", [[50, 20, 5, 1], [1, 50, 5, 20], [7, 7, 7, 7]])
def test_the_third_experts_frequencies_are_reversed(counts: list[int]) -> None:
    shifts = frequency_shifts(torch.tensor(counts), 2.0)
    prior = [count / sum(counts) for count in counts]
    swapped = dict(zip(sorted(prior), sorted(prior, reverse=True), strict=True))
    expected = [[0.0] * 4, [math.log(p) for p in prior], [math.log(p) - 2 * math.log(swapped[p]) for p in prior]]
    torch.testing.assert_close(shifts, torch.tensor(expected))
