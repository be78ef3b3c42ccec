"""`drolt classifiers`: every classifier on one backbone's cached features."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.running import HOME, folder_of_a_run
from hydra.utils import get_class
from omegaconf import OmegaConf
from torch import nn
from typer.testing import CliRunner

from drolt_pl import load_model
from drolt_pl.analysis.classifiers import CachedFeatures, Recipe, compare, train
from drolt_pl.classifiers import (
    CosineClassifier,
    ExpertsClassifier,
    JoinedClassifier,
    LinearClassifier,
    OLTRClassifier,
    RoutedExpertsClassifier,
    ScaledLinearClassifier,
)
from drolt_pl.classifiers.linear import ClassMeansClassifier
from drolt_pl.cli.app import app
from drolt_pl.comparison import Compared
from drolt_pl.losses import CrossEntropy
from drolt_pl.results import Groups
from drolt_pl.run.compare import candidates

CANDIDATES = candidates(HOME / "conf")
OVERRIDES = ("trainer=cpu", "method=ce", "schedule.stages.train.epochs=10")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_a_run(tmp_path_factory.mktemp("comparison") / "run", *OVERRIDES)


def invoked(*words: str) -> Any:
    return CliRunner().invoke(app, ["classifiers", *words])


def test_the_row_of_table_4(run: Path) -> None:
    before = {path: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    done = invoked(str(run), "--views", "2", "--epochs", "5")
    assert done.exit_code == 0, done.output
    result = json.loads((run / "classifiers_train.json").read_text())
    assert list(result["classifiers"]) == list(CANDIDATES)
    assert result["precision"] == "32-true"
    assert result["views"] == 2
    for name, row in result["classifiers"].items():
        assert row["why"] is None, name
        assert row["val"]["acc"] > 0.1, name
        assert row["test"].keys() >= {"acc", "acc_micro", "many", "medium", "few"}
    accuracies = {name: row["test"]["acc"] for name, row in result["classifiers"].items()}
    assert accuracies["cRT"] > accuracies["CE"], accuracies
    assert result["classifiers"]["tau-norm"]["chosen"].keys() == {"tau"}
    with (run / "classifiers_train.csv").open() as file:
        rows = {row["classifier"]: row for row in csv.DictReader(file)}
    for name, row in rows.items():
        assert float(row["test_few"]) == result["classifiers"][name]["test"]["few"]
    assert all(path.read_bytes() == content for path, content in before.items()), "the run is only read"
    assert "cRT" in done.output
    # The same command gives the same numbers.
    invoked(str(run), "--views", "2", "--epochs", "5")
    assert json.loads((run / "classifiers_train.json").read_text()) == result


def test_wrong_runs_and_stages_are_named(run: Path, tmp_path: Path) -> None:
    assert "is not a run's folder" in invoked(str(tmp_path)).output
    assert "--stage must be one that" in invoked(str(run), "--stage", "joint").output


def test_a_run_whose_images_have_changed_is_refused(run: Path, tmp_path: Path) -> None:
    """Training images might have become test images."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    split = json.loads((copy / "split.json").read_text())
    (copy / "split.json").write_text(json.dumps({**split, "sha256": "0" * 64}))
    done = invoked(str(copy))
    assert done.exit_code == 1
    assert "the data set has changed since this run began" in " ".join(done.output.split())


def cached(*, val: bool = True) -> CachedFeatures:
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(3, 5, generator=generator)

    def draw(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        targets = torch.arange(3).repeat_interleave(torch.tensor(counts))
        return centres[targets] + torch.randn(len(targets), 5, generator=generator), targets

    few = draw([200, 20, 2])
    return CachedFeatures(views=[few, few], train=few, val=draw([20] * 3) if val else None, test=draw([50] * 3))


def linear() -> LinearClassifier:
    classifier = LinearClassifier(5, 3)
    classifier.begin(None, generator=torch.Generator().manual_seed(0))
    return classifier


def compared(features: CachedFeatures, previous: nn.Module, epochs: int) -> dict[str, Compared]:
    return compare(CANDIDATES, features, previous, [200, 20, 2], groups=Groups(), recipe=Recipe(epochs=epochs))


def test_every_classifier_of_the_configuration_is_compared_or_left_out_for_a_reason() -> None:
    compared = {type(candidate.build(5, 3)) for candidate in CANDIDATES.values()}
    offered = {get_class(OmegaConf.load(path)["_target_"]) for path in (HOME / "conf" / "classifier").glob("*.yaml")}
    # OLTR trains its memory with the backbone, and experts have layers of their own; the scaled one belongs to MiSLAS's
    # second stage, and class means are where a cosine classifier starts.
    experts = {ExpertsClassifier, RoutedExpertsClassifier, JoinedClassifier}
    assert offered - compared == {OLTRClassifier, ScaledLinearClassifier, ClassMeansClassifier, *experts}


def test_without_validation_nothing_is_chosen() -> None:
    found = compared(cached(val=False), linear(), epochs=2)
    left_out = {name for name, row in found.items() if row.test is None}
    assert left_out == {"tau-norm", "LA post-hoc", "smDRAGON"}
    assert "tau must be given" in str(found["tau-norm"].why)


def test_what_needs_a_linear_classifier_says_so() -> None:
    found = compared(cached(), CosineClassifier(5, 3), epochs=1)
    assert {name for name, row in found.items() if row.why} == {"LWS", "tau-norm", "LA post-hoc", "smDRAGON"}


def test_training_takes_the_views_in_turn_and_learns() -> None:
    features = cached()
    seen = []

    class Watched(LinearClassifier):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            seen.append(len(batch))
            return super().forward(batch)

    classifier = Watched(5, 3)
    nan = torch.full_like(features.train[0], torch.nan)
    views = [features.train, (nan, features.train[1])]
    train(classifier, views[:1], CrossEntropy([200, 20, 2]), sampling="class_balanced", recipe=Recipe(epochs=3))
    assert sum(seen) == 3 * 222
    accuracy = (classifier(features.test[0]).argmax(1) == features.test[1]).float().mean()
    assert accuracy > 0.8
    train(classifier, views, CrossEntropy([200, 20, 2]), sampling="instance", recipe=Recipe(epochs=2))
    assert bool(classifier.weight.isnan().all()), "the second view was taken"


def test_a_backbone_as_the_run_left_it(run: Path) -> None:
    model = load_model(run / "checkpoints" / "train.ckpt")
    backbone, classifier = model.backbone, model.classifier
    assert isinstance(classifier, nn.Module)
    assert not backbone.training


def test_products_take_the_precision_of_the_run() -> None:
    data = cached()
    trained = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        classifier = LinearClassifier(5, 3)
        recipe = Recipe(epochs=3, batch_size=8, precision=precision)
        train(classifier, data.views, CrossEntropy([1, 1, 1]), sampling="instance", recipe=recipe)
        trained[precision] = classifier.weight.detach()
        assert classifier.weight.dtype == torch.float32
    assert not torch.equal(trained["32-true"], trained["bf16-mixed"])
    torch.testing.assert_close(trained["32-true"], trained["bf16-mixed"], atol=0.02, rtol=0.02)


def test_stored_features_have_no_more_views_than_the_file(tmp_path: Path) -> None:
    run = folder_of_a_run(
        tmp_path / "run", "trainer=cpu", "method=ce", *features_of(tmp_path), "trainer.precision=bf16-mixed"
    )
    assert invoked(str(run), "--epochs", "1").exit_code == 0
    result = json.loads((run / "classifiers_train.json").read_text())
    assert (result["views"], result["precision"]) == (1, "bf16-mixed")


def features_of(folder: Path) -> list[str]:
    generator = np.random.default_rng(0)
    targets = np.repeat(np.arange(4), 40)
    features = generator.normal(size=(160, 8)).astype(np.float32) + 3 * np.eye(8, dtype=np.float32)[targets]
    np.savez(folder / "features.npz", features=features, labels=targets)
    few = ["dataset.val_per_class=5", "dataset.test_per_class=5", "schedule.stages.train.epochs=1"]
    return ["dataset=features", f"dataset.file={folder / 'features.npz'}", "backbone=identity", *few]
