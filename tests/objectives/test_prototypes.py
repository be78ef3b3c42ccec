"""ProCo's running means, and PaCo's copy and queue."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.classifiers import LinearClassifier
from drolt_pl.errors import SettingError
from drolt_pl.losses import CrossEntropy, LogitAdjusted
from drolt_pl.losses.vmf import expected_contrast
from drolt_pl.objectives import Batch, ParametricContrast, ProbabilisticContrast

COUNTS = [20, 8, 3, 1]
C, D = len(COUNTS), 6


class Network(nn.Module):
    """The least that objectives ask of a module; `images` are vectors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.classifier = nn.Linear(5, D), LinearClassifier(D, C)

    def training_features(self, images: Tensor) -> Tensor:
        return self.backbone(images)  # type: ignore[no-any-return]


def batch(seed: int, views: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(views * 6, 5, generator=generator)
    targets = torch.tensor([0, 1, 3])[torch.randint(3, (6,), generator=generator)]
    return Batch(images, targets.repeat(views), views=views)


def test_procos_means_are_those_of_this_epoch_and_the_one_before() -> None:
    network, criterion = Network(), LogitAdjusted(COUNTS)
    torch.manual_seed(0)
    objective = ProbabilisticContrast(criterion=criterion, num_features=D, num_classes=C, num_outputs=8)
    seen: list[list[tuple[Tensor, Tensor]]] = []
    for epoch in range(2):
        objective.begin_epoch(epoch / 2)
        seen.append([])
        for step in range(2):
            data = batch(2 * epoch + step)
            embeddings = F.normalize(objective.projection(network.backbone(data.images)).detach(), dim=1)
            terms = objective(network, data)
            seen[-1] += zip(embeddings, data.targets, strict=True)
            used = [pair for part in seen for pair in part]
            for kept, pairs in ((0, used), (1, seen[-1])):
                for c in range(C):
                    own = [z for z, target in pairs if int(target) == c]
                    expected = torch.stack(own).mean(0) if own else torch.zeros(8)
                    torch.testing.assert_close(objective.means[kept, c], expected, rtol=1e-4, atol=1e-5)
    contrast = criterion(expected_contrast(embeddings, objective.means[0]), data.targets)
    torch.testing.assert_close(terms["loss_contrastive"], contrast.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(terms["loss"], terms["loss_ce"] + terms["loss_contrastive"])


def test_procos_three_views_are_told_apart() -> None:
    objective = ProbabilisticContrast(criterion=LogitAdjusted(COUNTS), num_features=D, num_classes=C, num_outputs=8)
    objective(Network(), batch(0, views=3))
    assert float(objective.counts[0].sum()) == 12


def paco(network: Network, momentum: float | None, queue: int = 16) -> ParametricContrast:
    return ParametricContrast(
        criterion=CrossEntropy(COUNTS), backbone=network.backbone, num_features=D, class_counts=COUNTS,
        momentum=momentum, queue=queue, num_outputs=8,
    )  # fmt: skip


def test_the_copy_follows_and_does_not_learn() -> None:
    network = Network()
    objective = paco(network, 0.9)
    with torch.no_grad():
        network.backbone.weight.add_(1.0)  # as pretrained weights that come after
    objective.begin_epoch(0.0)
    objective(network, batch(0))["loss"].backward()
    assert objective.copied is not None
    (weight, *_) = objective.copied.parameters()
    torch.testing.assert_close(weight, network.backbone.weight)
    before = weight.clone()
    with torch.no_grad():
        network.backbone.weight.add_(1.0)
    objective(network, batch(1))["loss"].backward()
    torch.testing.assert_close(weight, 0.9 * before + 0.1 * network.backbone.weight)
    assert all(parameter.grad is None for parameter in objective.copied.parameters())
    assert set(objective.learned()) == set(objective.projection.parameters())
    assert network.backbone.weight.grad is not None


@pytest.mark.parametrize("momentum", [0.999, None])
def test_the_queue_holds_the_last_keys(momentum: float | None) -> None:
    network = Network()
    objective = paco(network, momentum, queue=16)
    held: list[int] = []
    for step in range(4):
        data = batch(step)
        objective(network, data)
        held += data.targets[:6].tolist()
        expected = held[-16:]
        kept = objective.key_targets[objective.key_targets >= 0].tolist()
        assert sorted(kept) == sorted(expected)
    torch.testing.assert_close(objective.keys.norm(dim=1), torch.ones(16))
    with pytest.raises(SettingError, match="views must be 2"):
        objective(network, batch(0, views=1))
