"""What people switch on works, or is refused at the start in one sentence that names the key and the remedy."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.images import write_image_tree
from helpers.jobs import forked
from helpers.running import composed, train_composed

import drolt_pl
from drolt_pl.errors import SettingError
from drolt_pl.run.train import prepared

LIGHTNING = "pytorch_lightning.callbacks"
ONE = tuple(f"schedule.stages.{stage}.epochs=1" for stage in ("ce_warmup", "joint", "rebalance"))
TINY = ("trainer=cpu", "trainer.enable_progress_bar=false", "backbone=convnet_small", *ONE)

# What is switched on, and the beginning of the sentence.
REFUSED: dict[str, tuple[list[str], str]] = {
    "EarlyStopping": (
        [f"+callbacks.early={{_target_: {LIGHTNING}.EarlyStopping, monitor: val/acc}}"],
        r"callbacks.early is refused: EarlyStopping would end the whole run, and not a stage; "
        r"schedule.stages.STAGE.patience=5 ends a stage$",
    ),
    "WeightAveraging": (
        [f"+callbacks.mean={{_target_: {LIGHTNING}.WeightAveraging}}"],
        r"callbacks.mean is refused: WeightAveraging would average over all stages; schedule.stages.STAGE.ema=0.999",
    ),
    "EMAWeightAveraging": (
        [f"+callbacks.mean={{_target_: {LIGHTNING}.EMAWeightAveraging}}"],
        r"callbacks.mean is refused: EMAWeightAveraging would average over all stages; schedule.stages.STAGE.ema=0.999",
    ),
    "StochasticWeightAveraging": (
        [f"+callbacks.swa={{_target_: {LIGHTNING}.StochasticWeightAveraging, swa_lrs: 0.01}}"],
        r"callbacks.swa is refused: StochasticWeightAveraging would set the rates of all stages; schedule.stages.STAGE",
    ),
    "fast_dev_run": (
        ["+trainer.fast_dev_run=true"],
        r"trainer.fast_dev_run is refused: it would end after an epoch of the first stage; take trainer=debug: two ",
    ),
    "ddp_spawn": (
        ["trainer.strategy=ddp_spawn", "trainer.devices=2"],
        r"trainer.strategy=ddp_spawn is refused: each rank of a run is a process that starts by itself; take tr",
    ),
    "max_epochs": (
        ["trainer.max_epochs=3"],
        r"trainer.max_epochs=3 is refused: it is the schedule's sum; set",
    ),
    "num_sanity_val_steps": (
        ["+trainer.num_sanity_val_steps=2"],
        r"trainer.num_sanity_val_steps is set by the run itself: take it away$",
    ),
    "bf16-true": (
        ["trainer.precision=bf16-true"],
        r"trainer.precision=bf16-true is refused, since centroids",
    ),
    "16-mixed": (["trainer.precision=16-mixed"], r"trainer.precision=16-mixed is refused on a CPU: take bf16-mixed$"),
    "no training batch": (
        ["trainer.limit_train_batches=0.01"],
        r"trainer.limit_train_batches must leave a batch of an epoch of stage ce_warmup, which are 3, got 0.01; give a",
    ),
    "no validation batch": (
        ["trainer.limit_val_batches=0.01"],
        r"trainer.limit_val_batches must leave a batch of the 200 val images, which are 2, got 0.01; give",
    ),
    "no test batch": (
        ["trainer.limit_test_batches=0.01"],
        r"trainer.limit_test_batches must leave a batch of the 500 test images, which are 4, got 0.01; give",
    ),
    "nought batches": (
        ["trainer.limit_train_batches=0"],
        r"trainer.limit_train_batches must be null or a whole number",
    ),
    "val_check_interval": (
        ["+trainer.val_check_interval=1000"],
        r"trainer.val_check_interval must be at most the 3 batches of an epoch of stage ce_warmup, got 1000$",
    ),
    "no val_check_interval": (["+trainer.val_check_interval=0"], r"trainer.val_check_interval must be null or a whole"),
    "an empty group": (
        ["schedule.stages.joint.monitor=val/few", "groups.few=1"],
        r"schedule.stages.joint.monitor must be of a group with validation images: of its 0 classes none has any, got",
    ),
    "a last batch of one": (
        ["dataset.batch_size=286", "backbone=resnet50"],
        r"dataset.batch_size leaves a last batch of one image in stage ce_warmup \(287 images an epoch\), and this "
        r"network cannot train on one \(Expected more than 1 value per channel .*\), got 286; change it by one$",
    ),
}


@pytest.mark.parametrize("switch", REFUSED)
def test_a_switch_is_refused_at_the_start(tmp_path: Path, switch: str) -> None:
    words, sentence = REFUSED[switch]
    with pytest.raises(SettingError, match=f"^{sentence}"):
        prepared(composed(*TINY, "dataset.batch_size=128", *words), tmp_path)
    assert not list(tmp_path.iterdir())


TAKEN: dict[str, list[str]] = {
    "val_check_interval": ["+trainer.val_check_interval=0.5"],
    "deterministic": ["trainer.deterministic=true"],
    "overfit_batches": ["+trainer.overfit_batches=2"],
    "gradient clipping by norm": ["trainer.gradient_clip_val=1.0"],
    "gradient clipping by value": ["trainer.gradient_clip_val=1.0", "+trainer.gradient_clip_algorithm=value"],
    "bf16-mixed": ["trainer.precision=bf16-mixed"],
    "validation every second epoch": ["trainer.check_val_every_n_epoch=2"],
    "a last batch of one image": ["dataset.batch_size=286"],
    "its own checkpoints": [f"+callbacks.mine={{_target_: {LIGHTNING}.ModelCheckpoint, monitor: val/acc}}"],
}


@pytest.mark.parametrize("switch", TAKEN)
def test_a_switch_works(tmp_path: Path, switch: str) -> None:
    results = train_composed(tmp_path, *TINY, "trainer.limit_train_batches=3", *TAKEN[switch])
    assert list(results["stages"]) == ["ce_warmup", "joint", "rebalance"]
    assert 0 <= results["test"]["acc"] <= 1


def test_the_profiler_prints_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_composed(tmp_path, *TINY, "trainer.limit_train_batches=1", "trainer.profiler=simple")
    said = capsys.readouterr().out
    assert "Profiler Report" in said
    assert "run_training_epoch" in said


@pytest.mark.parametrize("method", ["dro_lt", "ce"])
def test_debug_takes_two_batches_and_two_epochs_a_stage(tmp_path: Path, method: str) -> None:
    results = train_composed(tmp_path, "trainer=debug", f"method={method}", "dataset.batch_size=32")
    stages = len(results["stages"])
    assert results["images_seen"] == stages * 2 * 2 * 32
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 2 * stages


def test_a_run_out_of_time_goes_on_with_the_epoch_that_was_cut(tmp_path: Path) -> None:
    whole = train_composed(tmp_path / "whole", *TINY)
    run = tmp_path / "run"
    words: list[Any] = [*TINY, f"hydra.run.dir={run}"]
    with pytest.raises(SettingError, match=r"set to null what stopped it \(such as trainer.max_time=null\), and go on"):
        drolt_pl.train([*words, "+trainer.max_steps=11"])  # as max_time does, at a step that is known
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 0
    assert not (run / "results.json").exists()
    with pytest.raises(SettingError, match=r"ended training in epoch \d of 3"):
        drolt_pl.train([f"resume={run}", "trainer.max_steps=-1", "+trainer.max_time={seconds: 0}"])
    drolt_pl.train([f"resume={run}", "trainer.max_steps=-1"])
    again = json.loads((run / "results.json").read_text())
    assert again["stages"] == whole["stages"]
    assert again["images_seen"] == whole["images_seen"]


@pytest.mark.slow
def test_a_run_may_change_to_its_folder(tmp_path: Path) -> None:
    write_image_tree(tmp_path / "images", classes=3, train=12, test=4, size=8)
    words = ["dataset=image_folder", "dataset.root=images", "dataset.image_size=8", "hydra.run.dir=run"]
    done = forked(*TINY, *words, "hydra.job.chdir=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["test"]["acc"] is not None


def test_a_key_of_lightning_that_is_left_out_is_told_how_to_be_typed() -> None:
    with pytest.raises(
        SettingError, match=r"^trainer.max_time is a key of Lightning's trainer that .* leaves out: type \+"
    ):
        drolt_pl.train(["trainer.max_time=1"])
