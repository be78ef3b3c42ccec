"""Damaged and foreign checkpoints: never a traceback, never used, and the one before is taken."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.faults import assembled, cut, flipped, require_same
from helpers.running import train_here

from drolt_pl import checkpoint_file, load_model
from drolt_pl.checkpoint_file import DamagedError
from drolt_pl.classifiers import SmDragonClassifier
from drolt_pl.errors import SettingError
from drolt_pl.run.assemble import Run
from drolt_pl.run.checkpoints import ForeignError, newest

CHANGES = ("schedule.stages.rebalance.start_from=best", "loss.eps_mode=learned")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has befallen."""
    base = tmp_path_factory.mktemp("whole")
    snapshots = f"{{_target_: helpers.watching.Snapshots, run_dir: {base / 'run'}, folder: {base / 'snapshots'}}}"
    train_here(base / "run", *CHANGES, f"+callbacks.snapshots={snapshots}")
    return base / "run"


@pytest.fixture(scope="module")
def run(whole: Path) -> Run:
    return assembled(whole, *CHANGES)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """The same run after five of its six epochs, the first of the last stage."""
    return Path(shutil.copytree(whole.parent / "snapshots" / "5", tmp_path / "run"))


@pytest.fixture
def plain(folder: Path) -> Path:
    """That run where only last.ckpt has the last epoch, not the stage's best as well."""
    (folder / "checkpoints" / "rebalance_best.ckpt").unlink()
    return folder


def taken(folder: Path, run: Run) -> tuple[str | None, str]:
    found = newest(folder, run.module.schedule, run.files)
    return None if found.path is None else found.path.name, found.sentence


def resumed(folder: Path) -> None:
    train_here(folder, *CHANGES, f"resume={folder}")


def test_every_damage_to_the_last_checkpoint_is_found(
    plain: Path, run: Run, record_property: Callable[[str, int], None]
) -> None:
    last = plain / "checkpoints" / "last.ckpt"
    data, generator = last.read_bytes(), random.Random(0)
    damaged = [cut(data, share / 50) for share in range(50)]
    damaged += [flipped(data, generator) for _ in range(100)]
    damaged += [data + b"\0", data[1:], b"PK", b"\0" * len(data), b"hello"]
    for content in damaged:
        last.write_bytes(content)
        name, said = taken(plain, run)
        assert name == "previous.ckpt", said
        assert "last.ckpt is damaged" in said
        assert "after epoch 4 of 6 (stage joint); epoch 5 is trained again" in said
    record_property("damaged checkpoints", len(damaged))


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "link"])
def test_what_is_no_file_is_not_read(kind: str, plain: Path, run: Run) -> None:
    last = plain / "checkpoints" / "last.ckpt"
    last.unlink()
    make: dict[str, Callable[[], Any]] = {
        "missing": lambda: None,
        "folder": last.mkdir,
        "pipe": lambda: os.mkfifo(last),
        "link": lambda: last.symlink_to("nowhere"),
    }
    make[kind]()
    name, said = taken(plain, run)
    assert name == "previous.ckpt"
    assert "last.ckpt is missing" in said or "last.ckpt is no file" in said


def test_another_runs_checkpoint_is_not_used(plain: Path, run: Run, tmp_path: Path) -> None:
    for other, said in (("optimizer.lr=0.07", "configuration"), ("dataset.split_seed=1", "split")):
        train_here(tmp_path / other, *CHANGES, other)
        shutil.copyfile(tmp_path / other / "checkpoints" / "last.ckpt", plain / "checkpoints" / "last.ckpt")
        name, sentence = taken(plain, run)
        assert name == "previous.ckpt"
        assert f"last.ckpt is of another run: its {said}" in sentence
    # With nothing of its own, the run is not started again over the other's.
    for path in (plain / "checkpoints").iterdir():
        shutil.copyfile(tmp_path / "optimizer.lr=0.07" / "checkpoints" / "last.ckpt", path)
    with pytest.raises(ForeignError, match="finds no checkpoint of this run"):
        taken(plain, run)


def test_a_checkpoint_that_was_changed_and_written_again_is_not_used(plain: Path, run: Run) -> None:
    last = plain / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    content["state_dict"]["centroids"] += 1e-3
    torch.save(content, last)
    name, said = taken(plain, run)
    assert name == "previous.ckpt"
    assert "lost its checksum" in said


def test_the_newest_intact_one_is_taken(folder: Path, run: Run) -> None:
    checkpoints = folder / "checkpoints"
    for name in ("last", "previous"):
        (checkpoints / f"{name}.ckpt").write_bytes(b"")
    for damaged, expected in (
        ((), "rebalance_best.ckpt"),
        (("rebalance_best",), "joint.ckpt"),
        (("joint",), "ce_warmup.ckpt"),  # joint.ckpt is measured at the end, so it must be written again
        (("ce_warmup", "ce_warmup_best", "joint_best"), None),
    ):
        for name in damaged:
            (checkpoints / f"{name}.ckpt").write_bytes(b"")
        found = taken(folder, run)
        assert found[0] in (expected, None if expected is None else expected.replace(".ckpt", "_best.ckpt"))
    assert "no checkpoint is left to go on from: it starts again at epoch 1 of 6" in found[1]
    shutil.rmtree(checkpoints)
    assert "starts again at epoch 1" in taken(folder, run)[1], "metrics.csv tells of epochs"
    (folder / "metrics.csv").unlink()
    assert taken(folder, run) == (None, "resume: no epoch had ended: it starts at epoch 1 of 6")


def test_a_finished_run_needs_no_last_checkpoint(whole: Path, run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    name, said = taken(folder, run)
    assert name == "rebalance.ckpt", said
    assert "trained again" not in said


@pytest.mark.parametrize(
    "damaged", [("last",), ("joint",), ("last", "previous", "rebalance_best"), ("rebalance_best",)]
)
def test_a_run_with_a_damaged_checkpoint_ends_as_the_whole_one(
    damaged: tuple[str, ...], folder: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in damaged:
        path = folder / "checkpoints" / f"{name}.ckpt"
        path.write_bytes(cut(path.read_bytes(), 0.7))
    resumed(folder)
    require_same(folder, whole)
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resume: ")]
    assert f"{damaged[0]}.ckpt is damaged" in said


@pytest.mark.parametrize("name", ["split.json", "metrics.csv", "results.json", "per_class.csv"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe{", b"[1, 2"])
def test_other_damaged_files_are_made_anew(name: str, content: bytes, folder: Path, whole: Path) -> None:
    (folder / name).write_bytes(content)
    resumed(folder)
    if name != "metrics.csv":
        require_same(folder, whole)
        if name == "per_class.csv":
            assert (folder / name).read_bytes() == (whole / name).read_bytes()
    elif content == b"":
        assert (folder / name).read_text().count("\n") == 2, "the rows before are lost, the run is not"


def test_other_readers_refuse_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    path, generator = folder / "checkpoints" / "ce_warmup.ckpt", random.Random(1)
    data = path.read_bytes()
    for content in [cut(data, share / 10) for share in range(10)] + [flipped(data, generator) for _ in range(20)]:
        path.write_bytes(content)
        with pytest.raises(SettingError, match=r"^model (is damaged|must be)"):
            load_model(path)
        with pytest.raises(DamagedError):
            checkpoint_file.read(path)
        with pytest.raises(SettingError, match="damaged"):
            SmDragonClassifier(num_features=64, num_classes=10, source=str(path)).check_source()
    with pytest.raises(SettingError, match=r"ce_warmup\.ckpt is damaged"):
        train_here(tmp_path / "warm", f"init_from={folder}")


def test_a_wrong_source_is_found_before_training(tmp_path: Path) -> None:
    for source in (tmp_path / "nowhere.ckpt", tmp_path):
        key = "schedule.stages.rebalance"
        arguments = (f"{key}.classifier=smdragon", f"{key}.classifier_args={{source: {source}}}", f"{key}.epochs=0")
        with pytest.raises(SettingError, match=r"stages\.rebalance\.classifier_args.* is no file|does not exist"):
            train_here(tmp_path / "run", *arguments)
        assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": {"a": torch.ones(3)}, "drolt_pl": {"classifier": "train"}}, path)
    assert checkpoint_file.read(path)["state_dict"]["a"].tolist() == [1, 1, 1]
    data = bytearray(path.read_bytes())
    data[data.index(torch.ones(3).numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError):
        checkpoint_file.read(path)
