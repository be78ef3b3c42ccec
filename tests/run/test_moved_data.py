"""Runs whose data has moved since: `resume=` and the commands on a run find it where it is told to be."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.images import write_image_tree
from typer.testing import CliRunner

import drolt_pl
from drolt_pl.cli.app import app
from drolt_pl.errors import SettingError


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
    assert (
        "was trained on another split of its data set, which has changed since: restore the images" in described.stderr
    )
