"""The commands on trained models, as typed; and without what only training needs."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.models import write_model
from helpers.photos import write_photos
from typer.testing import CliRunner, Result

from drolt_pl.cli.app import app, main
from drolt_pl.errors import settle_surroundings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_model(tmp_path / "model.ckpt")
    write_photos(tmp_path / "photos", each=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drolt(*words: str, code: int = 0, stdin: str | None = None) -> Result:
    done = CliRunner().invoke(app, list(words), input=stdin)
    assert done.exit_code == code, done.output
    return done


def test_predict(place: Path) -> None:
    (place / "photos" / "cat" / "phone.HEIC").touch()
    (place / "photos" / "@eaDir" / "cat").mkdir(parents=True)  # of a network drive: thumbnails
    shutil.copyfile(place / "photos" / "cat" / "0.jpg", place / "photos" / "@eaDir" / "cat" / "0.jpg")
    assert drolt("predict", "model.ckpt", "photos/cat/0.jpg", "-o", "one.CSV").stdout == "wrote one.CSV: 1 file\n"
    done = drolt("predict", "model.ckpt", "photos")
    assert done.stderr.startswith("passed over: 1 file not called like an image: .heic (1)\n")
    assert done.stdout == "wrote predictions.csv: 7 files\n"
    assert "1 of 7 files cannot be read:\n  images must be readable, 'photos/dog/broken.jpg'" in done.stderr
    drolt("predict", "model.ckpt", "photos", "--strict", "-o", "strict.csv", code=1)
    written = (place / "predictions.csv").read_bytes()
    assert (place / "strict.csv").read_bytes() == written
    names = [row["file"] for row in csv.DictReader(written.decode().splitlines())]
    drolt("predict", "model.ckpt", "-", "-o", "stdin.csv", stdin="\n".join(names))
    (place / "names.txt").write_text("\n".join(names))
    drolt("predict", "model.ckpt", "@names.txt", "--batch-size", "2", "-o", "list.csv")
    assert (place / "stdin.csv").read_bytes() == written
    assert [row[:2] for row in csv.reader((place / "list.csv").read_text().splitlines())] == [
        row[:2] for row in csv.reader(written.decode().splitlines())]  # fmt: skip
    done = drolt("predict", "model.ckpt", "photos/cat", "--test-prior", "uniform", "--top", "1")
    assert done.stdout == "wrote predictions.csv: 2 files, re-weighted to class frequencies: uniform\n"


def test_surroundings_in_which_nothing_would_show(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["drolt", "info", "model.ckpt"])
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setenv("MPLBACKEND", "no such backend")
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    assert "owl" in capsys.readouterr().out
    assert os.environ["MPLBACKEND"] == "agg"
    (place / "gone").mkdir()
    monkeypatch.chdir("gone")
    (place / "gone").rmdir()
    with pytest.raises(SystemExit, match="the folder that this command was typed in does not exist any more"):
        main()


def test_a_stream_that_cannot_encode_a_name_spells_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    settle_surroundings()
    print("5 ± 1", flush=True)
    assert written.getvalue() == b"5 \\xb1 1\n"


def test_sources_that_hold_nothing_are_named(place: Path) -> None:
    (place / "page.md").write_text("# A page without figures\n")
    assert "PAGE must hold commands `drolt figure ...`" in drolt("paper", "page.md", code=1).stderr
    done = drolt("export", "model.ckpt", "-o", "m.safetensors", "--check", "-", code=1, stdin="")
    assert "error: --check must name images that can be read, got '-'" in done.stderr
    assert "error: page.md is no finished run and no sweep" in drolt("report", "page.md", code=1).stderr


def test_evaluate(place: Path) -> None:
    (place / "photos" / "__MACOSX" / "cat").mkdir(parents=True)  # of a zip
    done = drolt("evaluate", "model.ckpt", "--data", "photos", "-o", "out.json", "--test-prior", "uniform")
    assert "6 images: accuracy in %" in done.stdout
    assert json.loads((place / "out.json").read_text())["images"] == 6
    for words in ([], ["--data", "photos", "dataset=digits_lt"], ["--data", "photos", "-o", "out.txt"], ["dataset=no"]):
        done = drolt("evaluate", "model.ckpt", *words, code=1)
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    assert "must show images as the model's training did" in drolt(
        "evaluate", "model.ckpt", "dataset=digits_lt", code=1).stderr.replace("\n", " ")  # fmt: skip


def test_a_data_set_is_shown_as_the_model_saw_it(place: Path) -> None:
    """Size, mean and std of a folder are the network's, and here the model's; the same numbers as by --data."""
    (place / "photos" / "dog" / "broken.jpg").unlink()
    (place / "both").mkdir()
    (place / "photos").rename(place / "both" / "train")
    write_photos(place / "both" / "test", each=3)
    (place / "both" / "test" / "dog" / "broken.jpg").unlink()
    words = ["dataset=image_folder", "dataset.root=both", "dataset.allow_duplicates=true", "protocol=published"]
    drolt("evaluate", "model.ckpt", *words, "-o", "set.json")
    drolt("evaluate", "model.ckpt", "--data", "both/test", "-o", "folder.json")
    of_set, of_folder = (json.loads((place / name).read_text()) for name in ("set.json", "folder.json"))
    assert (of_set["images"], of_set["confusion"]) == (9, of_folder["confusion"])
    drolt("evaluate", "model.ckpt", *words, "dataset.image_size=8", code=1)


def test_export_and_info(place: Path) -> None:
    done = drolt("export", "model.ckpt", "-o", "model.safetensors", "--check", "photos")
    assert done.stdout == (
        "wrote model.safetensors: logits within 0.0e+00 of the model's on 6 images of photos\n")  # fmt: skip
    for name in ("model.ckpt", "model.safetensors"):
        shown = drolt("info", name).stdout
        for fact in (
            "SmallConvNet",
            "3, 37 training images",
            "16 x 16 RGB",
            "the class frequencies of training",
            "owl",
        ):
            assert fact in shown


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "model.ckpt", "photos", "-o", "photos/cat/0.jpg"],
        ["predict", "model.ckpt", "photos", "-o", "model.ckpt"],
        ["predict", "model.ckpt", "photos", "-o", "labels.csv"],
        ["predict", "model.ckpt", "photos", "-o", "pipe.csv"],
        ["evaluate", "model.ckpt", "--data", "photos", "-o", "labels.csv"],
        ["export", "model.ckpt", "-o", "model.ckpt"],
    ],
    ids=" ".join,
)
def test_no_command_replaces_what_is_not_its_own(place: Path, words: list[str]) -> None:
    (place / "labels.csv").write_text("path,label\n")
    os.mkfifo(place / "pipe.csv")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    done = drolt(*words, code=1)
    assert done.stderr.count("error: ") == 1
    assert (place / "pipe.csv").is_fifo()
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "nowhere", "photos"],
        ["predict", "model.ckpt", "nowhere"],
        ["predict", "model.ckpt", "photos", "--device", "abacus"],
        ["predict", "model.ckpt", "photos", "-o", "photos"],
        ["predict", "model.ckpt", "photos", "-o", "predictions.xlsx"],
        ["reference", "--out", "page.html"],
        ["report", "photos", "-o", "page.pdf"],
        ["data", "check", "photos", "--png", "histogram.jpg"],
        ["predict", "model.ckpt", "photos", "--test-prior", "nowhere.csv"],
        ["predict", "model.ckpt", "photos", "--model-prior", "even", "--test-prior", "train"],
        ["predict", "model.ckpt", "photos", "--stage", "joint"],
        ["evaluate", "model.ckpt", "--data", "nowhere"],
        ["evaluate", "model.ckpt", "--data", "photos", "-o", "found.txt"],
        ["export", "model.ckpt", "-o", "m", "--format", "tflite"],
        ["info", "photos"],
        ["predict", "model.ckpt", "photos", "--model-prior", "uniform"],
        ["evaluate", "model.ckpt", "--data", "photos", "--model-prior", "uniform"],
        ["evaluate", "model.ckpt", "--data", "photos", "--coverage", "0.5"],
        ["data", "check", "photos", "--root", "."],
        ["data", "check", "photos", "--allow-outside"],
        ["data", "check", ""],
        ["compare", "", "photos"],
        ["keep", "photos", "--as", "digits/results"],
        ["embed", "photos", "-o", "f.safetensors", "--backbone", "model.ckpt", "dataset.foo=1"],
        ["embed", "photos", "-o", "f.safetensors", "--backbone", "model.ckpt", "dataset.image_size=8"],
        ["embed", "photos", "-o", "f.safetensors", "--backbone", "model.ckpt", "dataset.image_size=abc"],
        ["embed", "photos", "-o", "f.safetensors", "--backbone", "model.ckpt", "--weights", "true"],
    ],
    ids=" ".join,
)
def test_what_a_user_gets_wrong_is_one_sentence(place: Path, words: list[str]) -> None:
    done = drolt(*words, code=1)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_model_works_where_lightning_and_hydra_are_not_installed(place: Path) -> None:
    code = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pytorch_lightning", "lightning", "lightning_fabric", "hydra", "omegaconf", "wandb"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
from drolt_pl import Model
from drolt_pl.cli.app import main
assert len(Model.load("model.ckpt").predict(["photos/cat/0.jpg"])) == 1
for words in (["predict", "model.ckpt", "photos"], ["evaluate", "model.ckpt", "--data", "photos"],
              ["export", "model.ckpt", "-o", "model.safetensors"], ["info", "model.safetensors"]):
    sys.argv = ["drolt", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (place / "predictions.csv").exists()


def test_threads_of_torch_sleep_beside_decoding_ones(place: Path) -> None:
    code = (
        "import os, sys\n"
        "from drolt_pl.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(os.environ['OMP_WAIT_POLICY'])\n"
    )
    for own, told in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | own
        words = [sys.executable, "-c", code, "predict", "model.ckpt", "photos"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split()[-1] == told
