"""The three stages on the digits: what trains, what stays, what is read when, what is written."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.jobs import forked
from helpers.running import HOME, SHORT, train_here
from helpers.watching import StageWatch

from drolt_pl import load_model

WATCH = "+callbacks.watch={_target_: helpers.watching.StageWatch}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    run_dir = tmp_path_factory.mktemp("digits") / "run"
    results = train_here(run_dir, WATCH)
    return run_dir, results, StageWatch.seen


def test_rebalance_leaves_every_backbone_tensor_bit_identical(finished: Any) -> None:
    states = finished[2]["states"]
    start, end = states["rebalance/start"], states["rebalance/end"]
    assert any("running_mean" in key for key in start), "the test needs BatchNorm buffers"
    assert all(torch.equal(start[key], end[key]) for key in start)
    moved = states["joint/start"], states["joint/end"]
    assert not any(torch.equal(moved[0][key], moved[1][key]) for key in start if "weight" in key)


def test_a_forced_pass_changes_neither_losses_nor_random_state(finished: Any, tmp_path: Path) -> None:
    train_here(tmp_path, WATCH, "callbacks.centroids.always=true")
    assert StageWatch.seen["losses"] == finished[2]["losses"]
    for ours, theirs in zip(StageWatch.seen["random"], finished[2]["random"], strict=True):
        assert torch.equal(ours, theirs)


def test_the_folder_is_complete(finished: Any) -> None:
    run_dir, results, _ = finished
    assert set(results) >= {
        *("schema", "dataset", "method", "protocol", "seed", "split_seed", "split_sha256", "class_counts"),
        *("num_parameters", "images_seen", "selection", "stages", "test", "test_pool", "val", "eps", "timing"),
        *("versions", "git", "command"),
    }
    assert list(results["stages"]) == ["ce_warmup", "joint", "rebalance"]
    for stage in results["stages"].values():
        assert stage["val"]["acc"] is not None
        assert stage["test"]["acc"] is not None
    measures = {"acc", "acc_micro", "many", "medium", "few", "acc_ncm", "acc_ncm_cosine", "ece", "per_class"}
    assert set(results["test"]) >= measures
    assert len(results["test"]["per_class"]) == len(results["class_counts"]) == len(results["eps"]) == 10
    assert results["selection"]["metric"] == "val/acc"
    assert results["selection"]["n_candidates"] == 2
    assert results["timing"].keys() >= {"train_s", "centroid_s", "images_per_s"}
    assert results["images_seen"] == 6 * sum(results["class_counts"])
    with (run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stage_name"] for row in rows] == ["ce_warmup"] * 2 + ["joint"] * 2 + ["rebalance"] * 2
    assert rows[3]["train/loss_robust"]
    assert not rows[0]["train/loss_robust"]
    assert rows[3]["val/acc_ncm"]
    assert (run_dir / "per_class.csv").read_text().count("\n") == 11
    assert json.loads((run_dir / "split.json").read_text())["sha256"] == results["split_sha256"]


def test_checkpoints_load_without_lightning(finished: Any) -> None:
    run_dir, results, _ = finished
    names = {path.stem for path in (run_dir / "checkpoints").iterdir()}
    assert names >= {"last", "best", "ce_warmup", "joint", "rebalance"}
    for path in (run_dir / "checkpoints").iterdir():
        torch.load(path, weights_only=True)
    model = load_model(run_dir / "checkpoints" / "best.ckpt")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert sum(p.numel() for p in model.parameters()) == results["num_parameters"]


def test_the_test_set_is_first_read_after_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from drolt_pl.data import DigitsLT

    fitting = {"now": False}
    fit, loader = pl.Trainer.fit, DigitsLT.test_dataloader

    def watched_fit(self: Any, *args: Any, **kwargs: Any) -> None:
        fitting["now"] = True
        fit(self, *args, **kwargs)
        fitting["now"] = False

    def guarded(self: Any) -> Any:
        assert not fitting["now"], "the test set was read during fit"
        return loader(self)

    monkeypatch.setattr(pl.Trainer, "fit", watched_fit)
    monkeypatch.setattr(DigitsLT, "test_dataloader", guarded)
    monkeypatch.setattr(DigitsLT, "pool_dataloader", guarded)
    assert train_here(tmp_path)["test"]["acc"] > 0


def test_published_has_no_selection(tmp_path: Path) -> None:
    results = train_here(tmp_path, "protocol=published")
    assert results["val"] is None
    assert results["selection"] == {"metric": None, "stage": "rebalance", "epoch": 5, "n_candidates": 1}
    assert results["test"]["acc"] == results["stages"]["rebalance"]["test"]["acc"]


@pytest.mark.parametrize("source", ["batch", "ema"])
def test_other_centroids_train(source: str, tmp_path: Path) -> None:
    assert train_here(tmp_path, f"centroids={source}")["stages"]["joint"]["test"]["acc_ncm"] > 0.5


@pytest.mark.parametrize("mode", ["zero", "shared", "learned", "coverage"])
def test_every_radius_trains(mode: str, tmp_path: Path) -> None:
    results = train_here(tmp_path, f"loss.eps_mode={mode}")
    assert len(results["eps"]) == 10
    assert all(value >= 0 for value in results["eps"])
    assert results["stages"]["joint"]["test"]["acc_ncm"] > 0.5


def test_a_run_that_diverges_ends_in_one_sentence(tmp_path: Path) -> None:
    from drolt_pl.errors import SettingError

    with pytest.raises(SettingError, match=r"not finite at the end of epoch 1 .*; lower optimizer.lr"):
        train_here(tmp_path, "schedule.stages.ce_warmup.lr=1000")


def test_flush_denormal_is_set(tmp_path: Path) -> None:
    train_here(tmp_path)
    tiny = torch.tensor([1e-38]) * 1e-3
    assert tiny.item() == 0


def test_two_ranks_finish_all_stages(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    done = forked(
        *SHORT,
        "trainer.devices=2",  # trainer.strategy=auto: Lightning takes DDP, and stages leave parameters out all the same
        "+callbacks.watch={_target_: helpers.watching.BitIdentical}",
        *(f"schedule.stages.{stage}.ema=0.8" for stage in ("joint", "rebalance")),
        f"hydra.run.dir={run_dir}",
        PYTHONPATH=str(HOME / "tests"),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((run_dir / "results.json").read_text())
    assert list(results["stages"]) == ["ce_warmup", "joint", "rebalance"]
    assert results["images_seen"] <= 6 * sum(results["class_counts"])
    assert (run_dir / "frozen_0").read_text() == (run_dir / "frozen_1").read_text() == "identical"
    first, second = (torch.load(run_dir / f"weights_{rank}.pt") for rank in (0, 1))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert results["test"]["acc_ncm"] > 0.5


def test_selecting_on_the_test_set_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = train_here(tmp_path, "protocol=test_selected")
    assert "test_selected" in results["warning"]
    assert "warning: protocol=test_selected" in capsys.readouterr().out
    assert results["val"]["acc"] == results["test"]["acc"]


def test_a_frozen_classifier_stays_while_the_backbone_learns(tmp_path: Path) -> None:
    frozen = "schedule.stages.joint.trainable=[backbone]"
    train_here(tmp_path, frozen, "dataset.batch_size=128", "loss.eps_mode=learned")
    before = torch.load(tmp_path / "checkpoints" / "ce_warmup.ckpt", weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "checkpoints" / "joint.ckpt", weights_only=True)["state_dict"]
    classifier = [key for key in before if key.startswith("classifiers.")]
    assert all(torch.equal(before[key], after[key]) for key in classifier)
    moved = [key for key in before if key.startswith("backbone.") and "weight" in key]
    assert not any(torch.equal(before[key], after[key]) for key in moved)


def test_snapshots_are_models_after_their_epochs(tmp_path: Path) -> None:
    """`callbacks=[default,snapshots]`: the weights of every epoch stay, and a command may name one as a stage."""
    run_dir = tmp_path / "run"
    results = train_here(run_dir, "callbacks=[default,snapshots]", "callbacks.snapshots.every=3")
    names = {path.stem for path in (run_dir / "checkpoints").glob("epoch*.ckpt")}
    assert names == {"epoch0000", "epoch0003"}
    after_joint, early = (load_model(run_dir, stage=name).backbone.state_dict() for name in ("joint", "epoch0000"))
    snapshot = load_model(run_dir, stage="epoch0003").backbone.state_dict()
    assert all(torch.equal(snapshot[key], after_joint[key]) for key in after_joint)
    assert not all(torch.equal(snapshot[key], early[key]) for key in early)
    for stage in results["stages"].values():
        for part in ("train", "test"):  # of the classifier alone: the paper's Figure 4 needs them
            assert sum(stage[part]["per_class"]) / 10 == pytest.approx(stage[part]["acc"])
            assert "per_class_ncm" not in stage[part]
