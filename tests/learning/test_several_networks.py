"""Ensembles and two-stream methods fit without a branch in the package: both toys here are written outside of it."""

import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.running import train_composed
from torch import Tensor, nn

from drolt_pl import Model
from drolt_pl.backbones import Backbone, SmallConvNet, each
from drolt_pl.classifiers import Classifier
from drolt_pl.objectives import Batch, Learner, Objective

SHORT = ("trainer=cpu", "trainer.enable_progress_bar=false", "method=ce", "schedule.stages.train.epochs=3")


class ThreeExperts(Backbone):
    """Three networks that see the same images."""

    num_experts = 3

    def __init__(self, in_channels: int = 1, num_features: int = 32) -> None:
        super().__init__()
        self.num_features = num_features
        self.experts = nn.ModuleList(SmallConvNet(in_channels, num_features) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([expert(images) for expert in self.experts], dim=1)


class MeanOfHeads(Classifier):
    """A head an expert; logits are their mean."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(num_features, num_classes) for _ in range(3))

    def forward(self, features: Tensor) -> Tensor:
        logits = [head(z) for head, z in zip(self.heads, each(features), strict=True)]
        return torch.stack(logits).mean(0)

    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        for parameter in self.parameters():
            with torch.no_grad():
                parameter.copy_(torch.empty(parameter.shape).uniform_(-0.1, 0.1, generator=generator))


class TwoStreams(Objective):
    """Bilateral branches (BBN): the weight shifts from the first stream's batch to the second's over the stage."""

    progress = 0.0

    def begin_epoch(self, progress: float) -> None:
        super().begin_epoch(progress)
        self.progress = progress

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        (other,) = batch.others
        share = 1 - self.progress**2
        features = learner.training_features(torch.cat([batch.images, other.images]))
        logits = learner.classifier(features).split([len(batch.targets), len(other.targets)])
        plain, balanced = F.cross_entropy(logits[0], batch.targets), F.cross_entropy(logits[1], other.targets)
        loss = share * plain + (1 - share) * balanced
        rare = (other.targets >= 5).float().mean()
        return {"loss": loss, "loss_ce": plain, "loss_balanced": balanced, "rare": rare, "acc": torch.zeros(())}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations name the toys by this module, which pytest has imported under a name of its own."""
    import sys

    monkeypatch.setitem(sys.modules, "toys", sys.modules[__name__])


def named(kind: type) -> str:
    return f"toys.{kind.__name__}"


def test_three_experts_train_are_measured_and_are_loaded_again(tmp_path: Path) -> None:
    overrides = (
        f"backbone._target_={named(ThreeExperts)}",
        "backbone.num_features=32",
        f"classifier._target_={named(MeanOfHeads)}",
        "~classifier.init",
    )
    results = train_composed(tmp_path, *SHORT, *overrides, "schedule.stages.train.lr=0.1")
    assert results["test"]["acc"] > 0.1
    assert results["test"]["acc_ncm"] > 0.3
    state = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert state["centroids"].shape == (10, 3 * 32)
    model = Model.load(tmp_path, trust=True)
    images = torch.randn(4, 1, 8, 8)
    features = model.backbone(images)
    assert features.shape == (4, 3, 32)
    assert model.embed(images).shape == (4, 96)
    mean = torch.stack([head(features[:, i]) for i, head in enumerate(model.classifier.heads)]).mean(0)
    torch.testing.assert_close(model(images), mean)


def test_experts_under_the_robust_loss(tmp_path: Path) -> None:
    overrides = (
        f"backbone._target_={named(ThreeExperts)}",
        "backbone.num_features=32",
        f"classifier._target_={named(MeanOfHeads)}",
        "~classifier.init",
        "schedule.stages.ce_warmup.epochs=1",
        "schedule.stages.joint.epochs=2",
        "~schedule.stages.rebalance",
    )
    results = train_composed(tmp_path, *SHORT[:2], *overrides)
    assert results["stages"]["joint"]["test"]["acc_ncm"] > 0.3
    state = torch.load(tmp_path / "checkpoints" / "joint.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(state["objectives.dro_lt.centroids"], state["centroids"])


def test_a_second_stream_reaches_the_objective_as_its_own_batch(tmp_path: Path) -> None:
    overrides = (
        f"objectives.ce._target_={named(TwoStreams)}",
        "schedule.stages.train.sampling=[instance,class_balanced]",
    )
    results = train_composed(tmp_path, *SHORT, *overrides)
    images = sum(results["class_counts"])
    assert 3 * images - 6 <= results["images_seen"] <= 3 * images  # an epoch of two streams costs what one costs
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    share = sum(float(row["train/rare"]) for row in rows) / len(rows)
    assert share == pytest.approx(0.5, abs=0.1)  # the second stream is balanced
    first, last = (float(rows[i]["train/loss"]) - float(rows[i]["train/loss_ce"]) for i in (0, -1))
    assert first == pytest.approx(0, abs=1e-6)
    assert last != 0
