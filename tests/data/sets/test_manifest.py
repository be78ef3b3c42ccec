"""Images named by a CSV file."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from helpers.data_tools import write_images

from drolt_pl.data import ManifestLT
from drolt_pl.errors import SettingError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "pictures", 40)
    return tmp_path


def lines(counts: dict[str, int], split: str | None = None, start: int = 0) -> list[str]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    ending = "" if split is None else f",{split}"
    return [f"pictures/{start + number:03d}.png,{label}{ending}" for number, label in enumerate(labels)]


def module_of(root: Path, text: list[str], header: str = "path,label", **kwargs: Any) -> ManifestLT:
    path = root / "labels.csv"
    path.write_text("\n".join([header, *text]) + "\n")
    settings = {"image_size": 4, "imbalance_ratio": None, "protocol": "published", "test_per_class": 2}
    module = ManifestLT(manifest=path, **{**settings, **kwargs})
    module.setup()
    return module


def test_a_manifest_without_splits_gives_test_images(root: Path) -> None:
    module = module_of(root, lines({"cat": 20, "ant": 10}))
    assert module.class_names == ["ant", "cat"]
    assert module.class_counts == [8, 18]
    assert len(module.split.test) == 4
    assert sum(len(targets) for _, targets in module.train_dataloader()) == 26


def test_a_manifest_with_splits(root: Path) -> None:
    text = [
        *lines({"cat": 20, "ant": 6}, "train"),
        *lines({"ant": 2}, "val", start=26),
        *lines({"ant": 1, "cat": 3}, "test", start=30),
    ]
    module = module_of(root, text, "path,label,split", protocol="holdout")
    assert (module.class_counts, len(module.split.val), len(module.split.test)) == ([6, 20], 2, 4)
    reordered = [",".join(line.split(",")[::-1]) + ",note" for line in text]
    assert module_of(root, reordered, "split,label,path,remark").split.test.tolist() == module.split.test.tolist()


def test_a_manifest_can_be_cut_to_a_profile(root: Path) -> None:
    module = module_of(root, lines({"a": 15, "b": 15}), imbalance_ratio=4, test_per_class=3)
    assert module.class_counts == [12, 3]
    assert len(module.split.pool) == 9


def test_numbers_are_classes_in_the_order_of_numbers(root: Path) -> None:
    assert module_of(root, lines({"10": 6, "9": 6, "2": 6})).class_names == ["2", "9", "10"]
    assert module_of(root, lines({"10": 6, "9": 6, "x": 6})).class_names == ["10", "9", "x"]


def test_gzip_quotes_and_byte_order_marks_are_read(root: Path) -> None:
    (root / "pictures" / "000.png").rename(root / "pictures" / "a, b.png")
    text = "\ufeffpath,label\n" + "\n".join(['"pictures/a, b.png",x', *lines({"x": 6, "y": 6}, start=1)]) + "\n"
    with gzip.open(root / "labels.csv.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    module = ManifestLT(manifest=root / "labels.csv.gz", image_size=4, imbalance_ratio=None)
    module.setup()
    assert sum(len(targets) for _, targets in module.centroid_dataloader()) == len(module.split.train)
    assert b"pictures/a, b.png" in module.store.catalogue.names.tolist()


def test_images_may_lie_elsewhere(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("labels")
    (elsewhere / "labels.csv").write_text("\n".join(["path,label", *lines({"x": 6, "y": 6})]))
    module = ManifestLT(manifest=elsewhere / "labels.csv", root=root, image_size=4, imbalance_ratio=None)
    module.setup()
    assert sum(len(targets) for _, targets in module.centroid_dataloader()) == len(module.split.train)


@pytest.mark.parametrize(
    ("header", "text", "message"),
    [
        (
            "path,label",
            ["pictures/000.png,a", "pictures/001.png"],
            "must have a value for each of the columns path,label in every line: line 3 of '.*labels.csv' is short",
        ),
        (
            "path,label",
            ["pictures/000.png,a,b"],
            "must have a value for each of the columns .*: line 2 of '.*' has more; correct it",
        ),
        (
            "path,label",
            ["pictures/000.png,"],
            "must have a value for each of the columns .*: line 2 of '.*' is short of it; correct it",
        ),
        (
            "path,label,split",
            ["pictures/000.png,a,tset"],
            r"must have one of \('train.*\) as split: line 2 of '.*' has 'tset'",
        ),
        (
            "path,label",
            ["a.png,x", "b.png,y", "a.png,y"],
            "must name each image once: lines 2 and 4 name 'a.png'; keep one",
        ),
        ("path,label", [], "must name images: '.*' names none; add a line for each"),
        (
            "pictures,labels",
            [],
            r"must name the columns path, label .* in its first line, once each, got \['pictures', 'labels'",
        ),
        ("path;label", ["a.png;x"], r"must name the columns .*, got \['path;label'.*\]; commas separate them"),
        ("path,label,label", ["a.png,x,y"], r"must name the columns .*, once each, got \['path', 'label', 'label'\]"),
        (
            "path,label",
            ['"a.png,x'],
            r"must be CSV text in UTF-8: '.*' cannot be read as such \(unexpected end of data\)",
        ),
        (
            "path,label,split",
            ["a.png,x,train", "b.png,y,train", "c.png,z,test"],
            "must give every label a training line: 'z' is in test alone; add some, or drop it",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(root: Path, header: str, text: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=f"^manifest {message}[^\n]*$"):
        module_of(root, text, header)


def test_files_that_are_no_text_are_one_sentence(root: Path) -> None:
    for name, content in (
        ("labels.csv", b"path,label\n\xff\xfe,a\n"),
        ("labels.csv.gz", b"path,label\n"),
        ("labels.csv.gz", gzip.compress(b"path,label\n" * 99)[:-20]),
    ):
        (root / name).write_bytes(content)
        with pytest.raises(
            SettingError, match=r"^manifest must be CSV text in UTF-8: '.*' cannot be read .*\(.*\); correct or"
        ):
            ManifestLT(manifest=root / name, image_size=4).setup()


def test_wrong_settings_are_refused_at_birth(root: Path) -> None:
    with pytest.raises(SettingError, match=r"^manifest must be given: a CSV file"):
        ManifestLT(manifest=None)
    with pytest.raises(SettingError, match=r"^manifest must be a CSV file that exists, got 'none.csv'; give its path"):
        ManifestLT(manifest="none.csv")
