"""Images in one folder per class."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.sources import TRAIN_CROPS, Catalogue, FileSource

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageFileDataModule(LongTailDataModule):
    """What data sets of image files share.

    Args:
        root: Folder that the image paths are relative to.
        image_size: Pixels per side that images are scaled to; None takes them as they are, all of one size.
        train_crop: `center`: training images are decoded as evaluation images are; `random_resized`: a random part
            of each, for large images of varying size. See `FileSource`.
        mean, std: See `LongTailDataModule`; ImageNet's by default.
        kwargs: Those of `LongTailDataModule`.
    """

    def __init__(
        self,
        *,
        root: str | os.PathLike[str] | None,
        image_size: int | None = None,
        train_crop: str = "center",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(mean=mean, std=std, **kwargs)
        if root is None:
            raise ValueError("root is not set; give the folder of the images, as in dataset.root=/data/images")
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise FileNotFoundError(f"root: folder {str(root)!r} does not exist; give the folder of the images")
        scan(self.root)  # a folder that may not be read is said now
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size must be >= 1, or null to keep the images' size, got {image_size}")
        if train_crop not in TRAIN_CROPS:
            raise ValueError(f"train_crop must be one of {TRAIN_CROPS}, got {train_crop!r}")
        if train_crop == "random_resized" and image_size is None:
            raise ValueError("image_size must be given with train_crop='random_resized', got null")
        self.size, self.train_crop = image_size, train_crop

    def _source(self, names: NDArray[np.bytes_]) -> FileSource:
        return FileSource(self.root, names, image_size=self.size, train_crop=self.train_crop)


class ImageFolderLT(ImageFileDataModule):
    """`root/train/<class>/*` with test images in `root/test` or `root/val`, or all images in `root/<class>/*`.

    With `test` and `val` both there, `val` is the official validation set; `val` alone is the *test* set (as in
    Tiny ImageNet, whose test labels are secret). With neither, and in a flat folder, `test_per_class` images are
    taken by `split_seed`. Images lie at any depth below their class's folder; hidden files are passed over.

    Args:
        train_dir: Folder of the training images; where it does not exist, the root is taken as flat.
        val_dir, test_dir: Names of the folders, or None to find them as said above.
        kwargs: Those of `ImageFileDataModule`.
    """

    def __init__(
        self, *, train_dir: str = "train", val_dir: str | None = None, test_dir: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if val_dir is not None and val_dir == test_dir:
            raise ValueError(f"val_dir must differ from test_dir, got {val_dir!r} for both")
        for field, name in (("val_dir", val_dir), ("test_dir", test_dir)):
            if name is not None and not (self.root / name).is_dir():
                raise FileNotFoundError(
                    f"{field}: folder {str(self.root / name)!r} does not exist; correct it, or null to leave it out"
                )
        if test_dir is None:
            test_dir = next((name for name in ("test", "val") if self._is_part(name) and name != val_dir), None)
        if val_dir is None and test_dir != "val" and self._is_part("val"):
            val_dir = "val"
        self.dirs = {"train": train_dir if self._is_part(train_dir) else "", "val": val_dir, "test": test_dir}
        if not self.dirs["train"] and (val_dir or test_dir):
            raise FileNotFoundError(
                f"train_dir: folder {str(self.root / train_dir)!r} does not exist beside {val_dir or test_dir!r}; "
                "give the name of the training folder"
            )

    def _is_part(self, name: str) -> bool:
        return (self.root / name).is_dir()

    def catalogue(self) -> Catalogue:
        train_root = self.root / str(self.dirs["train"])
        class_names = sorted(entry.name for entry in scan(train_root) if _is_class(entry))
        if len(class_names) < 2:
            raise ValueError(
                f"root: {str(train_root)!r} has {len(class_names)} class folders; put the images of each class into "
                "a folder of its own"
            )
        class_ids = {name: class_id for class_id, name in enumerate(class_names)}
        names: list[str] = []
        targets: list[int] = []
        official: list[str] = []
        for part in ("train", "val", "test"):
            directory = self.dirs[part]
            if directory is None:
                continue
            found = sorted(entry.name for entry in scan(self.root / directory) if _is_class(entry))
            for class_name in found:
                if class_name not in class_ids:
                    raise ValueError(
                        f"root: class {class_name!r} is in {directory!r} but has no images in {train_root.name!r}; "
                        "add some, or remove its folder"
                    )
                folder = f"{directory}/{class_name}".lstrip("/")
                files = sorted(_image_files(self.root / folder, folder))
                if not files and part == "train":
                    raise ValueError(
                        f"root: class {class_name!r} has no images in {str(train_root)!r}; add some, or remove "
                        "its folder"
                    )
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
    """What a folder holds, or an error that names the folder."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise OSError(f"root: folder {str(folder)!r} cannot be read ({error.strerror}); allow it, or move it") from None


def _is_class(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _image_files(folder: Path, prefix: str) -> Iterator[str]:
    """Paths of the images at any depth below a folder, each with the prefix and forward slashes."""
    for entry in scan(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _image_files(Path(entry.path), f"{prefix}/{entry.name}")
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield f"{prefix}/{entry.name}"
