"""Images in one folder per class."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from drolt_pl.checked import checked
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.sources import FileSource
from drolt_pl.data.images.suffixes import IMAGE_SUFFIXES
from drolt_pl.data.images.view import TrainCrop
from drolt_pl.data.settings import DataSettings
from drolt_pl.data.sources import Catalogue
from drolt_pl.errors import SettingError, require
from drolt_pl.ranges import AnyPath, PathText, Pixels

IMAGENET: DataSettings = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


ImageSize = Pixels | Literal["native"] | None


class FileSettings(DataSettings, total=False):
    """The keyword arguments of `ImageFileDataModule` except its root."""

    image_size: ImageSize
    train_crop: TrainCrop


@checked
class ImageFileDataModule(LongTailDataModule):
    """The base of data sets of image files.

    Args:
        root: Folder that the image paths are relative to.
        image_size: Pixels per side that images are scaled to; None and `native` take them as they are, all of one
            size. A run's configuration leaves null to the network instead.
        train_crop: With `center`, training sees images as evaluation does. With `random_resized` it sees a random
            part of each, as large images of varying size need. See `FileSource`.
        settings: Those of `LongTailDataModule`; mean and std are ImageNet's where they are left out.
    """

    def __init__(
        self,
        *,
        root: AnyPath | None,
        image_size: ImageSize = None,
        train_crop: TrainCrop = "center",
        **settings: Unpack[DataSettings],
    ) -> None:
        super().__init__(**(IMAGENET | settings))
        if root is None:
            raise SettingError("root", "must be given: the folder of the images, as in dataset.root=/data/images")
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise SettingError(
                "root", "must be a folder that exists", str(root), remedy="give the folder of the images"
            )
        scan(self.root)  # a folder that may not be read is refused now
        self.size, self.train_crop = None if image_size == "native" else image_size, train_crop
        if train_crop == "random_resized" and self.size is None:
            raise SettingError("image_size", "must be given with train_crop='random_resized'")

    def _source(self, names: NDArray[np.bytes_]) -> FileSource:
        return FileSource(self.root, names, image_size=self.size, train_crop=self.train_crop)


@checked
class ImageFolderLT(ImageFileDataModule):
    """`root/train/<class>/*` with test images in `root/test` or `root/val`, or all images in `root/<class>/*`.

    If both `test` and `val` exist, `val` is the official validation set; `val` alone is the *test* set (as in
    Tiny ImageNet, whose test labels are secret). If neither exists, and in a flat folder, `split_seed` chooses
    `test_per_class` images. Images lie at any depth below their class's folder; hidden files are passed over.

    Args:
        root: Folder of everything.
        train_dir: Folder of the training images; where it does not exist, the root is taken as flat.
        val_dir, test_dir: Names of the folders, or None to find them by the rules above.
        settings: Those of `ImageFileDataModule`.
    """

    def __init__(
        self,
        *,
        root: AnyPath | None,
        train_dir: PathText = "train",
        val_dir: PathText | None = None,
        test_dir: PathText | None = None,
        **settings: Unpack[FileSettings],
    ) -> None:
        super().__init__(root=root, **settings)
        require("val_dir", val_dir, val_dir is None or val_dir != test_dir, "must differ from test_dir")
        for field, name in (("val_dir", val_dir), ("test_dir", test_dir)):
            if name is not None and not self._is_part(name):
                path, remedy = str(self.root / name), "correct it, or null to leave it out"
                raise SettingError(field, "must be a folder that exists", path, remedy=remedy)
        if test_dir is None:
            test_dir = next((name for name in ("test", "val") if self._is_part(name) and name != val_dir), None)
        if val_dir is None and test_dir != "val" and self._is_part("val"):
            val_dir = "val"
        self.dirs = {"train": train_dir if self._is_part(train_dir) else "", "val": val_dir, "test": test_dir}
        if not self.dirs["train"] and (val_dir or test_dir):
            demand = f"must be a folder that exists beside {val_dir or test_dir!r}"
            remedy = "give the name of the training folder"
            raise SettingError("train_dir", demand, str(self.root / train_dir), remedy=remedy)

    def _is_part(self, name: str) -> bool:
        return (self.root / name).is_dir()

    def catalogue(self) -> Catalogue:
        train_root = self.root / str(self.dirs["train"])
        class_names = _classes(train_root)
        if len(class_names) < 2:
            demand = f"must hold a folder for each class: {str(train_root)!r} has {len(class_names)} class folders"
            raise SettingError("root", demand, remedy="put the images of each class into a folder of its own")
        class_ids = {name: class_id for class_id, name in enumerate(class_names)}
        names: list[str] = []
        targets: list[int] = []
        official: list[str] = []
        for part, directory in self.dirs.items():
            if directory is None:
                continue
            for class_name in _classes(self.root / directory):
                if class_name not in class_ids:
                    demand = f"must hold training images of every class: {class_name!r} is in {directory!r} alone"
                    raise SettingError("root", demand, remedy="add some, or remove its folder")
                folder = f"{directory}/{class_name}".lstrip("/")
                files = sorted(_image_files(self.root / folder, folder))
                if not files and part == "train":
                    demand = f"must hold training images of every class: {str(self.root / folder)!r} holds no images"
                    raise SettingError("root", demand, remedy="add some, or remove the folder")
                names += files
                targets += [class_ids[class_name]] * len(files)
                official += [part] * len(files)
        paths = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
        return Catalogue(
            names=paths,
            targets=np.array(targets, np.int64),
            official=np.array(official),
            class_names=class_names,
            source=self._source(paths),
        )


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder.

    Raises:
        SettingError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        demand = f"must hold folders that can be read: {str(folder)!r} cannot ({error.strerror})"
        raise SettingError("root", demand, remedy="allow it, or move it") from None


def _classes(folder: Path) -> list[str]:
    """Names of the class folders, sorted."""
    return sorted(entry.name for entry in scan(folder) if entry.is_dir() and not entry.name.startswith("."))


def _image_files(folder: Path, prefix: str) -> Iterator[str]:
    """Paths of the images at any depth below a folder, each with the prefix and forward slashes."""
    for entry in scan(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _image_files(Path(entry.path), f"{prefix}/{entry.name}")
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield f"{prefix}/{entry.name}"
