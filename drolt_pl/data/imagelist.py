"""Image files named by lists: `path label` lines (ImageNet-LT, Places-LT) or iNaturalist's annotation files."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from drolt_pl.data.folder import ImageFileDataModule
from drolt_pl.data.sources import Catalogue

Entries = tuple[list[str], list[int]]  # paths below the root, and their labels


class ImageListLT(ImageFileDataModule):
    """Images named by text files of `path label` lines; labels are 0 ... C-1 and all occur in training.

    Args:
        root: Folder that the paths are relative to.
        train_list, val_list, test_list: The text files, absolute or below the root. Without `test_list`, or with
            `val_list` None, images are taken from training as `SplitRules` says.
        kwargs: Those of `ImageFileDataModule`.
    """

    def __init__(
        self,
        *,
        root: str | os.PathLike[str] | None,
        train_list: str,
        val_list: str | None = None,
        test_list: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, **kwargs)
        self.lists = {
            "train": require_file("train_list", self.root / train_list),
            "val": require_file("val_list", self.root / val_list) if val_list is not None else None,
            "test": require_file("test_list", self.root / test_list) if test_list is not None else None,
        }

    def catalogue(self) -> Catalogue:
        parts = {part: read_list(f"{part}_list", path) for part, path in self.lists.items() if path is not None}
        num_classes = max(parts["train"][1], default=-1) + 1
        return self._catalogue_of(parts, [str(class_id) for class_id in range(num_classes)])

    def _catalogue_of(self, parts: dict[str, Entries], class_names: list[str]) -> Catalogue:
        for part, (paths, labels) in parts.items():
            if not paths:
                raise ValueError(f"{part}_list names no image; give the list of the {part} images")
            if max(labels) >= len(class_names):
                raise ValueError(f"{part}_list has label {max(labels)}, which no training image has; correct the list")
        names = np.array([os.fsencode(path) for paths, _ in parts.values() for path in paths], dtype=np.bytes_)
        return Catalogue(
            names=names,
            targets=np.array([label for _, labels in parts.values() for label in labels], np.int64),
            official=np.repeat(list(parts), [len(paths) for paths, _ in parts.values()]),
            class_names=class_names,
            source=self._source(names),
        )


class INaturalist2018(ImageListLT):
    """iNaturalist 2018 from its annotation files; what they call validation is the test set.

    Args:
        root: Folder that the files' `file_name` is relative to.
        train_list, test_list: `train2018.json` and `val2018.json`, absolute or below the root.
        kwargs: Those of `ImageFileDataModule`.
    """

    def __init__(
        self,
        *,
        root: str | os.PathLike[str] | None,
        train_list: str = "train2018.json",
        test_list: str = "val2018.json",
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, train_list=train_list, test_list=test_list, **kwargs)

    def catalogue(self) -> Catalogue:
        contents = {part: _read_json(f"{part}_list", path) for part, path in self.lists.items() if path is not None}
        categories = sorted(contents["train"]["categories"], key=lambda category: int(category["id"]))
        class_ids = {category["id"]: class_id for class_id, category in enumerate(categories)}
        parts = {part: _annotated(f"{part}_list", content, class_ids) for part, content in contents.items()}
        return self._catalogue_of(parts, [str(category["name"]) for category in categories])


def require_file(field: str, path: Path) -> Path:
    """The path, if there is a file; else an error that names the field."""
    if not path.is_file():
        raise FileNotFoundError(f"{field}: file {str(path)!r} does not exist; give its path, absolute or below root")
    return path


def read_list(field: str, path: Path) -> Entries:
    """Paths and labels of a file of `path label` lines, in its order; empty lines are passed over."""
    paths, labels = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not (label.isascii() and label.isdigit()):
            raise ValueError(f"{field}: line {number} of {str(path)!r} is not '<path> <label>', got {line!r}")
        paths.append(name.strip())
        labels.append(int(label))
    return paths, labels


def _read_json(field: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{field}: file {str(path)!r} is not JSON ({error}); fetch it again") from None
    missing = [
        key for key in ("images", "annotations", "categories") if not isinstance(content, dict) or key not in content
    ]
    if missing:
        raise ValueError(f"{field}: file {str(path)!r} lacks {missing}; give an iNaturalist annotation file")
    return dict(content)


def _annotated(field: str, content: dict[str, Any], class_ids: dict[Any, int]) -> Entries:
    """Paths in sorted order, whatever the order of the file, and their class ids."""
    category_of = {annotation["image_id"]: annotation["category_id"] for annotation in content["annotations"]}
    entries = []
    for image in content["images"]:
        category = category_of.get(image["id"])
        if category not in class_ids:
            raise ValueError(f"{field}: image {image['file_name']!r} has no known category; fetch the file again")
        entries.append((image["file_name"], class_ids[category]))
    entries.sort()
    return [path for path, _ in entries], [class_id for _, class_id in entries]
