"""The contrastive losses against loops from their formulas, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drolt_pl.errors import SettingError
from drolt_pl.losses import balanced_contrastive, supervised_contrastive

C, E = 4, 6


def batch(size: int = 8, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, targets (class 1 is missing) and prototypes."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(size, E, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 2, 3])[torch.randint(3, (size,), generator=generator)]
    return z, targets, torch.randn(C, E, generator=generator, dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def supcon(z: Tensor, targets: list[int], temperature: float) -> float:
    losses = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and targets[p] == targets[i]]
        if not positives:
            continue
        total = sum(math.exp(cosine(z[i], z[j]) / temperature) for j in range(len(z)) if j != i)
        log_p = [cosine(z[i], z[p]) / temperature - math.log(total) for p in positives]
        losses.append(-sum(log_p) / len(log_p))
    return sum(losses) / len(losses)


def balanced(z: Tensor, targets: list[int], prototypes: Tensor, temperature: float) -> float:
    everything = [(point, label) for point, label in zip(z, targets, strict=True)]
    everything += [(point, label) for label, point in enumerate(prototypes)]
    losses = []
    for i in range(len(z)):
        others = [pair for j, pair in enumerate(everything) if j != i]
        total = 0.0
        for c in range(len(prototypes)):
            members = [math.exp(cosine(z[i], point) / temperature) for point, label in others if label == c]
            total += sum(members) / len(members)
        log_p = [cosine(z[i], point) / temperature - math.log(total) for point, label in others if label == targets[i]]
        losses.append(-sum(log_p) / len(log_p))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_supcon_is_its_formula(temperature: float, seed: int) -> None:
    z, targets, _ = batch(seed=seed)
    ours = supervised_contrastive(z, targets, temperature=temperature)
    assert float(ours) == pytest.approx(supcon(z, targets.tolist(), temperature), rel=1e-9)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_balanced_is_its_formula(temperature: float, seed: int) -> None:
    z, targets, prototypes = batch(seed=seed)
    ours = balanced_contrastive(z, targets, prototypes, temperature=temperature)
    assert float(ours) == pytest.approx(balanced(z, targets.tolist(), prototypes, temperature), rel=1e-9)


def test_samples_without_a_partner_do_not_count() -> None:
    z, _, _ = batch(5)
    alone = supervised_contrastive(z, torch.tensor([0, 0, 1, 2, 3]))
    assert float(alone) == pytest.approx(supcon(z, [0, 0, 1, 2, 3], 0.1))
    lonely = z.clone().requires_grad_()
    supervised_contrastive(lonely, torch.arange(5)).backward()
    assert lonely.grad is not None
    assert not lonely.grad.any()
    assert float(supervised_contrastive(z[:1], torch.tensor([2]))) == 0.0
    assert math.isfinite(float(balanced_contrastive(z[:1], torch.tensor([2]), batch()[2])))


def test_the_gradient_is_right() -> None:
    z, targets, prototypes = batch(5)
    inputs = (z.requires_grad_(), prototypes.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: balanced_contrastive(a, targets, b, temperature=0.5), inputs)
    assert torch.autograd.gradcheck(lambda a: supervised_contrastive(a, targets, temperature=0.5), inputs[:1])


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), size=st.integers(1, 20), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_blind_to_order_and_to_length(seed: int, size: int, scale: float) -> None:
    z, targets, prototypes = batch(size, seed)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    for loss, changed in (
        (supervised_contrastive(z, targets), supervised_contrastive(scale * z[order], targets[order])),
        (
            balanced_contrastive(z, targets, prototypes),
            balanced_contrastive(scale * z[order], targets[order], prototypes),
        ),
    ):
        torch.testing.assert_close(changed, loss, rtol=1e-6, atol=1e-9)
        assert float(loss) >= 0


def test_a_common_class_weighs_no_more_than_a_rare_one() -> None:
    """However many samples of other classes lie at their prototypes, a lone sample's loss is the same."""
    z, _, prototypes = batch(1)
    prototypes = prototypes[[0, 2, 2, 2]]  # all other classes at one place

    def loss_of_lone_sample(copies: int) -> float:
        points, targets = torch.cat([z, prototypes[2].expand(copies, E)]), torch.tensor([0] + [2] * copies)
        similarity = float(torch.nn.functional.cosine_similarity(z[0], prototypes[2], 0)) / 0.1
        # A copy's loss: its class and two others at similarity 10, and class 0, which is the sample and its prototype.
        to_0 = [similarity, cosine(prototypes[2], prototypes[0]) / 0.1]
        copy = math.log(3 * math.exp(10) + sum(map(math.exp, to_0)) / 2) - 10
        total = float(balanced_contrastive(points, targets, prototypes)) * (1 + copies)
        return total - copies * copy

    assert loss_of_lone_sample(1) == pytest.approx(loss_of_lone_sample(30))


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_raised(autocast: bool) -> None:
    z, targets, prototypes = batch()
    half, rows = z.bfloat16(), prototypes.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        losses = supervised_contrastive(half, targets), balanced_contrastive(half, targets, rows)
    assert balanced_contrastive(half, targets, prototypes) != losses[1]  # prototypes keep their digits
    expected = supervised_contrastive(half.float(), targets), balanced_contrastive(half.float(), targets, rows.float())
    for loss, full in zip(losses, expected, strict=True):
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full)


def test_a_wrong_temperature_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^temperature must be finite and > 0, got 0"):
        supervised_contrastive(*batch()[:2], temperature=0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    z, targets, prototypes = batch()
    with pytest.raises(ValueError, match=r"^targets must have shape \(\d+,\), got \(1,\)"):
        supervised_contrastive(z, targets[:1])
    for wrong in (prototypes[:, 1:], prototypes[0]):
        with pytest.raises(ValueError, match=r"^embeddings must be \(B, E\)"):
            balanced_contrastive(z, targets, wrong)
    with pytest.raises(ValueError, match=r"^embeddings must be \(B, E\)"):
        supervised_contrastive(z[0], targets)
