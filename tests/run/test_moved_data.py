"""Runs whose data has moved since: `resume=` and the commands on a run find it where it is told to be."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.images import write_image_tree
from PIL import Image
from typer.testing import CliRunner

import drolt_pl
from drolt_pl.cli.app import app
from drolt_pl.data import ImageFolderLT, LongTailDataModule
from drolt_pl.data.sets.features import FeaturesLT
from drolt_pl.errors import SettingError

CHANGED = "images have changed under their names since this run began, in size or in bytes"


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Path, Path]:
    """A run that was stopped after its first epoch, and the folder that its images are in since."""
    images = write_image_tree(tmp_path / "images", classes=3, train=12, test=4, size=8)
    run = tmp_path / "run"
    words = ["dataset=image_folder", f"dataset.root={images}", "dataset.image_size=8", "backbone=convnet_small"]
    short = ["trainer=cpu", "method=ce", "schedule.stages.train.epochs=2", "callbacks=[default,snapshots]"]
    drolt_pl.train([*words, *short, f"hydra.run.dir={run}"])
    (run / "results.json").unlink()
    first = next(path for path in sorted((run / "checkpoints").glob("*.ckpt")) if path.stem not in ("last", "train"))
    shutil.copyfile(first, run / "checkpoints" / "last.ckpt")
    images.rename(tmp_path / "moved")
    return run, tmp_path / "moved"


def test_data_that_has_moved(moved: tuple[Path, Path]) -> None:
    run, images = moved
    with pytest.raises(SettingError, match=r"^dataset.root must be a folder that exists, got '.*images'; give"):
        drolt_pl.train([f"resume={run}"])
    with pytest.raises(SettingError, match=r"only trainer.*, logger.* and where the data lies \(dataset.root, .* may"):
        drolt_pl.train([f"resume={run}", "dataset.split_seed=1"])
    drolt_pl.train([f"resume={run}", f"dataset.root={images}"])
    assert json.loads((run / "results.json").read_text())["test"]["acc"] is not None
    described = CliRunner().invoke(app, ["features", str(run), "--data", str(images), "--classes", "3"])
    assert described.exit_code == 0, described.output
    nowhere = CliRunner().invoke(app, ["features", str(run), "--data", str(images / "none")])
    assert nowhere.stderr.startswith("error: --data must be where the run's data set lies now: a folder")


def test_data_that_has_changed(moved: tuple[Path, Path]) -> None:
    run, images = moved
    next((images / "train").rglob("*.jpg")).unlink()
    with pytest.raises(SettingError, match="the data set has changed since this run began; restore it, or start a new"):
        drolt_pl.train([f"resume={run}", f"dataset.root={images}"])
    described = CliRunner().invoke(app, ["features", str(run), "--data", str(images)])
    assert described.exit_code == 1
    assert "the data set has changed since this run began; restore it, or start a new" in described.stderr


def test_images_that_were_replaced_under_their_names(
    moved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, images = moved
    one = sorted((images / "train").rglob("*.jpg"))[7]
    before = one.read_bytes()
    one.write_bytes(before + b"\0")  # still an image, of other bytes
    for _ in range(2):  # the first resumption does not make it forget
        results = drolt_pl.train([f"resume={run}", f"dataset.root={images}"])
        assert capsys.readouterr().err.startswith(f"warning: resume={run}: {CHANGED}\n")
        assert results.warning == CHANGED
    described = CliRunner().invoke(app, ["features", str(run), "--data", str(images), "--classes", "3"])
    assert described.stderr == f"warning: {run}: {CHANGED}\n"
    one.write_bytes(before)
    os.utime(one, (0, 0))  # as a copy may have it
    assert drolt_pl.train([f"resume={run}", f"dataset.root={images}"]).warning is None
    split = json.loads((run / "split.json").read_text())
    del split["sha256_content"]  # as an earlier version wrote it
    (run / "split.json").write_text(json.dumps(split))
    assert drolt_pl.train([f"resume={run}", f"dataset.root={images}"]).warning is None
    assert "sha256_content" in json.loads((run / "split.json").read_text())


def test_other_pixels_of_the_same_size(tmp_path: Path) -> None:
    """Files without compression, and features of another network."""
    images = write_image_tree(tmp_path / "images", classes=2, train=12, test=4, size=8)
    for path in images.rglob("*.jpg"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()

    def of_images() -> LongTailDataModule:
        return ImageFolderLT(root=images, image_size=8, imbalance_ratio=None, protocol="published")

    def of_features() -> LongTailDataModule:
        return FeaturesLT(file=tmp_path / "f.npz", imbalance_ratio=None, protocol="published", test_per_class=2)

    def content(module: LongTailDataModule) -> str:
        module.setup()
        return module.split_record()["sha256_content"]

    first = content(of_images())
    for path in images.rglob("*.bmp"):
        Image.open(path).rotate(90).save(path)
    assert content(of_images()) != first
    found = []
    for seed in (0, 0, 1):
        features = np.random.default_rng(seed).normal(size=(40, 3)).astype(np.float32)
        np.savez(tmp_path / "f.npz", features=features, labels=np.arange(40) % 2)
        found.append(content(of_features()))
    assert found[0] == found[1] != found[2]


def test_a_damaged_image_is_named_repaired_and_the_run_goes_on(tmp_path: Path) -> None:
    images, run = write_image_tree(tmp_path / "images", classes=2, train=12, test=4, size=8), tmp_path / "run"
    words = ["dataset=image_folder", f"dataset.root={images}", "dataset.image_size=8", "backbone=convnet_small"]
    words += ["trainer=cpu", "method=ce", "schedule.stages.train.epochs=1", "report=false", f"hydra.run.dir={run}"]
    for part, trained in (("train", False), ("test", True)):
        damaged = images / part / "class_1" / "0000.jpg"
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:-100])
        with pytest.raises(
            SettingError,
            match=r"^dataset\.root must hold .*0000.jpg' cannot be read .* or train with dataset.on_corrupt=skip",
        ):
            drolt_pl.train(words)
        assert run.exists() == trained  # before the first step nothing is left
        damaged.write_bytes(whole)
    assert drolt_pl.train([f"resume={run}"]).warning == CHANGED
