"""Parts of a split that share images: one file is refused by whatever path, equal contents unless they are allowed."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.data_tools import NumberedImages, write_images
from hypothesis import given
from hypothesis import strategies as st

from drolt_pl.data import CIFAR10LT, Catalogue, DigitsLT, ImageFolderLT, ManifestLT
from drolt_pl.data.images.sources import ArraySource
from drolt_pl.data.overlap import Parts
from drolt_pl.data.prepare.index import ImageIndex
from drolt_pl.data.sets.indexed import ImageNetLT
from drolt_pl.errors import SettingError

SETTINGS: dict[str, Any] = {"image_size": 8, "imbalance_ratio": None, "protocol": "published"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes in train and test, no two images alike."""
    for part, seed in (("train", 0), ("test", 10)):
        for number, name in enumerate(("ant", "bee")):
            write_images(tmp_path / "x" / part / name, 8, seed=seed + number)
    return tmp_path / "x"


def folder(root: Path, **kwargs: Any) -> ImageFolderLT:
    module = ImageFolderLT(root=root, **SETTINGS | kwargs)
    module.setup()
    return module


@pytest.mark.parametrize(
    ("dirs", "key"),
    [
        ({"test_dir": "train"}, "test_dir"),
        ({"val_dir": "train"}, "val_dir"),
        ({"train_dir": "test", "test_dir": "test"}, "test_dir"),
        ({"train_dir": "test"}, "test_dir"),
        ({"val_dir": "../x/test", "test_dir": "test"}, "test_dir"),
        ({"test_dir": "./train"}, "test_dir"),
        ({"train_dir": ".", "test_dir": "test"}, "test_dir"),
        ({"test_dir": "train/ant"}, "test_dir"),
    ],
)
def test_folders_of_parts_are_apart(root: Path, dirs: dict[str, str], key: str) -> None:
    with pytest.raises(SettingError, match=rf"^{key} must be another folder than \w+_dir, and not in it"):
        folder(root, **dirs)


def test_sound_folders_pass(root: Path) -> None:
    assert folder(root).duplicates is None
    assert folder(root, loader="workers").duplicates is None


def a_link_to_a_folder(root: Path) -> None:
    (root / "val").symlink_to(root / "train")


def a_link_to_a_class(root: Path) -> None:
    shutil.rmtree(root / "test" / "ant")
    (root / "test" / "ant").symlink_to(root / "train" / "bee")


def a_link_to_a_file(root: Path) -> None:
    (root / "test" / "ant" / "link.png").symlink_to("../../train/ant/003.png")


def a_hard_link(root: Path) -> None:
    os.link(root / "train" / "ant" / "003.png", root / "test" / "bee" / "hard.png")


def a_link_within_a_flat_folder(root: Path) -> None:
    shutil.rmtree(root / "test")
    for name in ("ant", "bee"):
        (root / "train" / name).rename(root / name)
        write_images(root / name, 40, seed=100 + len(name) * ord(name[0]))
        for path in sorted((root / name).glob("*.png")):
            (root / name / f"l{path.name}").symlink_to(path)
    (root / "train").rmdir()


@pytest.mark.parametrize("loader", ["memory", "workers"])
@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize(
    "share", [a_link_to_a_folder, a_link_to_a_class, a_link_to_a_file, a_hard_link, a_link_within_a_flat_folder]
)
def test_one_file_in_two_parts_is_refused(root: Path, share: Any, loader: str, allowed: bool) -> None:
    share(root)
    with pytest.raises(SettingError, match=r"'.*\.png' \(train\) and '.*\.png' \(\w+\) are one file|must be another"):
        folder(root, loader=loader, allow_duplicates=allowed)


def test_a_copy_is_refused_or_counted(root: Path) -> None:
    shutil.copy(root / "train" / "ant" / "003.png", root / "test" / "bee" / "copy.png")
    told = r"1 image equals one of another part, such as 'train/ant/003.png' \(train\) and 'test/bee/copy.png' \(test\)"
    with pytest.raises(
        SettingError, match=rf"^allow_duplicates must be true where .*{told}; better remove the copies$"
    ):
        folder(root)
    allowed = folder(root, allow_duplicates=True)
    assert allowed.duplicates is not None
    assert allowed.duplicates.startswith("1 image equals one of another part")
    # Where nothing holds the images, their files are not read for it.
    assert folder(root, loader="workers").duplicates is None


def test_what_the_split_parts_of_one_part_is_counted(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        write_images(tmp_path / name, 40)  # each image of a class is one of the other, too
    module = folder(tmp_path)
    assert module.duplicates is not None
    assert "images equal one of another part" in module.duplicates


def test_a_manifest(root: Path) -> None:
    lines = [
        f"{part}/{c}/{n:03d}.png,{c},{part}" for part in ("train", "test") for c in ("ant", "bee") for n in range(8)
    ]

    def manifest(*more: str) -> ManifestLT:
        (root / "m.csv").write_text("\n".join(["path,label,split", *lines, *more]))
        module = ManifestLT(manifest=root / "m.csv", **SETTINGS)
        module.setup()
        return module

    assert manifest().duplicates is None
    for path in (
        "./train/ant/003.png",
        "train//ant/003.png",
        "test/../train/ant/003.png",
        str(root / "train/ant/003.png"),
    ):
        with pytest.raises(SettingError, match=r"^manifest must name each image once: lines 5 and 34 name"):
            manifest(f"{path},ant,test")
    (root / "other").symlink_to(root / "train")
    with pytest.raises(
        SettingError, match=r"'train/ant/003.png' \(train\) and 'other/ant/003.png' \(test\) are one file"
    ):
        manifest("other/ant/003.png,ant,test")


@pytest.mark.parametrize("known", [True, False])
def test_an_index(root: Path, known: bool) -> None:
    """The published lists are taken as they are: what they share is counted, by the hashes in the index."""
    names = [f"{part}/{c}/{n:03d}.png" for part in ("train", "test") for c in ("ant", "bee") for n in range(8)]
    index = ImageIndex(
        names=np.array(names, np.bytes_),
        targets=np.tile(np.repeat([0, 1], 8), 2),
        official=np.repeat(np.array([0, 2], np.uint8), 16),
        class_names=np.array(["ant", "bee"]),
        name="imagenet_lt",
        root=str(root),
        sources={},
        digests=np.array([*range(16), 3, *range(17, 32)], np.uint64) if known else None,
    )
    index.save(root / "index.npz")
    module = ImageNetLT(index=root / "index.npz", loader="workers", **SETTINGS)
    module.setup()
    assert (module.duplicates is not None) == known
    if known:
        module = ImageNetLT(index=root / "index.npz", allow_duplicates=False, **SETTINGS)
        with pytest.raises(SettingError, match=r"'train/ant/003.png' \(train\) and 'test/ant/000.png' \(test\)"):
            module.setup()


def test_the_digits_have_no_duplicates_and_cifars_are_allowed() -> None:
    module = DigitsLT(mean=[0.0], std=[1.0])
    module.setup()
    assert module.duplicates is None
    assert not module.allow_duplicates
    with pytest.raises(SettingError, match="cifar-10"):
        CIFAR10LT(root="nowhere")


def test_without_a_pool_and_with_val_as_test() -> None:
    for protocol in ("holdout", "published", "test_selected"):
        module = NumberedImages(protocol=protocol, imbalance_ratio=5, val_per_class=5, test_pool=False)
        module.setup()
        assert module.duplicates is None


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir()])
def test_what_is_no_file_is_refused_before_training(root: Path, make: Any) -> None:
    make(root / "train" / "ant" / "x.jpg")
    with pytest.raises(SettingError, match=r"'train/ant/x.jpg' cannot be read \(it is a (pipe|folder)\)"):
        folder(root, loader="workers")
    skipping = folder(root, on_corrupt="skip", loader="memory")
    assert sum(len(targets) for _, targets in skipping.centroid_dataloader()) == 16 - len(skipping.split.val)
    assert skipping.skipped_files() in (["train/ant/x.jpg"], [])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.lists(st.integers(0, 2), min_size=40, max_size=40))
def test_pairs_against_a_loop(values: list[int], parts: list[int]) -> None:
    images = np.array(values, np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)
    part_of = np.array(parts[: len(values)])
    catalogue = Catalogue(
        names=np.array([str(n) for n in range(len(values))], np.bytes_),
        targets=np.zeros(len(values), np.int64),
        official=np.full(len(values), "train"),
        class_names=["a"],
        source=ArraySource(images),
    )
    indices = {str(part): np.flatnonzero(part_of == part) for part in range(3)}
    samples = Parts(catalogue, indices)
    found = {int(samples.indices[place]) for place in samples.shared_contents(reads=True).again}
    earlier = [{values[i] for i in np.flatnonzero(part_of < part)} for part in range(3)]
    assert found == {i for i, value in enumerate(values) if value in earlier[part_of[i]]}
