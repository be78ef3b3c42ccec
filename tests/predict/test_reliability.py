"""Temperature, conformal sets and images of no class, against their definitions."""

import math
from pathlib import Path

import pytest
import torch
from helpers.models import write_model
from helpers.photos import write_photos
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from drolt_pl import Model
from drolt_pl.cli.app import app
from drolt_pl.predict.evaluate import Evaluation
from drolt_pl.predict.labelled import Outputs
from drolt_pl.predict.reliability import auroc, fitted_temperature, sets, strangers, temperature, thresholds

SHARPNESS = 3.0
SCORES = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_model(tmp_path_factory.mktemp("model") / "model.ckpt"))


def drawn(size: int, seed: int) -> Outputs:
    """Labels that follow a softmax exactly, whose logits are then made `SHARPNESS` times too large."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, 3, generator=generator) + torch.tensor([2.0, 0.0, -1.0])
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return Outputs(SHARPNESS * logits, None, targets, [])


def test_the_temperature_undoes_what_was_too_sharp() -> None:
    held_out, others = drawn(20_000, 0), drawn(5_000, 1)
    found = temperature(held_out, others)
    assert found.temperature == pytest.approx(SHARPNESS, rel=0.05)
    assert found.nll[1] < found.nll[0]
    assert found.ece[1] < 0.02 < found.ece[0]


def test_the_temperature_is_the_best() -> None:
    held_out = drawn(300, 2)
    best = fitted_temperature(held_out.logits, held_out.targets)

    def nll(value: float) -> float:
        return float(torch.nn.functional.cross_entropy(held_out.logits.double() / value, held_out.targets))

    assert nll(best) <= min(nll(0.99 * best), nll(1.01 * best))
    impossible = torch.full((300, 1), -math.inf)  # the nearest mean's, of a class without training images
    logits = torch.cat([torch.cat([held_out.logits, impossible], 1), torch.tensor([[0.0, 1.0, 2.0, -math.inf]])])
    assert fitted_temperature(logits, torch.cat([held_out.targets, torch.tensor([3])])) == pytest.approx(best)
    right = torch.eye(3)
    assert fitted_temperature(right, torch.arange(3)) == pytest.approx(1e-3, rel=1e-3)  # as sharp as may be


def test_a_threshold_is_an_order_statistic() -> None:
    scores, targets = torch.tensor([0.3, 0.1, 0.2, 0.4, 0.9]), torch.tensor([0, 0, 0, 0, 1])
    found = thresholds(scores, targets, 3, 0.75, by_class=True)
    torch.testing.assert_close(found, torch.tensor([0.4, math.inf, math.inf]))  # ceil(5 * .75) = 4th of 4
    torch.testing.assert_close(thresholds(scores, targets, 3, 0.5, by_class=False), torch.full((3,), 0.3))


def test_sets_by_class_cover_every_class_and_others_do_not(model: Model) -> None:
    """20 draws: a threshold for all gives what the frequent class wants, and misses the rare one."""
    by, alike = [], []
    for seed in range(20):
        held_out, others = drawn(1_000, 2 * seed), drawn(2_000, 2 * seed + 1)
        by.append(sets(model, held_out, others, 0.9, by_class=True))
        alike.append(sets(model, held_out, others, 0.9, by_class=False))
    for place in range(3):
        covered = sum(float(found.per_class[place] or 0) for found in by) / 20
        assert covered == pytest.approx(0.9, abs=0.02)
    assert sum(float(found.few or 0) for found in alike) / 20 < 0.8
    assert (by[0].unlimited, by[0].kind, alike[0].kind) == (0, "by class", "all alike")


@settings(max_examples=50)
@given(
    known=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    unknown=st.lists(st.integers(0, 5), min_size=1, max_size=8),
)
def test_auroc_counts_pairs(known: list[int], unknown: list[int]) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in known for b in unknown]
    scale = 50.0  # beyond what a sigmoid tells apart
    found = auroc(scale * torch.tensor(known).double(), scale * torch.tensor(unknown).double())
    assert found == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)


def test_strangers_are_measured_by_group(model: Model) -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    unknown: Tensor = torch.tensor([[1.5, 1.5, 1.5], [1.0, 0.0, 0.0]])
    rows = {row.score: row for row in strangers(model, Outputs(logits, None, torch.arange(3), []), unknown)}
    assert (rows["logit"].many, rows["logit"].medium, rows["logit"].few) == (1.0, 1.0, 0.25)
    assert rows["logit"].auroc == pytest.approx(2.25 / 3)
    assert rows["energy"].few == 0.25
    assert rows["probability"].few == 0.75


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.ckpt")
    write_photos(tmp_path / "photos", each=2)
    write_photos(tmp_path / "others", each=2)
    words = ["evaluate", "model.ckpt", "--data", "photos", "--calibrate", "others", "--coverage", "0.6"]
    done = CliRunner().invoke(app, [*words, "--ood", "photos/cat", "-o", "out.json"])
    assert done.exit_code == 0, done.output
    assert "Temperature" in done.stdout
    assert "AUROC" in done.stdout
    found = Evaluation.model_validate_json((tmp_path / "out.json").read_text())
    assert found.sets is not None
    assert found.strangers is not None
    assert [row.images for row in found.strangers] == [2, 2, 2]
    for wrong in (
        ["--ood", "nowhere"],
        ["--calibrate", "nowhere"],
        ["--calibrate", "photos"],
        ["--ood", "photos"],
        ["--coverage", "1"],
    ):
        done = CliRunner().invoke(app, [*words[:4], *wrong])
        assert done.exit_code == 1
        assert done.stderr.startswith(f"error: {wrong[0]} must")
