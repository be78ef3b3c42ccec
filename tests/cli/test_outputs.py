"""A command replaces what it has written itself, and no other file; it says so before it works."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import write_image_tree
from helpers.models import write_model
from helpers.photos import write_photos
from helpers.report_samples import keep, made_up
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from drolt_pl.cli.app import app

FOREIGN = "must not replace a file that another program or command has written"
EMBED = ["embed", "images", "--backbone", "model.ckpt", "--threads", "1"]
# What a command writes, and the command, but for the option that names it.
COMMANDS = {
    "p.csv": ["predict", "model.ckpt", "images/test", "-o"],
    "e.json": ["evaluate", "model.ckpt", "--data", "photos", "-o"],
    "e.csv": ["evaluate", "model.ckpt", "--data", "photos", "-o"],
    "m.safetensors": ["export", "model.ckpt", "-o"],
    "m.onnx": ["export", "model.ckpt", "--format", "onnx", "-o"],
    "m.pt2": ["export", "model.ckpt", "--format", "torch-export", "-o"],
    "f.safetensors": [*EMBED, "-o"],
    "h.png": ["data", "check", "images", "--threads", "1", "--png"],
    "c.md": ["reference", "--out"],
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_model(tmp_path / "model.ckpt")
    write_image_tree(tmp_path / "images", classes=3, train=5, test=2, size=8)
    write_photos(tmp_path / "photos", each=2)
    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign.safetensors", {"format": "pt"})
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "foreign.png")
    (tmp_path / "foreign.csv").write_text("name,score\na,1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_only_its_own_file_is_replaced(name: str, place: Path) -> None:
    words = [*COMMANDS[name], name]
    accepted(words)
    accepted(words)
    for foreign in ("foreign.safetensors", "foreign.png", "foreign.csv", "model.ckpt"):
        (place / f"{name}.json").unlink(missing_ok=True)  # beside a .pt2
        shutil.copyfile(foreign, name)
        assert FOREIGN in refused(words)
        assert (place / name).read_bytes() == (place / foreign).read_bytes()
    (place / name).unlink()
    (place / name).mkdir()
    assert "must name a file, not a folder" in refused(words)
    (place / "file").touch()
    words[-1] = f"file/{name}"
    assert "no file can be made in" in refused(words)


# Files of a folder that a command writes, and the command.
FOLDERS = {
    "figures/tradeoff.csv": ["figure", "tradeoff", "kept/a.json"],
    "figures/tradeoff.png": ["figure", "tradeoff", "kept/a.json"],
    "report/sweep.md": ["sweep", "jobs", "--out", "report"],
    "report/jobs.csv": ["sweep", "jobs", "--out", "report"],
    "RESULTS.md": ["results", "--root", "kept"],
    "docs/results/index.md": ["results", "--root", "kept"],
}


@pytest.mark.parametrize("name", FOLDERS)
def test_only_its_own_files_of_a_folder_are_replaced(name: str, place: Path) -> None:
    keep(place / "kept", a=made_up())
    (place / "jobs" / "0").mkdir(parents=True)
    (place / "jobs" / "jobs.json").write_text(json.dumps({"0": ["seed=0"]}))
    (place / "jobs" / "0" / "results.json").write_text(json.dumps(made_up()))
    accepted(FOLDERS[name])
    accepted(FOLDERS[name])
    assert "--x must be a key that varies in the sweep" in refused(["sweep", "jobs", "--x", "loss.epps"])
    folder = (place / name).parent
    for path in folder.iterdir() if folder != place else [place / name]:
        path.unlink()
    shutil.copyfile("foreign.csv", name)
    before = sorted(folder.iterdir())
    assert FOREIGN in refused(FOLDERS[name])
    assert (place / name).read_text() == (place / "foreign.csv").read_text()
    assert sorted(folder.iterdir()) == before


def test_pages_of_tables_that_are_gone_are_removed(place: Path) -> None:
    keep(place / "kept" / "first", a=made_up())
    keep(place / "kept" / "second", a=made_up(), b=made_up(dataset="other_lt"))
    words = ["results", "--root", "kept"]
    accepted(words)
    pages = place / "docs" / "results"
    first = {pages / name for name in ("first.md", "first.csv", "first.svg")}
    second = {pages / f"second{rest}" for rest in (".md", "_1.csv", "_1.svg", "_2.csv", "_2.svg")}
    assert set(pages.iterdir()) == {pages / "index.md"} | first | second
    own = [pages / name for name in ("notes.md", "numbers.csv", "second.csv", "drawing.svg")]
    for path in own:  # copies of ours too
        shutil.copyfile(pages / "first.csv", path)
    shutil.copyfile("foreign.csv", pages / "first.csv")  # and where ours stood
    (place / "kept" / "second").rename(place / "kept" / "third")
    shutil.rmtree(place / "kept" / "first")
    assert "is of no table any more" in refused([*words, "--check"])
    assert (pages / "second_2.csv").exists()
    accepted(words)
    third = {pages / path.name.replace("second", "third") for path in second}
    assert set(pages.iterdir()) == {pages / "index.md", *own, pages / "first.csv", pages / "first.svg"} | third
    accepted([*words, "--check"])


def accepted(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output


def refused(words: list[str]) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1, done.output
    assert done.stderr.count("\n") == 1
    return done.stderr
