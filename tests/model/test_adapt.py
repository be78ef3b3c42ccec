"""Experts weighed by the images at hand: the stable ones, and a model's file that keeps the weights."""

from pathlib import Path

import pytest
import torch
from helpers.models import write_model
from helpers.photos import write_photos
from typer.testing import CliRunner

from drolt_pl import Model
from drolt_pl.classifiers.experts import consistent_shares
from drolt_pl.cli.app import app
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.model import Description
from drolt_pl.model.parts import build_backbone, build_classifier


def test_the_stable_expert_gets_the_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (3 * torch.randn(200, 3, 4, generator=generator) for _ in range(2))
    second[:, 1] = first[:, 1]
    shares = consistent_shares(first, second)
    assert shares.sum() == pytest.approx(1)
    assert int(shares.argmax()) == 1
    assert float(shares[1]) > 0.6
    assert float(shares.min()) >= 0.05


def test_equal_experts_keep_equal_weights() -> None:
    logits = torch.randn(50, 1, 4).expand(50, 3, 4)
    torch.testing.assert_close(consistent_shares(logits, logits.flip(2)), torch.full((3,), 1 / 3).double())


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    backbone = {"_target_": "drolt_pl.backbones.SmallConvNet", "num_features": 8, "in_channels": 3, "experts": 3}
    spec = {"_target_": "drolt_pl.classifiers.ExpertsClassifier", "num_features": 8, "num_classes": 3, "experts": 3}
    description = Description(
        backbone=backbone,
        classifiers={"train": spec},
        class_names=("cat", "dog", "owl"),
        preprocessing=Preprocessing(image_size=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    Model(build_backbone(backbone), build_classifier(spec), description=description, stage="train").save(
        "model.safetensors"
    )
    write_photos(tmp_path / "photos", each=3)
    done = CliRunner().invoke(app, ["adapt", "model.safetensors", "photos", "-o", "adapted.safetensors"])
    assert done.exit_code == 0, done.output
    adapted = Model.load("adapted.safetensors")
    shares = adapted.classifier.state_dict()["shares"]
    assert float(shares.sum()) == pytest.approx(1)
    assert not torch.equal(shares, torch.full((3,), 1 / 3))
    write_model(tmp_path / "plain.ckpt")
    done = CliRunner().invoke(app, ["adapt", "plain.ckpt", "photos", "-o", "none.safetensors"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: classifier must be 'experts'")
    assert not (tmp_path / "none.safetensors").exists()


def test_an_output_of_another_kind_is_refused_before_the_work(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", each=1)
    taken = next((tmp_path / "photos").rglob("*.jpg"))
    before = taken.read_bytes()
    done = CliRunner().invoke(app, ["adapt", str(tmp_path / "none.ckpt"), str(tmp_path / "photos"), "-o", str(taken)])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: -o must end in .safetensors, got")
    assert taken.read_bytes() == before
