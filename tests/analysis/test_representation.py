"""`drolt features`: nearest class means by layer, and features in the plane."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.running import folder_of_a_run
from typer.testing import CliRunner

from drolt_pl.analysis.representation import layer_accuracies, plane, spread_classes
from drolt_pl.backbones import CifarResNet
from drolt_pl.cli.app import app

OVERRIDES = ("trainer=cpu", "method=ce", "backbone=resnet20", "schedule.stages.train.epochs=1")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_a_run(tmp_path_factory.mktemp("features") / "run", *OVERRIDES)


def invoked(*words: str) -> Any:
    return CliRunner().invoke(app, ["features", *words])


def test_layer_accuracies_are_those_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    backbone = CifarResNet(20).eval()
    counts = [200, 60, 4]
    # Classes differ in their mean colour: even an early layer tells some of them apart.
    targets = torch.arange(3).repeat(20)
    images = torch.randn(60, 3, 16, 16, generator=generator) + 0.5 * targets[:, None, None, None]
    train, test = (images[:30], targets[:30]), (images[30:], targets[30:])
    found = layer_accuracies(
        backbone,
        ["conv1", "layer2"],
        train=[(train[0][:20], train[1][:20]), (train[0][20:], train[1][20:])],
        test=[test],
        class_counts=counts,
        image_shape=(3, 16, 16),
        device=CPU,
    )
    with torch.no_grad():
        first = torch.relu(backbone.bn1(backbone.conv1(images)))
        maps = {"conv1": backbone.conv1(images), "layer2": backbone.layer2(backbone.layer1(first))}
        for layer, outputs in maps.items():
            of_train, of_test = outputs.double().mean((2, 3)).split(30)
            means = torch.stack([of_train[train[1] == label].mean(0) for label in range(3)])
            correct = torch.cdist(of_test, means).argmin(1) == test[1]
            by_class = [correct[test[1] == label].double().mean().item() for label in range(3)]
            measured = (found[layer].many, found[layer].medium, found[layer].few)
            assert measured == pytest.approx(by_class)
            assert found[layer].acc == pytest.approx(sum(by_class) / 3)
    assert found["layer2"].acc != found["conv1"].acc


def test_shown_classes_run_from_the_most_frequent_to_the_rarest() -> None:
    counts = [5, 500, 50, 100, 10]
    assert spread_classes(counts, 3) == [1, 2, 0]
    assert spread_classes(counts, 99) == [1, 3, 2, 4, 0]


def test_the_plane_keeps_clusters_apart_and_is_deterministic() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(3).repeat_interleave(25)
    features = 20 * torch.eye(3, 8)[targets] + torch.randn(75, 8, generator=generator)
    positions = plane(features)
    centres = torch.stack([positions[targets == label].mean(0) for label in range(3)])
    assert torch.equal(torch.cdist(positions, centres).argmin(1), targets)
    assert torch.equal(positions, plane(features))
    assert plane(features[:4]).shape == (4, 2)


def test_the_command_measures_every_stage_and_draws(run: Path) -> None:
    done = invoked(str(run), "--classes", "4")
    assert done.exit_code == 0, done.output
    found = json.loads((run / "features_train.json").read_text())
    assert list(found["layers"]) == ["layer1", "layer2", "layer3"]
    # The last map, pooled, is what the classifier sees, so the run has measured it.
    results = json.loads((run / "results.json").read_text())
    assert found["layers"]["layer3"]["acc"] == pytest.approx(results["stages"]["train"]["test"]["acc_ncm"])
    assert (run / "features_train.png").read_bytes().startswith(b"\x89PNG")
    assert "layer3" in done.output


def test_wrong_layers_runs_and_stages_are_named(run: Path, tmp_path: Path) -> None:
    assert "layer9" in invoked(str(run), "--layer", "layer9").output
    assert "is not a run's folder" in invoked(str(tmp_path)).output
    assert "--stage must be one that" in invoked(str(run), "--stage", "joint").output
