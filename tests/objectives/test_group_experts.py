"""Experts of shot groups and their student (LFME) against the equations, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.classifiers import LinearClassifier
from drolt_pl.errors import SettingError
from drolt_pl.losses import CrossEntropy
from drolt_pl.objectives import Batch, GroupExperts, SelfPaced

COUNTS = [200, 150, 50, 30, 5]  # many, many, medium, medium, few
GROUP = [[0, 1], [2, 3], [4]]
C, D = len(COUNTS), 6


class Network(nn.Module):
    """The least that objectives ask of a module; `images` are vectors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(7, D), nn.BatchNorm1d(D))
        self.classifier = LinearClassifier(D, C)
        self.classifier.begin(None, generator=torch.Generator().manual_seed(0))
        self.double()

    def training_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images)
        return features


def batch(seed: int = 1, size: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 7, generator=generator, dtype=torch.float64)
    return Batch(images, torch.randint(C, (size,), generator=generator))


def experts_of(network: Network, counts: list[int] = COUNTS) -> GroupExperts:
    return GroupExperts(
        criterion=CrossEntropy(counts), backbone=network.backbone, num_features=D, class_counts=counts, many=100, few=20
    ).double()


def student_of(experts: GroupExperts, **options: float) -> SelfPaced:
    return SelfPaced(criterion=CrossEntropy(COUNTS), class_counts=COUNTS, earlier=[experts], **options)


def test_each_expert_learns_from_its_groups_images_alone() -> None:
    network, data = Network(), batch()
    objective = experts_of(network)
    with torch.no_grad():
        network.backbone[0].weight.add_(1.0)  # as by a stage before
    terms = objective(network, data)
    for expert in objective.named.values():
        assert torch.equal(expert.backbone[0].weight, network.backbone[0].weight)  # type: ignore[index]
    expected = torch.zeros((), dtype=torch.float64)
    for classes, expert in zip(GROUP, objective.named.values(), strict=True):
        rows = [row for row, target in enumerate(data.targets.tolist()) if target in classes]
        logits = expert(data.images[rows])  # BatchNorm sees the group's images alone
        for row, values in zip(rows, logits, strict=True):
            target = int(data.targets[row])
            factor = C * COUNTS[target] / sum(COUNTS[c] for c in classes)
            expected = expected - factor * values.log_softmax(0)[classes.index(target)] / len(data.targets)
    torch.testing.assert_close(terms["loss"], expected, rtol=1e-6, atol=1e-9)
    terms["loss"].backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(parameter.grad is not None for expert in objective.named.values() for parameter in expert.parameters())


def test_class_balanced_draws_give_an_expert_the_risk_of_its_images() -> None:
    """Over one image of every class, each weighs as many images as its class has of its group."""
    factors = experts_of(Network()).factors.tolist()
    for classes in GROUP:
        images = sum(COUNTS[c] for c in classes)
        assert [factors[c] / C for c in classes] == pytest.approx([COUNTS[c] / images for c in classes])


def test_one_image_of_a_group_moves_no_statistics() -> None:
    network = Network()
    objective = experts_of(network)
    alone = Batch(batch().images[:3], torch.tensor([0, 0, 4]))
    objective(network, alone)["loss"].backward()
    moved = {name: float(expert.backbone[1].num_batches_tracked) for name, expert in objective.named.items()}  # type: ignore[index]
    assert moved == {"many": 1, "medium": 0, "few": 0}
    assert objective.named["few"].head.weight.grad is not None
    assert objective.named["medium"].head.weight.grad is None


def test_a_group_without_classes_has_no_expert() -> None:
    network = Network()
    objective = experts_of(network, [500, 400, 300, 200, 150])
    assert list(objective.named) == ["many"]
    objective.validate(*batch()[:2])
    objective.validated({})
    assert [math.isnan(value) for value in objective.accuracies.tolist()] == [False, True, True]


def test_experts_are_measured_among_their_own_classes() -> None:
    network = Network()
    objective = experts_of(network).eval()
    with torch.no_grad():
        for part in (batch(3), batch(4)):
            objective.validate(part.images, part.targets)
    objective.validated({"acc": torch.tensor(0.0)})
    right: dict[int, list[bool]] = {c: [] for c in range(C)}
    for part in (batch(3), batch(4)):
        for image, target in zip(part.images, part.targets.tolist(), strict=True):
            group = next(number for number, classes in enumerate(GROUP) if target in classes)
            expert = list(objective.named.values())[group]
            right[target].append(GROUP[group][int(expert(image[None]).argmax())] == target)
    by_class = [sum(found) / len(found) for found in right.values()]
    expected = [sum(by_class[c] for c in classes) / len(classes) for classes in GROUP]
    assert objective.accuracies.tolist() == pytest.approx(expected)
    assert objective.accuracies[2] == 1  # one class alone
    objective.validate(*batch()[:2])  # the next validation begins anew
    assert int(objective._measured.total.sum()) == 24


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.75])
def test_the_student_has_the_loss_of_its_equations(progress: float) -> None:
    network, data = Network(), batch()
    experts = experts_of(network)
    experts.accuracies.copy_(torch.tensor([0.8, 0.6, 0.5]))
    objective = student_of(experts, alpha=0.3, temperature=2.0, full=0.5)
    objective.begin_epoch(progress)
    objective.validated({"many": torch.tensor(0.5), "medium": torch.tensor(0.1), "few": torch.tensor(0.5),
                         "acc": torch.tensor(0.4)})  # fmt: skip
    terms = objective(network, data)
    experts.eval()
    logits = network.classifier(network.training_features(data.images))
    means = [sum(COUNTS[c] for c in classes) / len(classes) for classes in GROUP]
    expected, weights = torch.zeros((), dtype=torch.float64), [0.3 / (0.8 * 0.7), 1.0, 0.0]
    for classes, mean, weight, expert in zip(GROUP, means, weights, experts.named.values(), strict=True):
        teacher = expert(data.images)
        p, q = (values.div(2).softmax(1) for values in (teacher, logits[:, classes]))
        expected = expected + weight * (p * (p / q).log()).sum() / len(data.targets)
        for row, target in enumerate(data.targets.tolist()):
            if target in classes:
                floor, own = min(means) / mean, float(teacher[row].detach().softmax(0)[classes.index(target)])
                first = floor + (1 - floor) * own
                pace = first + (1 - first) * min(1, progress / 0.5)
                expected = expected + pace * F.cross_entropy(logits[row], data.targets[row]) / len(data.targets)
    torch.testing.assert_close(terms["loss"], expected, rtol=1e-6, atol=1e-6)


def test_the_experts_do_not_learn_from_the_student() -> None:
    network, data = Network(), batch()
    experts = experts_of(network)
    experts(network, data)["loss"].backward()
    experts.zero_grad(set_to_none=True)
    before = {name: value.clone() for name, value in experts.parts.state_dict().items()}
    objective = student_of(experts)
    objective.begin_epoch(0.0)
    objective(network, data)["loss"].backward()
    assert all(parameter.grad is None for parameter in experts.parameters())
    assert all(torch.equal(value, before[name]) for name, value in experts.parts.state_dict().items())
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert not list(objective.learned())
    assert experts.training
    assert set(objective.state_dict()) == {"accuracies"}


def test_a_student_that_has_reached_its_experts_has_cross_entropy_alone() -> None:
    network, data = Network(), batch()
    experts = experts_of(network)
    experts.accuracies.copy_(torch.tensor([0.8, 0.6, 0.5]))
    objective = student_of(experts)
    objective.begin_epoch(0.5)
    objective.validated({"many": torch.tensor(0.8), "medium": torch.tensor(0.7), "few": torch.tensor(0.5),
                         "acc": torch.tensor(0.6)})  # fmt: skip
    terms = objective(network, data)
    expected = F.cross_entropy(network.classifier(network.training_features(data.images)), data.targets)
    torch.testing.assert_close(terms["loss"], expected)


def test_the_student_starts_from_nothing_in_every_stage() -> None:
    objective = student_of(experts_of(Network()))
    objective.validated({name: torch.tensor(0.7) for name in ("acc", "many", "medium", "few")})
    objective.begin_epoch(0.5)
    assert objective.accuracies.tolist() == pytest.approx([0.7] * 3)
    objective.begin_epoch(0.0)
    assert objective.accuracies.tolist() == [0] * 3


def test_a_student_needs_experts() -> None:
    with pytest.raises(SettingError, match="earlier must hold one objective with experts"):
        SelfPaced(criterion=CrossEntropy(COUNTS), class_counts=COUNTS, earlier=[])


def test_experts_refuse_mixed_images() -> None:
    network, data = Network(), batch()
    mixed = data._replace(partners=data.targets, shares=torch.ones(24))
    with pytest.raises(SettingError, match="mixing must be null"):
        experts_of(network)(network, mixed)
