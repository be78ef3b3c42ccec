"""What the stages minimise: the terms against their formulas, and where gradient flows."""

import pytest
import torch
from torch import Tensor, nn

from drolt_pl.classifiers import LinearClassifier, OLTRClassifier
from drolt_pl.errors import SettingError
from drolt_pl.losses import (
    Criterion,
    CrossEntropy,
    DROLTLoss,
    LogitAdjusted,
    balanced_contrastive,
    supervised_contrastive,
)
from drolt_pl.objectives import OLTR, BalancedContrastive, Batch, Classification, Robust, Rotation, SupCon
from drolt_pl.objectives.oltr import memory_loss, memory_pull

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
        self.register_buffer("centroids", torch.randn(C, D))
        self.frozen = frozen
        self.double()

    def robust(self, criterion: Criterion) -> Robust:
        """The objective with this model's loss and centroids."""
        objective = Robust(criterion=criterion, loss=self.loss)
        objective.centroids = self.centroids
        return objective

    def training_features(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.frozen):
            features: Tensor = self.backbone(images)
        return features


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
    criterion = CrossEntropy(COUNTS)
    for objective in (Classification(criterion=criterion), model.robust(criterion)):
        found = gradients(model, objective(model, batch())["loss"])
        assert not found["backbone.weight"]
        assert found["classifier.weight"]
        assert found.get("loss.balls.rho") == (objective.robust() is not None)


@pytest.mark.parametrize("ce_weight", [0.0, 0.3, 1.0])
def test_robust_is_equation_19(ce_weight: float) -> None:
    model, data = TinyModel(ce_weight=ce_weight), batch()
    terms = model.robust(CrossEntropy(COUNTS))(model, data)
    features = model.backbone(data.images)
    ce = nn.functional.cross_entropy(model.classifier(features), data.targets)
    robust = model.loss(features, data.targets, model.centroids.double())
    torch.testing.assert_close(terms["loss"], ce_weight * ce + (1 - ce_weight) * robust)
    torch.testing.assert_close(terms["loss_ce"], ce)
    torch.testing.assert_close(terms["loss_robust"], robust)


def test_a_mixed_image_counts_for_both_classes() -> None:
    model, data = TinyModel(ce_weight=0.0, temperature=2.0), batch(mixed=True)
    terms = model.robust(CrossEntropy(COUNTS))(model, data)
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
    objective = model.robust(CrossEntropy(COUNTS))
    expected = objective(model, plain)
    for mixed in (Batch(*plain[:2], plain.targets.roll(1), ones), Batch(*plain[:2], plain.targets, ones / 4)):
        for name, value in objective(model, mixed).items():
            torch.testing.assert_close(value, expected[name], msg=name)


def test_bfloat16_features_are_measured_in_float32() -> None:
    model, data = TinyModel(eps_mode="learned").float(), batch(mixed=True)
    data = Batch(data.images.float(), *data[1:])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model.robust(CrossEntropy(COUNTS))(model, data)
    full = model.robust(CrossEntropy(COUNTS))(model, data)
    assert half["loss"].dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(half["loss"], full["loss"], rtol=0.05, atol=0.05)
    assert all(gradients(model, half["loss"]).values())


def test_the_epochs_progress_reaches_the_criterion() -> None:
    model, data = TinyModel(), batch()
    objective = Classification(criterion=CrossEntropy(COUNTS, beta=0.9, start=0.5))
    early = objective(model, data)["loss"]
    objective.begin_epoch(0.5)
    assert objective(model, data)["loss"] != early


def test_supcon_trains_its_projection_and_no_classifier() -> None:
    model, data = TinyModel(), batch()
    objective = SupCon(criterion=CrossEntropy(COUNTS), num_features=D, temperature=0.2, class_counts=COUNTS).double()
    terms = objective(model, data)
    embeddings = objective.projection(model.backbone(data.images))
    torch.testing.assert_close(terms["loss"], supervised_contrastive(embeddings, data.targets, temperature=0.2))
    found = gradients(model, terms["loss"])
    assert found["backbone.weight"]
    assert not found["classifier.weight"]
    assert all(p.grad is not None for p in objective.parameters())


def test_bcl_is_the_criterion_and_a_share_of_the_contrast() -> None:
    model, data = TinyModel(), batch()
    objective = BalancedContrastive(criterion=LogitAdjusted(COUNTS), num_features=D, weight=0.35, temperature=0.1)
    objective.double()
    terms = objective(model, data)
    features = model.backbone(data.images)
    ce = LogitAdjusted(COUNTS)(model.classifier(features), data.targets)
    assert any(isinstance(layer, torch.nn.BatchNorm1d) for layer in objective.prototypes)
    prototypes = objective.prototypes(model.classifier.weight)
    contrast = balanced_contrastive(objective.projection(features), data.targets, prototypes, temperature=0.1)
    torch.testing.assert_close(terms["loss"], ce + 0.35 * contrast)
    assert all(gradients(model, terms["loss"]).values())
    assert all(p.grad is not None for p in objective.parameters())


def test_bcl_classifies_the_first_of_three_views_and_contrasts_the_others() -> None:
    model, data = TinyModel(), batch(12)
    data = data._replace(targets=data.targets[:4].repeat(3), views=3)
    objective = BalancedContrastive(criterion=LogitAdjusted(COUNTS), num_features=D, weight=0.35, num_hidden=32)
    objective.double()
    assert [layer.out_features for layer in objective.projection if isinstance(layer, nn.Linear)] == [32, 128]
    terms = objective(model, data)
    features = model.backbone(data.images)
    ce = LogitAdjusted(COUNTS)(model.classifier(features[:4]), data.targets[:4])
    torch.testing.assert_close(terms["loss_ce"], ce)
    # Their head's BatchNorm sees all three.
    embeddings, prototypes = objective.projection(features), objective.prototypes(model.classifier.weight)
    contrast = balanced_contrastive(embeddings[4:], data.targets[4:], prototypes, temperature=0.1)
    torch.testing.assert_close(terms["loss_contrastive"], contrast)
    assert terms["acc"] == (model.classifier(features[:4]).argmax(1) == data.targets[:4]).float().mean()


def test_two_views_are_both_classified_and_contrasted() -> None:
    model, data = TinyModel(), batch(8, mixed=True)
    objective = BalancedContrastive(criterion=LogitAdjusted(COUNTS), num_features=D).double()
    one, two = objective(model, data), objective(model, data._replace(views=2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    ce = LogitAdjusted(COUNTS)(model.classifier(model.backbone(data.images)), *data[1:4])
    torch.testing.assert_close(two["loss_ce"], ce)


def test_a_part_of_a_batch_keeps_what_was_mixed_in() -> None:
    data = batch(6, mixed=True)._replace(views=3)
    part = data.part(slice(2, 4))
    assert part.views == 1
    for whole, some in zip(data[:4], part[:4], strict=True):
        assert torch.equal(whole[2:4], some)  # type: ignore[index,arg-type]
    assert batch(6).part(slice(2)).partners is None


def test_supcons_code_multiplies_by_the_temperature_over_its_base() -> None:
    model, data = TinyModel(), batch()
    objective = SupCon(criterion=CrossEntropy(COUNTS), num_features=D, temperature=0.1, base_temperature=0.07).double()
    terms = objective(model, data)
    torch.testing.assert_close(terms["loss"], terms["loss_supcon"] / 0.7)
    with pytest.raises(SettingError, match=r"^base_temperature must be null or > 0, got 0$"):
        SupCon(criterion=CrossEntropy(COUNTS), num_features=D, base_temperature=0)


def test_rotation_turns_each_image_by_its_place() -> None:
    """A backbone that reads the corners tells the turns apart; labels play no part."""

    class Corners(TinyModel):
        def training_features(self, images: Tensor) -> Tensor:
            corners = images[:, 0, [0, 0, -1, -1], [0, -1, -1, 0]]  # clockwise from the upper left
            return torch.cat([corners, torch.zeros(len(corners), D - 4)], dim=1).double()

    images = torch.zeros(8, 1, 3, 3)
    images[:, 0, 0, 0] = 1.0
    kept = images.clone()
    objective = Rotation(criterion=CrossEntropy(COUNTS), num_features=D).double()
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.zero_()
        for turn, corner in enumerate((0, 3, 2, 1)):  # rot90 turns counter-clockwise
            objective.head.weight[turn, corner] = 50.0
    terms = objective(Corners(), Batch(images, torch.zeros(8, dtype=torch.long)))
    assert float(terms["acc"]) == 1.0
    assert float(terms["loss"].detach()) < 1e-6
    assert torch.equal(images, kept), "the batch is left as it is"
    assert gradients(objective, terms["loss"]) == {"head.weight": True, "head.bias": True}


@pytest.mark.parametrize("margin", [0.5, 10.0])
def test_the_memory_loss_is_its_formula(margin: float) -> None:
    generator = torch.Generator().manual_seed(2)
    features, memory = (torch.randn(size, D, generator=generator, dtype=torch.float64) for size in (7, C))
    targets = torch.tensor([0, 0, 1, 3, 3, 0, 1])
    attract = sum(float((z - memory[y]).square().sum()) for z, y in zip(features, targets, strict=True)) / (2 * 7)
    away = sum(
        float((z - memory[c]).square().sum())
        for z, y in zip(features, targets, strict=True)
        for c in range(C)
        if c != y
    )
    expected = attract + 0.01 * max(0.0, margin - away / (7 * C))
    assert float(memory_loss(features, targets, memory, margin=margin)) == pytest.approx(expected)


def test_the_memory_is_pulled_by_the_gradient_over_one_more_than_its_samples() -> None:
    generator = torch.Generator().manual_seed(2)
    features, memory = (torch.randn(size, D, generator=generator, dtype=torch.float64) for size in (7, C))
    targets = torch.tensor([0, 0, 1, 3, 3, 0, 1])
    expected = torch.zeros_like(memory)
    for c in range(C):
        own = features[targets == c]
        expected[c] = sum(memory[c] - z for z in own) / (7 * (1 + len(own))) if len(own) else 0.0
    torch.testing.assert_close(memory_pull(features, targets, memory), expected)
    # Over 1 + b_c of the first term's own gradient, at a margin that leaves the second one out.
    memory.requires_grad_()
    attract = 0.5 * (features - memory[targets]).square().sum(1).mean()
    (whole,) = torch.autograd.grad(attract, memory)
    torch.testing.assert_close(expected, whole / (1 + targets.bincount(minlength=C))[:, None])
    assert not torch.autograd.grad(memory_loss(features, targets, memory, margin=-1e9), memory)[0].any()


def oltr_model() -> TinyModel:
    model = TinyModel()
    model.classifier = OLTRClassifier(D, C).double()  # type: ignore[assignment]
    model.classifier.begin(None, generator=torch.Generator().manual_seed(0))
    model.classifier.fit(None, model.centroids, torch.tensor(COUNTS))  # type: ignore[attr-defined]
    return model


def test_oltr_trains_its_memory_by_its_own_loss() -> None:
    model, data = oltr_model(), batch()
    terms = OLTR(criterion=CrossEntropy(COUNTS), weight=0.01)(model, data)
    torch.testing.assert_close(terms["loss"], terms["loss_ce"] + 0.01 * terms["loss_memory"])
    assert all(gradients(model, terms["loss"]).values())
    assert not gradients(model, OLTR(criterion=CrossEntropy(COUNTS))(model, data)["loss_ce"])["classifier.memory"]


@pytest.mark.parametrize("weight", [0.0, 0.01, 1.0])
def test_the_weight_of_the_memory_loss_is_the_features_alone(weight: float) -> None:
    """The pull is what their backward pass returns, whatever the weight; the repelling term has it."""
    model, data = oltr_model(), batch()
    gradients(model, OLTR(criterion=CrossEntropy(COUNTS), weight=weight, margin=1e4)(model, data)["loss"])
    features = model.backbone(data.images).detach()
    memory = model.classifier.memory.detach().requires_grad_()  # type: ignore[union-attr]
    distances = (features[:, None] - memory).square().sum(2)
    others = distances.masked_fill(nn.functional.one_hot(data.targets, C).bool(), 0.0).sum() / distances.numel()
    (repel,) = torch.autograd.grad(weight * 0.01 * (1e4 - others), memory)
    expected = memory_pull(features, data.targets, memory) + repel
    torch.testing.assert_close(model.classifier.memory.grad, expected)  # type: ignore[union-attr]


def test_the_memory_learns_at_the_rates_of_the_backbone() -> None:
    model = oltr_model()
    beside = list(OLTR(criterion=CrossEntropy(COUNTS)).with_backbone(model.classifier))
    assert [id(parameter) for parameter in beside] == [id(model.classifier.memory)]  # type: ignore[union-attr]
    assert not list(Classification(criterion=CrossEntropy(COUNTS)).with_backbone(model.classifier))
