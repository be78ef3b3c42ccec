"""Images in one folder per class."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from drolt_pl.checked import checked
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.files import MAX_PIXELS
from drolt_pl.data.images.sources import FileSource
from drolt_pl.data.images.view import TrainCrop
from drolt_pl.data.sets.layout import Listing, counted, find_parts, folders_in, listing, notes_of, scan
from drolt_pl.data.settings import DataSettings
from drolt_pl.data.sources import Catalogue
from drolt_pl.errors import SettingError
from drolt_pl.ranges import AnyPath, Area, PathText, Pixels

IMAGENET: DataSettings = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


ImageSize = Pixels | Literal["native"] | None


class FileSettings(DataSettings, total=False):
    """The keyword arguments of `ImageFileDataModule` except its root."""

    image_size: ImageSize
    train_crop: TrainCrop
    max_pixels: Area


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
        max_pixels: Area = MAX_PIXELS,
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
        self.max_pixels = max_pixels

    def _source(self, names: NDArray[np.bytes_]) -> FileSource:
        return FileSource(
            self.root, names, image_size=self.size, train_crop=self.train_crop, max_pixels=self.max_pixels
        )


@checked
class ImageFolderLT(ImageFileDataModule):
    """`root/train/<class>/*` with test images in `root/test` or `root/val`, or all images in `root/<class>/*`.

    Folders of parts are found by what their names mean, in any case: train, training; val, valid, validation, dev;
    test, testing. If there are folders for both test and validation, the latter is the official validation set; it
    alone is the *test* set (as in Tiny ImageNet, whose test labels are secret). If neither exists, and in a flat
    folder, `split_seed` chooses `test_per_class` images. A folder of test or validation images that shares no class
    with training is left out. Images lie at any depth below their class's folder; hidden files are passed over. `notes`
    of the catalogue say what was found.

    Args:
        root: Folder of everything.
        train_dir, val_dir, test_dir: Names of the folders, or None to find them by the rules above.
        settings: Those of `ImageFileDataModule`.
    """

    def __init__(
        self,
        *,
        root: AnyPath | None,
        train_dir: PathText | None = None,
        val_dir: PathText | None = None,
        test_dir: PathText | None = None,
        **settings: Unpack[FileSettings],
    ) -> None:
        super().__init__(root=root, **settings)
        self.given = {"train": train_dir, "val": val_dir, "test": test_dir}
        self.parts = find_parts(self.root, self.given)

    def catalogue(self) -> Catalogue:
        listings = {part: listing(self.root, directory) for part, directory in self.parts.items()}
        self._require_classes(listings["train"])
        left_out = list(self._left_out(listings))
        if "val" in listings and "test" not in listings and self.given["val"] is None:
            listings["test"] = listings.pop("val")
        class_ids = {name: class_id for class_id, name in enumerate(listings["train"].files)}
        names: list[str] = []
        targets: list[int] = []
        official: list[str] = []
        for part, found in listings.items():
            for class_name, files in found.files.items():
                if class_name not in class_ids:
                    raise self._only_in(found.directory, class_name, class_ids)
                names += files
                targets += [class_ids[class_name]] * len(files)
                official += [part] * len(files)
        paths = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
        return Catalogue(
            names=paths,
            targets=np.array(targets, np.int64),
            official=np.array(official),
            class_names=list(class_ids),
            source=self._source(paths),
            notes=(*notes_of(self.root, listings), *left_out),
        )

    def _require_classes(self, train: Listing) -> None:
        """Refuses training images that have no classes."""
        folder = self.root / train.directory
        remedy = "put the images of each class into a folder of its own"
        if len(train.files) < 2:
            demand = f"must hold a folder for each class: {str(folder)!r} has {len(train.files)} class folders"
            for only in (names[0] for names in train.spellings.values()):
                if len(folders_in(folder / only)) > 1:
                    key, value = (
                        ("train_dir", f"{train.directory}/{only}") if train.directory else ("root", folder / only)
                    )
                    remedy = f"its folders lie one level deeper: set dataset.{key}={value}"
            if train.loose:
                demand += f", and {counted(train.loose, 'image')} without a label"
                remedy += ", or name them in a manifest (dataset=manifest)"
            raise SettingError("root", demand, remedy=remedy)
        for name, files in train.files.items():
            if not files:
                empty = str(folder / train.spellings[name][0])
                demand = f"must hold training images of every class: {empty!r} holds no images"
                raise SettingError("root", demand, remedy="add some, or remove the folder")

    def _left_out(self, listings: dict[str, Listing]) -> Iterator[str]:
        """Removes the folders that cannot be used, and says so.

        Raises:
            SettingError: the user has named one of them.
        """
        trained = {name.casefold() for name in listings["train"].files}
        for part in ("val", "test"):
            found = listings.get(part)
            if found is None or trained & {name.casefold() for name, files in found.files.items() if files}:
                continue
            unlabelled = found.loose + found.images
            what = f"has {counted(unlabelled, 'image')} in no class's folder" if unlabelled else "holds no images"
            if self.given[part] is not None:
                demand = f"must hold a folder for each class: {str(self.root / found.directory)!r} {what}"
                raise SettingError(f"{part}_dir", demand, remedy="correct it, or null to leave it out")
            del listings[part]
            yield f"left out: {found.directory!r} {what}"

    def _only_in(self, directory: str, class_name: str, trained: Iterable[str]) -> SettingError:
        alike = next((name for name in trained if name.casefold() == class_name.casefold()), None)
        demand = f"must hold training images of every class: {class_name!r} is in {directory!r} alone"
        remedy = "add some, or remove its folder" if alike is None else f"give it the name of {alike!r}"
        return SettingError("root", demand, remedy=remedy)
