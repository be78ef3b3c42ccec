"""`drolt data check`: what it shows, and what it finds."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from helpers.data_sets import write_jpeg, write_miniature
from PIL import Image
from typer.testing import CliRunner

from drolt_pl.cli.app import app


def check(path: Path, *options: str) -> Result:
    png = path.parent / "histogram.png"
    return CliRunner().invoke(app, ["data", "check", str(path), "--png", str(png), "--threads", "2", *options])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Classes of 120, 30 and 4 training images, and two test images of each."""
    root, number = tmp_path / "images", 0
    for part, sizes in (("train", (120, 30, 4)), ("test", (2, 2, 2))):
        for class_name, size in zip(("ant", "bee", "cow"), sizes, strict=True):
            for index in range(size):
                number += 1
                write_jpeg(root / part / class_name / f"{index}.jpg", number=number, size=(8, 6))
    return root


def test_a_sound_folder(folder: Path) -> None:
    done = check(folder)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "3 classes; images: train 154, val 0, test 6",
        "training images a class: 120 to 4, ratio 30.0",
        "  many: 1 classes, 120 images",
        "  medium: 1 classes, 30 images",
        "  few: 1 classes, 4 images",
        "",
        f"ant      120 {'#' * 40}",
        f"bee       30 {'#' * 10}",
        "cow        4 #",
        "",
        "sizes: 8x6 (160)",
        "modes: RGB (160)",
        "files that cannot be read: 0",
        "images of validation or test that are training images: 0",
        f"wrote {folder.parent / 'histogram.png'}",
    ]
    with Image.open(folder.parent / "histogram.png") as image:
        assert min(image.size) > 200


def test_an_unsound_folder(folder: Path) -> None:
    train, test = folder / "train", folder / "test"
    data = (train / "bee" / "3.jpg").read_bytes()
    (train / "bee" / "4.jpg").write_bytes(data[:-30])
    (train / "cow" / "0.jpg").write_bytes(b"")
    (test / "cow" / "0.jpg").unlink()
    (test / "cow" / "0.jpg").symlink_to("nowhere.jpg")
    (test / "ant" / "1.jpg").write_bytes(data)
    write_jpeg(train / "ant" / "0.jpg", number=9, size=(20, 10))
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(train / "ant" / "1.png")
    Image.new("CMYK", (8, 6)).save(train / "ant" / "2.jpg")
    done = check(folder)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert "sizes: 8x6 (158), 20x10 (1)" in lines  # 161 files, one of which is missing and one empty
    assert "modes: RGB (157), I;16 (1), CMYK (1)" in lines
    start = lines.index("files that cannot be read: 3")
    assert lines[start + 1].startswith("  train/bee/4.jpg: image file is truncated (")
    assert lines[start + 2] == "  train/cow/0.jpg: empty file"
    assert lines[start + 3] == "  test/cow/0.jpg: missing"
    assert lines[start + 4 : start + 6] == [
        "images of validation or test that are training images: 1",
        "  train/bee/3.jpg = test/ant/1.jpg",
    ]
    assert done.stderr.splitlines()[-1] == (
        f"error: {folder}: 3 files cannot be read, and 1 images of validation or test are training images"
    )


def test_a_manifest(folder: Path) -> None:
    rows = [f"{path.relative_to(folder)},{path.parent.name},{path.parts[-3]}" for path in sorted(folder.rglob("*.jpg"))]
    with gzip.open(folder / "labels.csv.gz", "wt") as file:
        file.write("path,label,split\n" + "\n".join(rows) + "\n")
    done = check(folder / "labels.csv.gz")
    assert done.exit_code == 0, done.output
    assert "3 classes; images: train 154, val 0, test 6" in done.stdout


def test_an_index_and_many_classes(tmp_path: Path) -> None:
    lists, images = write_miniature("places_lt", tmp_path)
    for number in range(3, 80):
        write_jpeg(images / f"more/{number}.jpg", number=number)
    with (lists / "Places_LT_train.txt").open("a") as file:
        file.write("".join(f"more/{number}.jpg {number}\n" for number in range(3, 80)))
    out = ["--lists", str(lists), "--images", str(images), "--out", str(tmp_path / "index.npz")]
    assert CliRunner().invoke(app, ["data", "prepare", "places_lt", *out]).exit_code == 0
    done = check(tmp_path / "index.npz")
    assert done.stdout.splitlines()[0] == "80 classes; images: train 92, val 6, test 6"
    assert "(30 of 80 classes)" in done.stdout
    images.rename(tmp_path / "moved")
    assert check(tmp_path / "index.npz").exit_code == 1
    assert check(tmp_path / "index.npz", "--root", str(tmp_path / "moved")).exit_code == 0


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.csv").write_text("a,b\n")
    for path, message in (
        (tmp_path / "none", "error: manifest must be a CSV file that exists, got '.*none'"),
        (tmp_path / "none.npz", "error: index must be a file that exists, got '.*none.npz'"),
        (tmp_path / "text.csv", "error: manifest must name the columns path, label"),
        (tmp_path, "error: root must hold a folder for each class: '.*' has 0 class folders"),
    ):
        done = check(path)
        assert done.exit_code == 1
        assert len(done.stderr.splitlines()) == 1
        assert re.match(message, done.stderr)
