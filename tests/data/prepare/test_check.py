"""`drolt data check`: what it shows, and what it finds."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from helpers.data_sets import write_jpeg, write_miniature
from helpers.running import composed
from PIL import Image
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.groups import group_masks
from drolt_pl.run.conf import CONF
from drolt_pl.run.parts import build_data, build_schedule


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
        "parts: 'train' trains, 'test' tests",
        "a run: 128 train, 26 validate, 6 test",
        "classes without a validation image: 1 ('cow')",
        "training images a class: 100 to 4, ratio 25.0",
        "  many: 0 classes, 0 images",
        "  medium: 2 classes, 124 images",
        "  few: 1 classes, 4 images",
        "",
        f"ant      100 {'#' * 40}",
        f"bee       24 {'#' * 10}",
        "cow        4 ##",
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
    refused = "training refuses it: dataset.root must hold every image: 'test/cow/0.jpg' does not exist"
    assert any(line.startswith(refused) for line in lines)
    assert done.stderr.splitlines()[-1] == (
        f"error: {folder}: 3 files cannot be read, and training shares 1 image with validation or test"
    )


def test_a_name_that_the_font_has_not(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    for part in ("train", "test"):
        (folder / part / "ant").rename(folder / part / "日本")
    assert check(folder).exit_code == 0
    assert not [str(found.message) for found in recwarn]


def test_a_manifest(folder: Path) -> None:
    rows = [f"{path.relative_to(folder)},{path.parent.name},{path.parts[-3]}" for path in sorted(folder.rglob("*.jpg"))]
    with gzip.open(folder / "labels.csv.gz", "wt") as file:
        file.write("path,label,split\n" + "\n".join(rows) + "\n")
    done = check(folder / "labels.csv.gz")
    assert done.exit_code == 0, done.output
    assert "3 classes; images: train 154, val 0, test 6" in done.stdout


def test_the_split_is_that_of_a_run(folder: Path) -> None:
    overrides = (
        "dataset.imbalance_ratio=20",
        "dataset.split_seed=3",
        "dataset.val_per_class=2",
        "groups.many=60",
        "groups.few=10",
    )
    done = check(folder, *overrides)
    assert done.exit_code == 0, done.output
    config = composed("dataset=image_folder", f"dataset.root={folder}", *overrides)
    data = build_data(config, build_schedule(config, CONF))
    groups = group_masks(data.split.class_counts, 60, 10)
    lines = done.stdout.splitlines()
    sizes = (len(data.split.parts[part]) for part in ("train", "val", "test", "pool"))
    assert "a run: {} train, {} validate, {} test, {} cut away".format(*sizes) in lines
    for name, mask in groups.items():
        assert f"  {name}: {mask.sum()} classes, {data.split.class_counts[mask].sum()} images" in lines


def test_what_training_would_refuse_is_told_with_the_rest(tmp_path: Path) -> None:
    for class_name in ("ant", "bee"):
        for index in range(4):
            write_jpeg(tmp_path / "x" / class_name / f"{index}.jpg", number=index + 10 * (class_name == "bee"))
    (tmp_path / "x" / "ant" / "notes.heic").write_bytes(b"")
    done = check(tmp_path / "x")
    assert done.exit_code == 1
    assert "passed over: 1 file not called like an image: .heic (1)" in done.stdout
    assert "files that cannot be read: 0" in done.stdout
    assert done.stderr.splitlines()[-1] == (
        "error: dataset.test_per_class must leave some class a test image; add images, or a folder of test images"
    )


def test_a_data_set_without_files(tmp_path: Path) -> None:
    png = ["--png", str(tmp_path / "x.png")]
    done = CliRunner().invoke(app, ["data", "check", "dataset=digits_lt", "dataset.imbalance_ratio=10", *png])
    assert done.exit_code == 0, done.output
    assert "sizes: 8x8 (1,797)" in done.stdout
    assert "ratio 10" in done.stdout
    wrong = CliRunner().invoke(app, ["data", "check", "dataset=digits_lt", "dataset.n_max=-1", *png])
    assert wrong.exit_code == 1
    assert wrong.stderr == "error: dataset.n_max must be null or a whole number >= 1, got -1\n"


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
        (tmp_path / "none", "error: DATA must exist: a folder of images, a manifest, an index or stored features"),
        (tmp_path / "text.csv", "error: dataset.manifest must name the columns path, label"),
        (tmp_path, "error: dataset.root must hold a folder for each class: '.*' has 0 class folders"),
    ):
        done = check(path)
        assert done.exit_code == 1
        assert len(done.stderr.splitlines()) == 1
        assert re.match(message, done.stderr)
