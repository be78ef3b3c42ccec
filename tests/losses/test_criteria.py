"""Every criterion against loops written from its formula, in float64; its weights, its mixing and its limits."""

import doctest
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drolt_pl.errors import SettingError
from drolt_pl.losses import (
    LDAM,
    Criterion,
    CrossEntropy,
    Focal,
    FrequencyWeighted,
    LabelAwareSmoothing,
    LogitAdjusted,
    SigmoidFocal,
    WeightedFocal,
    effective_number,
)

COUNTS = [500, 120, 37, 6, 1]
C = len(COUNTS)


def log_softmax(row: Sequence[float]) -> list[float]:
    total = math.log(sum(math.exp(value - max(row)) for value in row)) + max(row)
    return [value - total for value in row]


def cross_entropy(row: list[float], y: int) -> float:
    return -log_softmax(row)[y]


def focal(row: list[float], y: int, gamma: float = 2.0) -> float:
    p = math.exp(log_softmax(row)[y])
    return -((1 - p) ** gamma) * math.log(p)


def sigmoid_focal(row: list[float], y: int, gamma: float = 2.0) -> float:
    """Cui et al. 2019: a focal term of every class's sigmoid."""
    q = [1 / (1 + math.exp(-s if c == y else s)) for c, s in enumerate(row)]
    return sum(-((1 - value) ** gamma) * math.log(value) for value in q)


def weighted_focal(row: list[float], y: int, weight: float = 1.0, gamma: float = 2.0) -> float:
    """LDAM-DRW's code: the weight inside p."""
    loss = weight * cross_entropy(row, y)
    return (1 - math.exp(-loss)) ** gamma * loss


def ldam(row: list[float], y: int) -> float:
    margins = [n ** (-1 / 4) for n in COUNTS]
    margins = [0.5 * margin / max(margins) for margin in margins]
    return -log_softmax([s - 30 * margins[c] * (c == y) for c, s in enumerate(row)])[y]


def logit_adjusted(row: list[float], y: int, tau: float = 1.5) -> float:
    return -log_softmax([s + tau * math.log(n / sum(COUNTS)) for s, n in zip(row, COUNTS, strict=True)])[y]


def label_aware(row: list[float], y: int) -> float:
    place = (COUNTS[y] - min(COUNTS)) / (max(COUNTS) - min(COUNTS))
    smoothing = 0.1 + (0.4 - 0.1) * math.sin(math.pi * place / 2)
    target = [1 - smoothing if c == y else smoothing / (C - 1) for c in range(C)]
    return -sum(q * log_p for q, log_p in zip(target, log_softmax(row), strict=True))


Reference = Callable[..., float]
KINDS: dict[str, tuple[type[Criterion], dict[str, Any], Reference]] = {
    "ce": (CrossEntropy, {}, cross_entropy),
    "focal": (Focal, {"gamma": 2.0}, focal),
    "sigmoid_focal": (SigmoidFocal, {"gamma": 2.0}, sigmoid_focal),
    "weighted_focal": (WeightedFocal, {"gamma": 2.0}, weighted_focal),
    "ldam": (LDAM, {}, ldam),
    "logit_adjusted": (LogitAdjusted, {"tau": 1.5}, logit_adjusted),
    "label_aware_smoothing": (LabelAwareSmoothing, {}, label_aware),
}
EACH = pytest.mark.parametrize("kind", KINDS)
BY_BATCH = {
    "focal",
    "sigmoid_focal",
    "weighted_focal",
}  # divided by the samples, as Cui et al.'s and LDAM-DRW's code; the others by the weights, as torch


def make(kind: str, **options: Any) -> Criterion:
    cls, own, _ = KINDS[kind]
    return cls(COUNTS, **{**own, **options}).double()


def weighted(kind: str, row: list[float], y: int, weight: float) -> float:
    reference = KINDS[kind][2]
    return reference(row, y, weight) if kind == "weighted_focal" else weight * reference(row, y)


def batch(size: int = 12, seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Class 2 is missing."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(size, C, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 3, 4])[torch.randint(4, (size,), generator=generator)]


def weights_of(beta: float) -> list[float]:
    weights = [(1 - beta) / (1 - beta**n) for n in COUNTS]
    return [C * weight / sum(weights) for weight in weights]


@EACH
@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_the_weighted_mean_of_the_formula(kind: str, beta: float) -> None:
    logits, targets = batch()
    weights = weights_of(beta) if beta else [1.0] * C
    total = mass = 0.0
    for row, y in zip(logits.tolist(), targets.tolist(), strict=True):
        total += weighted(kind, row, y, weights[y])
        mass += 1 if kind in BY_BATCH else weights[y]
    assert float(make(kind, beta=beta)(logits, targets)) == pytest.approx(total / mass, rel=1e-6)


@EACH
def test_mixed_batches_count_both_labels(kind: str) -> None:
    logits, targets = batch()
    partners, shares = targets.flip(0), torch.linspace(0, 1, len(targets), dtype=torch.float64)
    weights = weights_of(0.99)
    total = mass = 0.0
    for row, a, b, share in zip(logits.tolist(), targets.tolist(), partners.tolist(), shares.tolist(), strict=True):
        total += share * weighted(kind, row, a, weights[a]) + (1 - share) * weighted(kind, row, b, weights[b])
        mass += 1 if kind in BY_BATCH else share * weights[a] + (1 - share) * weights[b]
    loss = make(kind, beta=0.99)(logits, targets, partners, shares)
    assert float(loss) == pytest.approx(total / mass, rel=1e-6)


@EACH
def test_a_share_of_one_is_no_mixing(kind: str) -> None:
    logits, targets = batch()
    criterion = make(kind, beta=0.9)
    ones = torch.ones(len(targets), dtype=torch.float64)
    torch.testing.assert_close(criterion(logits, targets, targets.flip(0), ones), criterion(logits, targets))


@EACH
def test_the_gradient_is_right(kind: str) -> None:
    logits, targets = batch(5)
    criterion = make(kind, beta=0.99)
    assert torch.autograd.gradcheck(lambda x: criterion(x, targets), logits.requires_grad_())


def test_weights_equal_those_of_torch() -> None:
    logits, targets = batch()
    weight = torch.tensor(weights_of(0.9999))
    ours = CrossEntropy(COUNTS, beta=0.9999)(logits.float(), targets)
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits.float(), targets, weight=weight))


def test_frequency_weights_undo_balanced_draws() -> None:
    """On as many samples of each class, the weighted mean is the mean that the images as they come would give."""
    logits = batch(C)[0]
    losses = torch.nn.functional.cross_entropy(logits, torch.arange(C), reduction="none")
    expected = sum(n * float(loss) for n, loss in zip(COUNTS, losses, strict=True)) / sum(COUNTS)
    assert float(FrequencyWeighted(COUNTS)(logits, torch.arange(C))) == pytest.approx(expected, rel=1e-6)


def test_the_published_range_of_weights() -> None:
    """CIFAR-100-LT at ratio 100: from 0.045 to 4.38."""
    counts = [int(500 * 100 ** (-c / 99)) for c in range(100)]
    weights = CrossEntropy(counts, beta=0.9999).class_weights
    assert float(weights[0]) == pytest.approx(0.045, abs=1e-3)
    assert float(weights[-1]) == pytest.approx(4.38, abs=1e-2)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20), st.floats(0, 1 - 1e-9))
def test_weights_sum_to_the_classes_and_favour_the_rare(counts: list[int], beta: float) -> None:
    weights = effective_number.effective_number_weights(torch.tensor(counts), beta)
    assert float(weights.sum()) == pytest.approx(len(counts), rel=1e-4)
    order = torch.tensor(counts).argsort()
    assert bool((weights[order].diff() <= 1e-6).all())


@pytest.mark.parametrize(("beta", "effective"), [(0.9, 127), (0.99, 57), (0.999, 28), (0.9999, 26)])
def test_beta_decides_how_many_images_a_batch_is_worth(beta: float, effective: int) -> None:
    """CIFAR-100-LT at ratio 100, batches of 128: (sum w)^2 / sum w^2."""
    counts = torch.tensor([int(500 * 100 ** (-c / 99)) for c in range(100)])
    weights = effective_number.effective_number_weights(counts, beta).double()
    found = 128 * (counts * weights).sum() ** 2 / (counts.sum() * (counts * weights**2).sum())
    assert float(found) == pytest.approx(effective, abs=0.5)


def test_beta_near_one_is_inverse_frequency() -> None:
    weights = effective_number.effective_number_weights(torch.tensor(COUNTS), 1 - 1e-12)
    inverse = torch.tensor([1 / n for n in COUNTS])
    torch.testing.assert_close(weights, inverse * C / inverse.sum(), rtol=1e-4, atol=0)


def test_deferred_weights_start_with_their_epoch_and_not_before() -> None:
    """LDAM-DRW: unweighted for the epochs 0 to 159 of 200."""
    logits, targets = batch()
    criterion = CrossEntropy(COUNTS, beta=0.9999, start=0.8)
    plain, weighted = CrossEntropy(COUNTS)(logits, targets), CrossEntropy(COUNTS, beta=0.9999)(logits, targets)
    assert criterion(logits, targets) == plain
    for epochs in (200, 30, 45, 10, 5):
        for epoch in range(epochs):
            criterion.begin_epoch(epoch / epochs)
            assert criterion(logits, targets) == (weighted if 10 * epoch >= 8 * epochs else plain)


def test_relations() -> None:
    logits, targets = batch()
    plain = make("ce")(logits, targets)
    torch.testing.assert_close(make("focal", gamma=0.0)(logits, targets), plain)
    torch.testing.assert_close(make("ldam", max_margin=0.0)(logits, targets), plain)
    torch.testing.assert_close(make("logit_adjusted", tau=0.0)(logits, targets), plain)
    torch.testing.assert_close(make("label_aware_smoothing", head=0.0, tail=0.0)(logits, targets), plain)
    smoothed = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.25)
    torch.testing.assert_close(make("label_aware_smoothing", head=0.2, tail=0.2)(logits, targets), smoothed)
    torch.testing.assert_close(make("weighted_focal")(logits, targets), make("focal")(logits, targets))
    sigmoid = torch.nn.functional.binary_cross_entropy_with_logits
    one_hot = torch.nn.functional.one_hot(targets, C).double()
    expected = sigmoid(logits, one_hot, reduction="none").sum(1).mean()
    torch.testing.assert_close(make("sigmoid_focal", gamma=0.0)(logits, targets), expected)
    # e / C of every class is e' / (C - 1) of the others for e' = e (C - 1) / C
    shared = make("label_aware_smoothing", head=0.2, tail=0.2, spread="all")(logits, targets)
    torch.testing.assert_close(shared, torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.2))
    torch.testing.assert_close(shared, make("label_aware_smoothing", head=0.16, tail=0.16)(logits, targets))
    # tau 1 is the balanced softmax of Ren et al. 2020
    balanced = torch.nn.functional.cross_entropy(logits + torch.tensor(COUNTS).log(), targets)
    torch.testing.assert_close(make("logit_adjusted", tau=1.0)(logits, targets), balanced)


def test_published_margins() -> None:
    """CIFAR-100-LT at ratio 100: from 0.158 to 0.5."""
    margins = LDAM([int(500 * 100 ** (-c / 99)) for c in range(100)]).margins
    assert float(margins.min()) == pytest.approx(0.158, abs=1e-3)
    assert float(margins.max()) == 0.5


@EACH
@settings(max_examples=30)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 30.0, 1e4]), beta=st.sampled_from([0.0, 0.9999]))
def test_finite_not_negative_and_blind_to_order(kind: str, seed: int, scale: float, beta: float) -> None:
    logits, targets = batch(seed=seed, scale=scale)
    criterion = make(kind, beta=beta).float()
    x = logits.float().requires_grad_()
    loss = criterion(x, targets)
    (gradient,) = torch.autograd.grad(loss, x)
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())
    assert bool(loss >= 0)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(criterion(x[order], targets[order]), loss, rtol=1e-4, atol=1e-6)


@EACH
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_raised(kind: str, autocast: bool) -> None:
    logits, targets = batch()
    criterion = KINDS[kind][0](COUNTS, **KINDS[kind][1], beta=0.9999)
    half = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = criterion(half, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, criterion(half.float(), targets))


@EACH
def test_one_sample_and_one_image_a_class(kind: str) -> None:
    criterion = KINDS[kind][0]([1, 1, 1], **KINDS[kind][1], beta=0.9999)
    assert float(criterion(torch.zeros(1, 3), torch.tensor([2]))) >= 0


@EACH
def test_checkpoints_hold_nothing_of_it(kind: str) -> None:
    assert not make(kind).state_dict()
    assert not list(make(kind).parameters())


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (CrossEntropy, {"beta": 1.0}, "beta must be in .* got 1.0"),
        (CrossEntropy, {"start": 1.1}, "start must be in .* got 1.1"),
        (Focal, {"gamma": -1}, "gamma must be >= 0, got -1"),
        (LDAM, {"max_margin": -0.5}, "max_margin must be >= 0, got -0.5"),
        (LDAM, {"scale": 0}, "scale must be > 0, got 0"),
        (LogitAdjusted, {"tau": -1}, "tau must be >= 0, got -1"),
        (LabelAwareSmoothing, {"head": 1}, "head must be in .* got 1"),
        (LabelAwareSmoothing, {"tail": -0.1}, "tail must be in .* got -0.1"),
        (LabelAwareSmoothing, {"spread": "none"}, "spread must be one of .'others', 'all'., got 'none'"),
    ],
)
def test_a_wrong_value_is_named(cls: type[Criterion], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=f"^{message}"):
        cls(COUNTS, **options)


def test_shapes_and_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingError, match=r"^class_counts must be whole numbers of at least 1, got \[3, 0\]"):
        CrossEntropy([3, 0])
    with pytest.raises(ValueError, match=r"^logits must be \(B, 5\), got \(2, 3\)"):
        CrossEntropy(COUNTS)(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"^targets must be in \[0, 5\)"):
        CrossEntropy(COUNTS)(torch.zeros(2, 5), torch.tensor([0, 5]))


def test_docstring_examples_run() -> None:
    assert doctest.testmod(effective_number) == (0, 1)
