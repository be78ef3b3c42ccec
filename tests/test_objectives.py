"""What the stages minimise: the terms against their formulas, and where gradient flows."""

import pytest
import torch
from torch import Tensor, nn

from drolt_pl.classifiers import LinearClassifier
from drolt_pl.losses import CrossEntropy, DROLTLoss
from drolt_pl.objectives import Batch, Classification, Robust

COUNTS = [20, 8, 3, 1]
C, D = len(COUNTS), 6


class TinyModel(nn.Module):
    """The least that objectives ask of a module; `images` are vectors."""

    def __init__(self, *, frozen: bool = False, **loss: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(5, D)
        self.classifier = LinearClassifier(D, C)
        self.loss = DROLTLoss(C, D, COUNTS, **loss)  # type: ignore[arg-type]
        self.centroids = torch.randn(C, D)
        self.frozen = frozen
        self.double()

    def training_features(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.frozen):
            features: Tensor = self.backbone(images)
        return features

    def step_centroids(self, features: Tensor, targets: Tensor) -> Tensor:
        return self.centroids.double()


def batch(size: int = 9, *, mixed: bool = False) -> Batch:
    """Class 2 is missing from it."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, 5, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 1, 3])[torch.randint(3, (size,), generator=generator)]
    if not mixed:
        return Batch(images, targets)
    return Batch(images, targets, targets.roll(1), torch.linspace(0.1, 0.9, size, dtype=torch.float64))


def gradients(model: nn.Module, loss: Tensor) -> dict[str, bool]:
    """Whether each parameter has a gradient that is not zero."""
    model.zero_grad()
    loss.backward()
    return {name: p.grad is not None and bool(p.grad.any()) for name, p in model.named_parameters()}


def test_classification_is_the_criterion_of_the_classifier() -> None:
    model, data = TinyModel(), batch()
    terms = Classification(criterion=CrossEntropy(COUNTS, beta=0.9))(model, data)
    logits = model.classifier(model.backbone(data.images))
    torch.testing.assert_close(terms["loss"], CrossEntropy(COUNTS, beta=0.9)(logits, data.targets))
    assert terms["acc"] == (logits.argmax(1) == data.targets).float().mean()
    assert all(learns for name, learns in gradients(model, terms["loss"]).items())


def test_a_frozen_backbone_gets_no_gradient() -> None:
    model = TinyModel(frozen=True, eps_mode="learned")
    for objective in (Classification, Robust):
        found = gradients(model, objective(criterion=CrossEntropy(COUNTS))(model, batch())["loss"])
        assert not found["backbone.weight"]
        assert found["classifier.weight"]
        assert found.get("loss.balls.rho") == (objective is Robust)


@pytest.mark.parametrize("ce_weight", [0.0, 0.3, 1.0])
def test_robust_is_equation_19(ce_weight: float) -> None:
    model, data = TinyModel(ce_weight=ce_weight), batch()
    terms = Robust(criterion=CrossEntropy(COUNTS))(model, data)
    features = model.backbone(data.images)
    ce = nn.functional.cross_entropy(model.classifier(features), data.targets)
    robust = model.loss(features, data.targets, model.centroids.double())
    torch.testing.assert_close(terms["loss"], ce_weight * ce + (1 - ce_weight) * robust)
    torch.testing.assert_close(terms["loss_ce"], ce)
    torch.testing.assert_close(terms["loss_robust"], robust)


def test_a_mixed_image_counts_for_both_classes() -> None:
    model, data = TinyModel(ce_weight=0.0, temperature=2.0), batch(mixed=True)
    terms = Robust(criterion=CrossEntropy(COUNTS))(model, data)
    assert data.partners is not None
    assert data.shares is not None
    z, centroids, radii = model.backbone(data.images), model.centroids.double(), model.loss.radii(torch.float64)
    total = 0.0
    for labels, shares in ((data.targets, data.shares), (data.partners, 1 - data.shares)):
        present, counts = len(set(labels.tolist())), labels.bincount(minlength=C)
        for i, c in enumerate(labels.tolist()):
            denominator = 0.0
            for j, other in enumerate(labels.tolist()):
                gap = (z[i] - centroids[c]).norm() - (z[j] - centroids[c]).norm()
                gap = gap + 2 * radii[c] * (other != c) if j != i else 0 * gap
                denominator = denominator + (gap / 2.0).exp()
            total = total + shares[i] / (present * counts[c]) * torch.as_tensor(denominator).log()
    torch.testing.assert_close(terms["loss"], torch.as_tensor(total))


def test_unmixed_shares_change_nothing_and_the_prior_counts_once() -> None:
    model = TinyModel(eps_mode="learned", eps_prior=0.3)
    model.loss.set_statistics(torch.ones(C), 3.0)
    plain = batch()
    ones = torch.ones(len(plain.targets), dtype=torch.float64)
    objective = Robust(criterion=CrossEntropy(COUNTS))
    expected = objective(model, plain)
    for mixed in (Batch(*plain[:2], plain.targets.roll(1), ones), Batch(*plain[:2], plain.targets, ones / 4)):
        for name, value in objective(model, mixed).items():
            torch.testing.assert_close(value, expected[name], msg=name)


def test_bfloat16_features_are_measured_in_float32() -> None:
    model, data = TinyModel(eps_mode="learned").float(), batch(mixed=True)
    data = Batch(data.images.float(), *data[1:])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = Robust(criterion=CrossEntropy(COUNTS))(model, data)
    full = Robust(criterion=CrossEntropy(COUNTS))(model, data)
    assert half["loss"].dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(half["loss"], full["loss"], rtol=0.05, atol=0.05)
    assert all(gradients(model, half["loss"]).values())


def test_the_epochs_progress_reaches_the_criterion() -> None:
    model, data = TinyModel(), batch()
    objective = Classification(criterion=CrossEntropy(COUNTS, beta=0.9, start=0.5))
    early = objective(model, data)["loss"]
    objective.begin_epoch(0.5)
    assert objective(model, data)["loss"] != early
