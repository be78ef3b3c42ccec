"""Image folders: layouts, errors."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.data_tools import write_images

from drolt_pl.data import ImageFolderLT
from drolt_pl.errors import SettingError


def tree(root: Path, **parts: int) -> Path:
    """Folders `part/class` with that many images of each of two classes."""
    for part, count in parts.items():
        for class_name in ("ant", "bee"):
            write_images(root / part / class_name, count, seed=len(part))
    return root


def module_of(root: Path, **kwargs: Any) -> ImageFolderLT:
    module = ImageFolderLT(root=root, **{"image_size": 4, "imbalance_ratio": None, "val_per_class": 3, **kwargs})
    module.setup()
    return module


def sizes(module: ImageFolderLT) -> tuple[int, int, int]:
    return len(module.split.train), len(module.split.val), len(module.split.test)


def test_train_val_and_test(tmp_path: Path) -> None:
    module = module_of(tree(tmp_path, train=20, val=4, test=5))
    assert sizes(module) == (40, 8, 10)
    assert module.class_names == ["ant", "bee"]


def test_val_alone_is_the_test_set(tmp_path: Path) -> None:
    module = module_of(tree(tmp_path, train=20, val=4))
    assert sizes(module) == (34, 6, 8)
    assert module.notes == ("parts: 'train' trains, 'val' tests",)


def test_folders_can_be_named(tmp_path: Path) -> None:
    root = tree(tmp_path, training=20, holdout=4, final=5)
    module = module_of(root, train_dir="training", val_dir="holdout", test_dir="final")
    assert sizes(module) == (40, 8, 10)


def test_val_named_as_validation_leaves_the_test_to_the_split(tmp_path: Path) -> None:
    module = module_of(tree(tmp_path, train=20, val=4), val_dir="val", test_per_class=2)
    assert sizes(module) == (36, 8, 4)


def test_a_flat_folder_is_split(tmp_path: Path) -> None:
    for class_name, count in (("ant", 50), ("bee", 20)):
        write_images(tmp_path / class_name, count)
    module = module_of(tmp_path, test_per_class=5)
    assert sizes(module) == (70 - 9 - 6, 6, 9)  # a fifth of the 20 bees at most
    other = module_of(tmp_path, test_per_class=5, split_seed=1)
    assert other.split.test.tolist() != module.split.test.tolist()


def test_a_folder_can_be_cut_to_a_long_tail(tmp_path: Path) -> None:
    module = module_of(tree(tmp_path, train=40, test=5), imbalance_ratio=10, protocol="published")
    assert module.class_counts == [40, 4]
    assert len(module.split.pool) == 36
    images = sum(len(targets) for _, targets in module.pool_dataloader())
    assert images == 36


def test_nested_folders_hidden_files_and_other_files(tmp_path: Path) -> None:
    tree(tmp_path, train=5, test=1)
    write_images(tmp_path / "train" / "ant" / "more", 3)
    write_images(tmp_path / "train" / ".hidden", 3)
    (tmp_path / "train" / "ant" / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / "ant" / "notes.txt").write_text("not an image")
    module = module_of(tmp_path, protocol="published")
    assert module.class_counts == [8, 5]
    assert module.class_names == ["ant", "bee"]


def test_the_split_does_not_depend_on_where_the_root_is(tmp_path: Path) -> None:
    hashes = {
        module_of(tree(tmp_path / name, train=20, test=4), imbalance_ratio=3).split.sha256 for name in ("a", "b/c")
    }
    assert len(hashes) == 1


def test_images_keep_their_size_where_none_is_given(tmp_path: Path) -> None:
    module = module_of(tree(tmp_path, train=20, test=4), image_size=None)
    assert module.image_size == 8
    assert next(iter(module.centroid_dataloader()))[0].shape[1:] == (3, 8, 8)


def test_wrong_settings_are_refused_at_birth(tmp_path: Path) -> None:
    tree(tmp_path, train=4, val=1)
    for setting, message in (
        ({"root": None}, "root must be given: the folder of the images, as in dataset.root="),
        ({"root": tmp_path / "x"}, "root must be a folder that exists, got '.*x'; give the folder"),
        ({"image_size": 0}, "image_size must be null or 'native' or a whole number >= 1, got 0"),
        ({"train_crop": "random"}, "train_crop must be one of .*, got 'random'"),
        ({"train_crop": "random_resized"}, "image_size must be given with train_crop='random_resized'"),
        ({"test_dir": "tests"}, "test_dir must be a folder that exists, got '.*tests'; correct it"),
        ({"val_dir": "vals"}, "val_dir must be a folder that exists, got '.*vals'; correct it"),
        ({"val_dir": "val", "test_dir": "val"}, "test_dir must be another folder than val_dir, and not in it: .*'val'"),
        ({"train_dir": "trian"}, "train_dir must be a folder that exists, got '.*trian'; correct it"),
    ):
        with pytest.raises(SettingError, match=f"^{message}"):
            ImageFolderLT(**{"root": tmp_path, **setting})


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    tree(tmp_path, train=4, test=1)
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(
        ValueError, match=r"^root must hold training images of every class: '.*train/dog' holds no images; add"
    ):
        module_of(tmp_path)


def test_a_class_only_in_test_is_named(tmp_path: Path) -> None:
    tree(tmp_path, train=4, test=1)
    write_images(tmp_path / "test" / "cow", 1)
    with pytest.raises(
        ValueError, match=r"^root must hold training images of every class: 'cow' is in 'test' alone; add some"
    ):
        module_of(tmp_path)


@pytest.fixture
def another_user() -> Iterator[Path]:
    """A folder that the test, no longer root if it was, may be kept out of."""
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o755)
        yield folder
        os.seteuid(user)


def test_an_unreadable_folder_is_named(another_user: Path) -> None:
    root = tree(another_user, train=4, test=1)
    for locked, message in (
        (
            root / "train" / "bee",
            r"^root must hold folders that can be read: '.*/bee' cannot \(Permission denied\); allow it, or move it$",
        ),
        (root / "train", r"^root must hold folders that can be read: '.*train' cannot \(Permission denied\)"),
        (root, r"^root must hold folders that can be read: '.*' cannot \(Permission denied\)"),
    ):
        locked.chmod(0o100)
        try:
            if os.geteuid() == 0:
                os.seteuid(65534)  # root may read everything
            with pytest.raises(SettingError, match=message):
                module_of(root)
        finally:
            os.seteuid(os.getuid())
            locked.chmod(0o755)
    module_of(root)


def test_a_folder_without_class_folders_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "only", 4)
    with pytest.raises(
        ValueError, match=r"^root must hold a folder for each class: '.*' has 1 class folders; put the images of each"
    ):
        module_of(tmp_path)


def test_images_that_are_not_square_need_a_size(tmp_path: Path) -> None:
    from PIL import Image

    tree(tmp_path, train=4, test=1)
    for path in (tmp_path / "train").rglob("*.png"):
        Image.new("RGB", (6, 4)).save(path)
    with pytest.raises(ValueError, match=r"^image_size must be given for images that are not square \(6x4\)"):
        module_of(tmp_path, image_size=None)
