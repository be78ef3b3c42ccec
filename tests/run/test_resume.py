"""A run resumed at any epoch equals the uninterrupted one, bit for bit; a run can start after another's stage."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.images import write_image_tree
from helpers.jobs import forked
from helpers.running import SHORT, tensors, train_composed, train_here

from drolt_pl.run.warmstart import split_source


def digits(tmp_path: Path) -> tuple[str, ...]:
    return ("dataset.batch_size=64",)


def files(tmp_path: Path) -> tuple[str, ...]:
    write_image_tree(tmp_path / "images", classes=4, train=30, test=6, size=16)
    return (
        "dataset=image_folder",
        f"dataset.root={tmp_path / 'images'}",
        "dataset.imbalance_ratio=5",
        "dataset.image_size=8",
        "dataset.val_per_class=4",
        "dataset.batch_size=32",
        "dataset.loader=workers",
        "dataset.num_workers=2",
        "backbone=convnet_small",
    )


def mixed_and_averaged(tmp_path: Path) -> tuple[str, ...]:
    stages = ("ce_warmup", "joint", "rebalance")
    return (
        *("dataset.batch_size=64", "optimizer=adamw", "optimizer.layer_decay=0.8", "schedule.scratch.lr=0.01"),
        *(f"schedule.stages.{stage}.ema=0.8" for stage in stages),
        "criterion=focal",
        "criterion.beta=0.9999",
        "criterion.start=0.5",  # in force in the second epoch of each stage
        "schedule.stages.ce_warmup.mixing=cutmix",
        "schedule.stages.ce_warmup.views=2",
        "schedule.stages.joint.mixing=mixup",
        "schedule.stages.rebalance.shift_bn=true",
    )


@pytest.mark.parametrize("data", [digits, pytest.param(files, marks=pytest.mark.slow), mixed_and_averaged])
def test_resumed_at_every_epoch_equals_uninterrupted(data: Any, tmp_path: Path) -> None:
    # Dropout draws from the global generator; learned radii and start_from=best put state into every corner.
    overrides = (
        *data(tmp_path),
        "loss.eps_mode=learned",
        "schedule.stages.rebalance.start_from=best",
        "schedule.stages.rebalance.classifier=reset",
    )
    assert require_equal_resumptions(tmp_path, *overrides)["last_epochs"] == {
        "ce_warmup": 1,
        "joint": 3,
        "rebalance": 5,
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["paco", "proco", "sam", "bbn", "sade", "lfme"])
def test_methods_with_state_of_their_own_go_on(method: str, tmp_path: Path) -> None:
    """A copy of the network, a queue, running means, experts, and weights that shift with the epochs."""
    whole, snapshots = tmp_path / "whole", tmp_path / "snapshots"
    overrides = ("trainer=cpu", f"method={method}", *(f"schedule.budget.{stage}=1" for stage in BUDGET))
    watch = f"+callbacks.snapshots={{_target_: helpers.watching.Snapshots, run_dir: {whole}, folder: {snapshots}}}"
    train_composed(whole, *overrides, watch)
    for epoch in (1, 2):
        run_dir = snapshots / str(epoch)
        train_composed(run_dir, *overrides, f"resume={run_dir}")
        found, final = (
            torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for folder in (run_dir, whole)
        )
        assert found.keys() == final.keys()
        assert [name for name, value in final.items() if not torch.equal(found[name], value)] == []


BUDGET = ("ce_warmup", "joint", "rebalance")


def require_equal_resumptions(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    """Holds a run that is resumed at each of its epochs to the one that nobody interrupts; returns its results."""
    whole, snapshots = tmp_path / "whole", tmp_path / "snapshots"
    snapshot = f"+callbacks.snapshots={{_target_: helpers.watching.Snapshots, run_dir: {whole}, folder: {snapshots}}}"
    results = train_here(whole, *overrides, snapshot)
    final = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    rows = (whole / "metrics.csv").read_text().splitlines()
    for epoch in range(1, len(rows) - 1):
        run_dir = snapshots / str(epoch)
        resumed = train_here(run_dir, *overrides, f"resume={run_dir}")
        state = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
        for part in ("state_dict", "optimizer_states"):
            ours, theirs = tensors(state[part]), tensors(final[part])
            assert ours.keys() == theirs.keys()
            differing = [key for key in ours if not torch.equal(ours[key], theirs[key])]
            assert not differing, f"resumed at {epoch}: {part}{differing}"
        for key in ("stages", "test", "val", "eps", "images_seen", "selection", "objective", "last_epochs"):
            assert resumed[key] == results[key], f"resumed at {epoch}: {key}"
        drop = {i for i, name in enumerate(rows[0].split(",")) if name.startswith("time/")}
        resumed_rows = (run_dir / "metrics.csv").read_text().splitlines()
        cut = [[cell for i, cell in enumerate(row.split(",")) if i not in drop] for row in rows]
        assert [[cell for i, cell in enumerate(row.split(",")) if i not in drop] for row in resumed_rows] == cut
    return results


def test_a_stage_ends_early_and_the_next_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = ("backbone._target_=helpers.watching.PlainNet", "dataset.batch_size=64")
    overrides = [f"schedule.stages.{stage}.{key}" for stage in ("joint", "rebalance") for key in ("lr=0", "epochs=4")]
    patience = ("schedule.stages.joint.patience=1", "schedule.stages.rebalance.patience=2")
    results = require_equal_resumptions(tmp_path, *still, *overrides, *patience)
    assert results["last_epochs"] == {"ce_warmup": 1, "joint": 3, "rebalance": 6}
    assert list(results["stages"]) == ["ce_warmup", "joint", "rebalance"]
    assert (results["selection"]["stage"], results["selection"]["n_candidates"]) == ("rebalance", 3)
    said = capsys.readouterr().out
    assert "stage joint ends after 2 of 4 epochs: val/acc_ncm was best in epoch 3 (0." in said
    again = train_here(tmp_path / "whole", *still, *overrides, *patience, f"resume={tmp_path / 'whole'}")
    assert again["test"] == results["test"]


def test_patience_needs_a_validation_set(tmp_path: Path) -> None:
    from drolt_pl.errors import SettingError

    with pytest.raises(SettingError, match=r"^schedule\.stages\.joint\.patience needs validation images, and prot"):
        train_here(tmp_path, "protocol=published", "schedule.stages.joint.patience=3")


def test_a_finished_run_is_only_evaluated_again(tmp_path: Path) -> None:
    first = train_here(tmp_path / "run")
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    again = train_here(tmp_path / "run", f"resume={tmp_path / 'run'}")
    assert again["test"] == first["test"]
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_run_killed_after_its_last_epoch_names_its_result(tmp_path: Path) -> None:
    first = train_here(tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    (tmp_path / "run" / "checkpoints" / "best.ckpt").unlink()
    assert train_here(tmp_path / "run", f"resume={tmp_path / 'run'}")["test"] == first["test"]
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


def test_a_stage_is_written_before_the_checkpoint_that_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, the resumed run repeats the stage's last epoch: no stage is ever without its file."""
    written: list[str] = []
    save = pl.Trainer.save_checkpoint
    monkeypatch.setattr(
        pl.Trainer,
        "save_checkpoint",
        lambda trainer, path, **kw: (written.append(path.name), save(trainer, path, **kw)),
    )
    train_here(tmp_path)
    epochs = " ".join(written).split("last.ckpt")
    assert [epoch.split()[-1:] for epoch in epochs[1::2][:3]] == [
        ["ce_warmup.ckpt"],
        ["joint.ckpt"],
        ["rebalance.ckpt"],
    ]


def test_a_run_that_something_stopped_early_is_not_measured(tmp_path: Path) -> None:
    from drolt_pl.errors import SettingError

    with pytest.raises(SettingError, match=r"ended training in epoch \d of 6.*resume="):
        train_here(tmp_path, "+trainer.max_steps=5")
    assert not (tmp_path / "results.json").exists()


def test_resume_as_a_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert forked(*SHORT, "loss.eps=2", f"hydra.run.dir={run}").returncode == 0
    whole = json.loads((run / "results.json").read_text())
    config = (run / ".hydra" / "config.yaml").read_bytes()
    # As if it had been stopped when the second stage began.
    (run / "results.json").unlink()
    shutil.copyfile(run / "checkpoints" / "ce_warmup.ckpt", run / "checkpoints" / "last.ckpt")
    done = forked(f"resume={run}", "trainer.log_every_n_steps=7")
    assert done.returncode == 0, done.stderr
    again = json.loads((run / "results.json").read_text())
    for key in ("stages", "test", "eps", "images_seen", "overrides", "command"):
        assert again[key] == whole[key]
    assert (run / ".hydra" / "config.yaml").read_bytes() == config
    assert (run / ".hydra" / "resume_0").is_dir()
    assert [path for path in run.rglob("*") if path.is_file() and not path.stat().st_size] == []


def test_init_from_skips_the_stages_that_another_run_trained(tmp_path: Path) -> None:
    source = train_here(tmp_path / "source")
    warm = train_here(tmp_path / "warm", f"init_from={tmp_path / 'source'}:ce_warmup")
    # The same stages from the same border with the same seeds: the same run.
    assert warm["stages"] == source["stages"]
    assert warm["test"] == source["test"]
    assert warm["images_seen"] == source["images_seen"]
    # The time of the stages taken is counted beside its own.
    border = torch.load(tmp_path / "source" / "checkpoints" / "ce_warmup.ckpt", weights_only=True)
    assert warm["timing"]["taken_s"] == border["callbacks"]["StageCheckpoint"]["seconds"] > 0
    assert source["timing"]["taken_s"] == 0
    twice = train_here(tmp_path / "twice", f"init_from={tmp_path / 'warm'}:joint")
    assert twice["timing"]["taken_s"] > warm["timing"]["taken_s"]
    # Radii and schedule may differ from the source's.
    learned = train_here(
        tmp_path / "learned",
        f"init_from={tmp_path / 'source'}",
        "loss.eps_mode=learned",
        "schedule.stages.ce_warmup.epochs=7",
        "schedule.stages.rebalance.classifier=lws",
    )
    assert learned["stages"]["ce_warmup"] == source["stages"]["ce_warmup"]
    assert learned["stages"]["joint"] != source["stages"]["joint"]


def test_init_from_another_split_is_refused(tmp_path: Path) -> None:
    from drolt_pl.errors import SettingError

    train_here(tmp_path / "source")
    with pytest.raises(SettingError, match="another split"):
        train_here(tmp_path / "warm", f"init_from={tmp_path / 'source'}", "dataset.split_seed=1")
    with pytest.raises(SettingError, match="does not exist"):
        train_here(tmp_path / "warm", f"init_from={tmp_path / 'nowhere'}")
    with pytest.raises(SettingError, match="before the last"):
        train_here(tmp_path / "warm", f"init_from={tmp_path / 'source'}:rebalance")
    for behind in (":last", ":", ":ce_warmup_best", ":../checkpoints/ce_warmup"):
        with pytest.raises(SettingError, match="must name a stage behind the folder"):
            train_here(tmp_path / "warm", f"init_from='{tmp_path / 'source'}{behind}'")
    assert split_source(f"{tmp_path}", "joint") == split_source(f"{tmp_path}:joint", "train") == (tmp_path, "joint")
    (tmp_path / "12:30").mkdir()
    assert split_source(f"{tmp_path}/12:30", "joint") == (tmp_path / "12:30", "joint")


def test_resume_refuses_changed_data(tmp_path: Path) -> None:
    from drolt_pl.errors import SettingError

    run = tmp_path / "run"
    train_here(run)
    split = json.loads((run / "split.json").read_text())
    (run / "split.json").write_text(json.dumps({**split, "sha256": "0" * 64}))
    with pytest.raises(SettingError, match="changed"):
        train_here(run, f"resume={run}")
