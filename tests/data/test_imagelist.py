"""List files and iNaturalist's annotation files, on small trees."""

import json
from pathlib import Path
from typing import Any

import pytest
from data_tools import write_images

from drolt_pl.data import ImageListLT, INaturalist2018


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten images a class, in folders as ImageNet's; three classes."""
    for class_id in range(3):
        write_images(tmp_path / "train" / f"n0{class_id}", 10, seed=class_id, suffix=".JPEG")
    write_images(tmp_path / "val", 6, seed=9, suffix=".JPEG")
    return tmp_path


def write_list(path: Path, entries: list[tuple[str, int]]) -> None:
    path.write_text("".join(f"{name} {label}\n" for name, label in entries))


def write_lists(root: Path, train_sizes: tuple[int, ...] = (8, 5, 2)) -> dict[str, str]:
    training = [(f"train/n0{c}/{i:03d}.JPEG", c) for c, size in enumerate(train_sizes) for i in range(size)]
    write_list(root / "train.txt", training)
    write_list(root / "val.txt", [(f"train/n0{c}/{i:03d}.JPEG", c) for c in range(3) for i in (8, 9)])
    write_list(root / "test.txt", [(f"val/{i:03d}.JPEG", i % 3) for i in range(6)])
    return {"train_list": "train.txt", "val_list": "val.txt", "test_list": "test.txt"}


def module_of(root: Path, **kwargs: Any) -> ImageListLT:
    settings = {"image_size": 8, "train_crop": "random_resized", "imbalance_ratio": None, "batch_size": 4}
    return ImageListLT(root=root, **{**settings, **kwargs})


def test_lists_with_official_validation(root: Path) -> None:
    module = module_of(root, **write_lists(root))
    module.setup()
    assert module.class_counts == [8, 5, 2]
    assert (len(module.split.val), len(module.split.test), len(module.split.pool)) == (6, 6, 0)
    assert module.class_names == ["0", "1", "2"]
    assert type(module.train_dataloader().batches).__name__ == "WorkerBatches"
    for loader, count in ((module.train_dataloader(), 15), (module.val_dataloader(), 6), (module.test_dataloader(), 6)):
        assert sum(len(targets) for images, targets in loader if images.shape[1:] == (3, 8, 8)) == count


def test_lists_anywhere_with_spaces_and_empty_lines(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    write_lists(root)
    (root / "train" / "n00" / "000.JPEG").rename(root / "train" / "n00" / "a b.JPEG")
    elsewhere = tmp_path_factory.mktemp("lists") / "train.txt"
    text = (root / "train.txt").read_text().replace("n00/000.JPEG", "n00/a b.JPEG").replace("\n", "\n\n")
    elsewhere.write_text(text)
    module = module_of(root, train_list=str(elsewhere), test_list="test.txt")
    module.setup()
    assert sum(module.class_counts) == 15 - 2  # the natural tail's validation: a fifth of 8 and of 5
    assert sum(len(targets) for _, targets in module.centroid_dataloader()) == 13


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "train/n00/000.JPEG",
            r"train_list: line 2 of '.*train.txt' is not '<path> <label>', got 'train/n00/000.JPEG'",
        ),
        ("train/n00/000.JPEG -1", "train_list: line 2 of .* is not '<path> <label>'"),
        ("train/n00/000.JPEG cat", "train_list: line 2 of .* is not '<path> <label>'"),
        ("train/n00/000.JPEG 3", "root: class '2' has no training images"),
    ],
)
def test_bad_lines_are_named(root: Path, line: str, message: str) -> None:
    lists = write_lists(root, (4, 4))
    first, rest = (root / "train.txt").read_text().split("\n", 1)
    (root / "train.txt").write_text(f"{first}\n{line}\n{rest}")
    with pytest.raises(ValueError, match=f"^{message}"):
        module_of(root, **lists).setup()


def test_labels_without_training_images_and_empty_lists_are_named(root: Path) -> None:
    lists = write_lists(root, (4, 4))
    with pytest.raises(ValueError, match=r"^val_list has label 2, which no training image has; correct the list"):
        module_of(root, **lists).setup()
    (root / "train.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"^train_list names no image; give the list of the train images"):
        module_of(root, **lists).setup()


def test_missing_files_are_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^train_list: file '.*train.txt' does not exist; give its path"):
        module_of(root, train_list="train.txt")
    lists = write_lists(root)
    (root / "train" / "n00" / "003.JPEG").unlink()
    module = module_of(root, **lists)
    module.setup()
    with pytest.raises(
        ValueError, match=r"^root: image '.*n00/003.JPEG' does not exist; correct the root or the list$"
    ):
        list(module.train_dataloader())


def annotations(entries: list[tuple[int, str, int]], categories: list[int]) -> str:
    return json.dumps(
        {
            "images": [{"id": image, "file_name": name} for image, name, _ in entries],
            "annotations": [
                {"id": image, "image_id": image, "category_id": category} for image, _, category in entries
            ],
            "categories": [{"id": category, "name": f"species {category}"} for category in categories],
        }
    )


def inaturalist(root: Path, **kwargs: Any) -> INaturalist2018:
    settings = {"image_size": 8, "train_crop": "random_resized", "imbalance_ratio": None, "protocol": "published"}
    return INaturalist2018(root=root, **{**settings, **kwargs})


def test_inaturalist(root: Path) -> None:
    training = [(100 + 10 * c + i, f"train/n0{c}/{i:03d}.JPEG", 7 - c) for c in range(3) for i in range(3 + c)]
    (root / "train2018.json").write_text(annotations(training[::-1], [7, 5, 6]))
    (root / "val2018.json").write_text(annotations([(i, f"val/{i:03d}.JPEG", 5 + i % 3) for i in range(6)], [5, 6, 7]))
    module = inaturalist(root)
    module.setup()
    assert module.class_names == ["species 5", "species 6", "species 7"]
    assert module.class_counts == [5, 4, 3]
    assert len(module.split.test) == 6
    shuffled = inaturalist(root)
    (root / "train2018.json").write_text(annotations(training, [5, 6, 7]))
    shuffled.setup()
    assert shuffled.split.sha256 == module.split.sha256


def test_damaged_annotation_files_are_named(root: Path) -> None:
    (root / "val2018.json").write_text(annotations([(0, "val/000.JPEG", 5)], [5]))
    for text, message in (
        ("{", r"train_list: file '.*train2018.json' is not JSON \(.*\); fetch it again"),
        ("{}", "train_list: file '.*' lacks .*'images', 'annotations', 'categories'.*; give an iNaturalist"),
        (annotations([(0, "a.jpg", 9)], [5]), "train_list: image 'a.jpg' has no known category; fetch the file again"),
    ):
        (root / "train2018.json").write_text(text)
        with pytest.raises(ValueError, match=f"^{message}"):
            inaturalist(root).setup()
