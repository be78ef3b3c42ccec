"""The objectives of experts against their formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.classifiers import Classifier, ExpertsClassifier, JoinedClassifier, RoutedExpertsClassifier
from drolt_pl.errors import SettingError
from drolt_pl.losses import LDAM, CrossEntropy
from drolt_pl.losses.experts import diversity, frequency_shifts
from drolt_pl.objectives import Batch, DiverseExperts, Routing, SkilledExperts, TwoBranches

COUNTS = [50, 20, 5, 1]
C, D = len(COUNTS), 6


class Network(nn.Module):
    """The least that objectives ask of a module; `images` are vectors."""

    def __init__(self, classifier: Classifier, experts: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.experts, self.classifier = nn.Linear(5, experts * D), experts, classifier
        classifier.begin(None, generator=torch.Generator().manual_seed(0))
        self.double()

    def training_features(self, images: Tensor) -> Tensor:
        return self.backbone(images).view(len(images), self.experts, D)  # type: ignore[no-any-return]


def batch(seed: int = 1, *others: Batch) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    return Batch(images, torch.randint(C, (9,), generator=generator), others=others)


def test_ride_sums_criteria_less_the_diversity() -> None:
    network, data = Network(ExpertsClassifier(D, C, 3), 3), batch()
    criterion = LDAM(COUNTS, beta=0.9999, start=0.8)
    objective = DiverseExperts(criterion=criterion, class_counts=COUNTS, weight=0.45)
    for progress in (0.0, 0.9):
        objective.begin_epoch(progress)
        terms = objective(network, data)
        logits = network.classifier.expert_logits(network.training_features(data.images))
        sums = sum(criterion(logits[:, expert], data.targets) for expert in range(3))
        raw = 0.05 * C * torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS) + 0.95
        temperature = raw / raw.max() if progress >= 0.8 else torch.ones(C, dtype=torch.float64)
        expected = sums - 0.45 * diversity(logits, temperature)
        torch.testing.assert_close(terms["loss"], expected, rtol=1e-6, atol=1e-6)


def test_routing_trains_the_routes_alone() -> None:
    first = ExpertsClassifier(D, C, 3)
    network = Network(first, 3)
    routed = RoutedExpertsClassifier(D, C, 3)
    routed.begin(first, generator=torch.Generator().manual_seed(0))
    network.classifier = routed.double()
    terms = Routing(criterion=CrossEntropy(COUNTS))(network, batch())
    terms["loss"].backward()
    assert {name.split(".")[0] for name, p in routed.named_parameters() if p.grad is not None} == {"hidden", "wish"}
    assert 1 <= float(terms["experts_asked"]) <= 3


def test_sade_shifts_each_experts_logits() -> None:
    network, data = Network(ExpertsClassifier(D, C, 3, None), 3), batch()
    objective = SkilledExperts(criterion=CrossEntropy(COUNTS), class_counts=COUNTS, tau=2.0)
    logits = network.classifier.expert_logits(network.training_features(data.images))
    shifts = frequency_shifts(torch.tensor(COUNTS), 2.0).double()
    expected = sum(F.cross_entropy(logits[:, expert] + shifts[expert], data.targets) for expert in range(3))
    torch.testing.assert_close(objective(network, data)["loss"], expected)
    assert objective.prior("train") == "uniform"
    with pytest.raises(SettingError, match=r"backbone\.experts must be 3"):
        objective(Network(ExpertsClassifier(D, C, 2), 2), data)


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.9])
def test_bbn_mixes_features_and_losses(progress: float) -> None:
    network, data = Network(JoinedClassifier(D, C, 2), 2), batch(1, batch(2))
    objective = TwoBranches(criterion=CrossEntropy(COUNTS))
    objective.begin_epoch(progress)
    alpha, (other,) = 1 - progress**2, data.others
    one, two = (network.training_features(part.images) for part in (data, other))
    weight, bias = network.classifier.linear_parts()
    logits = torch.cat([2 * alpha * one[:, 0], 2 * (1 - alpha) * two[:, 1]], 1) @ weight.T + bias
    expected = alpha * F.cross_entropy(logits, data.targets) + (1 - alpha) * F.cross_entropy(logits, other.targets)
    terms = objective(network, data)
    torch.testing.assert_close(terms["loss"], expected)
    with pytest.raises(SettingError, match="sampling must name two samplers"):
        objective(network, batch())
