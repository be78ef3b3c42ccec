"""The measurements beside the robust loss: gradients of both losses, own mass, and held-out means in the balls."""

import pytest
import torch
from torch import Tensor, nn

from drolt_pl.losses import CrossEntropy, DROLTLoss, LayeredDROLTLoss
from drolt_pl.objectives import Batch, Robust
from drolt_pl.objectives.balance import gradient_balance
from drolt_pl.objectives.robust import MEASURED_EVERY

COUNTS = [20, 8, 3, 1]
MEASURES = {"own_mass", "grad_ratio", "grad_cosine"}


class Model(nn.Module):
    """The least that `Robust` asks of a module."""

    def __init__(self, *, frozen: bool = False, layers: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.classifier = nn.Linear(5, 6), nn.Linear(6, 4)
        one = DROLTLoss(4, 6, COUNTS)
        self.loss = LayeredDROLTLoss({"a": one, "b": DROLTLoss(4, 6, COUNTS)}) if layers else one
        self.centroids = torch.randn(4, 12 if layers else 6)
        self.frozen, self.layers = frozen, layers

    def training_features(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.frozen):
            self.last = self.backbone(images)
        return self.last

    def robust(self) -> Robust:
        """The objective with this model's loss, centroids and layers."""
        taps = Taps(self) if self.layers else None
        objective = Robust(criterion=CrossEntropy(COUNTS), loss=self.loss, taps=taps)  # type: ignore[arg-type]
        objective.centroids = self.centroids
        return objective


class Taps:
    """Two layers: the features, and twice the features."""

    widths = (6, 6)

    def __init__(self, model: Model) -> None:
        self.model = model

    def features(self) -> Tensor:
        return torch.cat([self.model.last, 2 * self.model.last], 1)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.randn(9, 5, generator=generator), torch.tensor([0, 1, 3, 0, 0, 1, 3, 3, 0]))


def test_the_balance_of_two_losses_by_hand() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    ce, robust = (2 * features[0]).sum(), (features * torch.tensor([[0.0, 6.0], [8.0, 0.0]])).sum()
    found = gradient_balance(ce, robust, features)
    assert float(found["grad_ratio"]) == pytest.approx(10 / 8**0.5)
    assert float(found["grad_cosine"]) == pytest.approx(12 / (8**0.5 * 10))
    assert not any(value.requires_grad for value in found.values())
    still = gradient_balance(ce, 0 * robust, features)  # the graph is there yet; a gradient of zero has no direction
    assert [float(value) for value in still.values()] == [0.0, 0.0]
    assert features.grad is None


def test_measurements_come_every_fiftieth_step_of_an_epoch() -> None:
    model = Model()
    objective = model.robust()
    found = [step for step in range(2 * MEASURED_EVERY + 1) if "own_mass" in objective(model, batch())]
    assert found == [0, MEASURED_EVERY, 2 * MEASURED_EVERY]
    objective.begin_epoch(0.5)
    assert set(objective(model, batch())) >= MEASURES


def test_measurements_are_those_of_the_losses_and_change_no_gradient() -> None:
    model, data = Model(), batch()
    objective = model.robust()
    steps = []
    for _ in range(2):  # with, then without
        terms = objective(model, data)
        model.zero_grad()
        terms["loss"].backward()
        steps.append((terms, [p.grad.clone() for p in model.parameters()]))
    (measured, gradients), (plain, expected) = steps
    assert set(measured) - set(plain) == MEASURES
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(gradients, expected, strict=True))
    features = model.backbone(data.images).detach().requires_grad_()
    ce = nn.functional.cross_entropy(model.classifier(features), data.targets)
    (of_ce,) = torch.autograd.grad(ce, features)
    (of_robust,) = torch.autograd.grad(model.loss(features, data.targets, model.centroids), features)
    torch.testing.assert_close(measured["grad_ratio"], of_robust.norm() / of_ce.norm())
    cosine = nn.functional.cosine_similarity(of_robust.flatten(), of_ce.flatten(), dim=0)
    torch.testing.assert_close(measured["grad_cosine"], cosine)
    torch.testing.assert_close(measured["own_mass"], model.loss.own_mass(features, data.targets, model.centroids))


def test_there_is_no_balance_where_the_losses_share_no_features_that_learn() -> None:
    for model in (Model(frozen=True), Model(layers=True)):
        terms = model.robust()(model, batch())
        assert MEASURES & set(terms) == {"own_mass"}
        if model.layers:
            parts = zip(model.loss.losses, model.centroids.split(6, 1), (1, 2), strict=True)
            features = model.backbone(batch().images)
            masses = [loss.own_mass(k * features, batch().targets, means) for loss, means, k in parts]
            torch.testing.assert_close(terms["own_mass"], sum(masses) / 2)


def test_held_out_means_lie_in_the_ball_as_often_as_expected() -> None:
    generator = torch.Generator().manual_seed(0)
    counts, held_out = torch.full((4000,), 6), torch.full((4000,), 3)
    loss = DROLTLoss(4000, 4, counts, eps_mode="coverage")
    loss.set_statistics(torch.full((4000,), 8.0), 4.0)  # variance 2 in each of 4 dimensions
    noise = [(2 / n) ** 0.5 * torch.randn(4000, 4, generator=generator) for n in (6, 3)]
    found = loss.held_out_coverage((noise[0] - noise[1]).norm(dim=1), held_out)
    expected = found["coverage_held_out_expected"]
    assert float(expected.min()) == pytest.approx(float(expected.max()))
    assert 0.2 < float(expected.mean()) < 0.9  # the means of three images have more error than those of six
    assert float(found["coverage_held_out"].mean()) == pytest.approx(float(expected.mean()), abs=0.02)
    many = loss.held_out_coverage(noise[0].norm(dim=1), torch.full((4000,), 10**9))
    assert float(many["coverage_held_out_expected"].mean()) == pytest.approx(0.9, abs=1e-4)
    for other in (Model(layers=True).loss, DROLTLoss(4, 6, COUNTS, distance="cosine")):
        assert other.held_out_coverage(torch.ones(4), torch.ones(4)) == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_measuring_waits_for_nothing() -> None:
    model = Model().cuda()
    model.centroids = model.centroids.cuda()
    objective = model.robust().cuda()
    data = Batch(*(tensor.cuda() for tensor in batch()[:2]))
    objective(model, data)["loss"].backward()  # allocates
    objective.begin_epoch(0.0)
    try:
        torch.cuda.set_sync_debug_mode("error")
        terms = objective(model, data)
        terms["loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert set(terms) >= MEASURES
