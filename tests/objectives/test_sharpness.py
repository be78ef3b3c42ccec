"""Sharpness-aware objectives against their definition: move the weights, take the gradient there, move them back."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.classifiers import LinearClassifier
from drolt_pl.losses import CrossEntropy
from drolt_pl.objectives import Batch, SharpnessAware

COUNTS = [50, 20, 5, 1]


class Network(nn.Module):
    """The least that objectives ask of a module; `images` are vectors."""

    def __init__(self, *, frozen: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(5, 6), nn.Tanh())
        self.classifier, self.frozen = LinearClassifier(6, 4), frozen
        self.double()

    def training_features(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.frozen):
            return self.backbone(images)  # type: ignore[no-any-return]


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.randn(9, 5, generator=generator).double(), torch.tensor([0, 0, 1, 2, 3, 3, 1, 2, 0]))


def by_definition(network: Network, data: Batch, rho: float, below: int | None) -> list[Tensor]:
    """Gradients of all parameters, with weights that are really moved."""
    sharp = torch.tensor([below is None or count < below for count in COUNTS])[data.targets]

    def part(model: Network, mask: Tensor) -> Tensor:
        logits = model.classifier(model.backbone(data.images))
        return F.cross_entropy(logits, data.targets, reduction="none")[mask].sum() / len(mask)

    steps = torch.autograd.grad(part(network, sharp), list(network.parameters()))
    length = torch.sqrt(sum((step**2).sum() for step in steps))
    moved = deepcopy(network)
    with torch.no_grad():
        for parameter, step in zip(moved.parameters(), steps, strict=True):
            parameter += rho * step / length
    there = torch.autograd.grad(part(moved, sharp), list(moved.parameters()))
    if below is None:
        return list(there)
    here = torch.autograd.grad(part(network, ~sharp), list(network.parameters()))
    return [one + two for one, two in zip(there, here, strict=True)]


@pytest.mark.parametrize("below", [None, 20, 2])
@pytest.mark.parametrize("rho", [0.05, 1.0])
def test_the_gradient_is_the_one_uphill(below: int | None, rho: float) -> None:
    network, data = Network(), batch()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    objective = SharpnessAware(criterion=CrossEntropy(COUNTS), class_counts=COUNTS, rho=rho, below=below)
    terms = objective(network, data)
    terms["loss"].backward()
    expected = by_definition(network, data, rho, below)
    for parameter, was, wanted in zip(network.parameters(), before, expected, strict=True):
        assert torch.equal(parameter, was)
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-6, atol=1e-9)
    assert float(terms["sharpness"]) > 0
    assert SharpnessAware.passes == 2


def test_without_sharp_classes_it_is_cross_entropy() -> None:
    network, data = Network(), batch()
    terms = SharpnessAware(criterion=CrossEntropy(COUNTS), class_counts=COUNTS, below=1)(network, data)
    terms["loss"].backward()
    wanted = torch.autograd.grad(
        F.cross_entropy(network.classifier(network.backbone(data.images)), data.targets), list(network.parameters())
    )
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_frozen_backbone_is_not_moved() -> None:
    network = Network(frozen=True)
    SharpnessAware(criterion=CrossEntropy(COUNTS), class_counts=COUNTS)(network, batch())["loss"].backward()
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert all(parameter.grad is not None for parameter in network.classifier.parameters())
