"""`on_corrupt`: an unreadable file stops the run at once, or is passed over the same way by every loader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.data_tools import at_epoch, pixel_hash, skipped_on_rank, write_images
from helpers.ranks import on_ranks
from PIL import Image

from drolt_pl.data import CropFlip, ImageFolderLT, LongTailDataModule
from drolt_pl.data.images.readable import fetch_readable, stand_ins
from drolt_pl.data.images.sources import FileSource
from drolt_pl.data.plan import Sampling

EVERY_LOADER = pytest.mark.parametrize(("loader", "num_workers"), [("memory", 0), ("workers", 0), ("workers", 2)])
BAD = ["train/ant/003.png", "train/bee/000.png", "test/ant/001.png"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes, three damaged files; the first pixel of each image is its number."""
    for class_name, count in (("ant", 12), ("bee", 6)):
        write_images(tmp_path / "train" / class_name, count)
        write_images(tmp_path / "test" / class_name, 3, seed=1)
    (tmp_path / BAD[0]).write_bytes(b"damaged")
    (tmp_path / BAD[1]).write_bytes(b"")
    (tmp_path / BAD[2]).unlink()
    (tmp_path / BAD[2]).symlink_to("nowhere.png")
    return tmp_path


def folder(root: Path, **kwargs: Any) -> ImageFolderLT:
    settings = {"mean": (0, 0, 0), "std": (1, 1, 1), "imbalance_ratio": None, "protocol": "published", "batch_size": 4}
    return ImageFolderLT(root=root, **{**settings, "on_corrupt": "skip", "image_size": 8, **kwargs})


def numbers(loader: Any) -> list[tuple[int, int]]:
    """Class and number of every image, by its first pixel."""
    return [
        (int(target), round(float(image[0, 0, 0]) * 255))
        for images, targets in loader
        for image, target in zip(images, targets, strict=True)
    ]


@EVERY_LOADER
def test_evaluation_does_without_them(tree: Path, loader: str, num_workers: int) -> None:
    module = at_epoch(folder(tree, loader=loader, num_workers=num_workers, eval_batch_size=1), 0)
    assert numbers(module.test_dataloader()) == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
    whole = [(0, n) for n in range(12) if n != 3] + [(1, n) for n in range(1, 6)]
    assert numbers(module.centroid_dataloader()) == whole
    ranks = [
        numbers(at_epoch(folder(tree, loader=loader, num_workers=num_workers), 0, rank, 2).centroid_dataloader())
        for rank in range(2)
    ]
    assert sorted(ranks[0] + ranks[1]) == whole
    assert module.skipped_files() == sorted(BAD)


@EVERY_LOADER
def test_the_next_image_of_its_class_takes_its_place_in_training(tree: Path, loader: str, num_workers: int) -> None:
    module = at_epoch(folder(tree, loader=loader, num_workers=num_workers), 0)
    assert module.skipped_files() == []
    drawn = numbers(module.train_dataloader())
    assert sorted(drawn) == sorted(
        [(0, n) for n in range(12) if n != 3] + [(0, 4)] + [(1, n) for n in range(1, 6)] + [(1, 1)]
    )
    assert set(module.skipped_files()) >= set(BAD[:2])


def test_every_loader_trains_on_the_same_images(tree: Path) -> None:
    hashes = set()
    for loader, num_workers in (("memory", 0), ("workers", 0), ("workers", 2)):
        plan, augment = (lambda epoch: Sampling("class_aware", 2, 40)), CropFlip(padding=1)
        module = folder(tree, loader=loader, num_workers=num_workers, augment=augment, plan=plan)
        hashes.add(pixel_hash(at_epoch(module, 3).train_dataloader()))
    assert len(hashes) == 1


@EVERY_LOADER
def test_a_class_with_no_readable_image_stops_the_run(tree: Path, loader: str, num_workers: int) -> None:
    for path in (tree / "train" / "bee").iterdir():
        path.write_bytes(b"damaged")
    module = at_epoch(folder(tree, loader=loader, num_workers=num_workers), 0)
    with pytest.raises(
        ValueError, match=r"^root must hold a readable training image of every class: class 1 has none; "
    ):
        numbers(module.train_dataloader())


@EVERY_LOADER
def test_error_names_the_file_at_once(tree: Path, loader: str, num_workers: int) -> None:
    def module() -> LongTailDataModule:
        return at_epoch(folder(tree, loader=loader, num_workers=num_workers, on_corrupt="error"), 0)

    with pytest.raises(
        ValueError, match=r"^root must hold every image: 'test/ant/001.png' does not exist; correct the"
    ):
        module()  # before the training, though it is a test image
    (tree / BAD[2]).unlink()
    (tree / BAD[2]).write_bytes(b"damaged, too")
    with pytest.raises(
        ValueError,
        match=r"^root must hold readable images: '[^\n]*(ant/003|bee/000).png' cannot be read \([^\n]*\); repair",
    ):
        numbers(module().train_dataloader())
    with pytest.raises(ValueError, match=r"^root must hold readable images: '[^\n]*ant/001.png' cannot be read"):
        numbers(module().test_dataloader())


def test_random_crops_of_stand_ins_are_the_same_over_workers(tree: Path) -> None:
    def stream(num_workers: int) -> str:
        module = folder(tree, train_crop="random_resized", num_workers=num_workers)
        return pixel_hash(at_epoch(module, 1).train_dataloader())

    assert stream(0) == stream(2)


@pytest.mark.slow
def test_every_rank_learns_what_all_skipped(tree: Path) -> None:
    (tree / BAD[0]).write_bytes((tree / "train" / "ant" / "004.png").read_bytes())
    (tree / "train" / "ant" / "001.png").write_bytes(b"")  # the other rank's
    skipped = on_ranks(2, skipped_on_rank, tree)
    assert skipped == [["train/ant/001.png", "train/bee/000.png"]] * 2


def test_an_image_of_another_size_is_not_passed_over(tree: Path) -> None:
    Image.new("RGB", (5, 5)).save(tree / "train" / "ant" / "005.png")
    module = at_epoch(folder(tree, image_size=None, loader="workers"), 0)
    with pytest.raises(ValueError, match=r"^image_size must be given for images of several sizes"):
        numbers(module.train_dataloader())


def test_unreadable_images_are_found_among_many(tree: Path) -> None:
    names = np.array([f"train/ant/{number:03d}.png" for number in [0, 3, 1, 3, 3, 2, 3]], dtype=np.bytes_)
    source = FileSource(tree, names, image_size=8)
    images, readable = fetch_readable(source, np.arange(7), threads=2)
    assert readable.tolist() == [True, False, True, False, False, True, False]
    assert images[:, 0, 0, 0].tolist() == [0, 0, 1, 0, 0, 2, 0]
    assert fetch_readable(source, np.arange(0))[0].shape == (0, 3, 8, 8)


def test_stand_ins_are_the_rest_of_the_class_in_turn() -> None:
    targets = np.array([0, 1, 0, 1, 0, 2])
    assert stand_ins(2, targets) == [4, 0]
    assert stand_ins(5, targets) == []


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^on_corrupt must be one of .*, got 'ignore'"):
        folder(Path(), on_corrupt="ignore")
