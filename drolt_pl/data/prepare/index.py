"""The compact index of a large data set: one file, a few contiguous arrays, a hash."""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from drolt_pl.data.longtail import IntArray
from drolt_pl.data.prepare.lists import Entries
from drolt_pl.errors import SettingError

FORMAT = 1
PART_NAMES = ("train", "val", "test")
UNUSABLE = (
    KeyError,
    ValueError,
    TypeError,
    EOFError,
    OSError,
    zipfile.BadZipFile,
)  # the errors that damaged archives raise


class IndexMeta(TypedDict):
    """What an index tells of itself; attributes as in `ImageIndex`."""

    format: int
    name: str
    root: str
    sources: dict[str, str]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ImageIndex:
    """Which images a data set has, in which part and of which class.

    Attributes:
        names: Paths below the image root, (N,), in one block of memory.
        targets: Class ids, (N,), int64 in [0, C).
        official: Place of each image's part in `PART_NAMES`, (N,), uint8.
        class_names: (C,), text.
        name: Of the data set, such as `imagenet_lt`.
        root: The image root that was checked. Training takes it by default; the hash does not contain it.
        sources: SHA-256 of each list file that the index was made from, by file name.
    """

    names: NDArray[np.bytes_]
    targets: IntArray
    official: NDArray[np.uint8]
    class_names: NDArray[np.str_]
    name: str
    root: str
    sources: dict[str, str]

    @property
    def sha256(self) -> str:
        """Hash of the names, classes and parts of all images."""
        digest = hashlib.sha256(f"{FORMAT} {self.name} {len(self.names)} {self.names.dtype.itemsize}\n".encode())
        for array in (self.names, self.targets.astype("<i8"), self.official):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        digest.update("\n".join(self.class_names.tolist()).encode())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the file. An older file is replaced at once or not at all."""
        meta = IndexMeta(format=FORMAT, name=self.name, root=self.root, sources=self.sources, sha256=self.sha256)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    meta=np.array(json.dumps(meta)),
                    names=self.names,
                    targets=self.targets.astype(np.int32),
                    official=self.official,
                    class_names=self.class_names,
                )
            temporary.replace(path)
        except OSError as error:
            demand = f"must be a file that can be written: {str(path)!r} cannot ({error.strerror})"
            raise SettingError("out", demand) from None
        finally:
            temporary.unlink(missing_ok=True)


def make_index(
    parts: Mapping[str, Entries], class_names: list[str], *, name: str, root: Path, sources: dict[str, str]
) -> ImageIndex:
    """Put the parts into arrays.

    Raises:
        SettingError: a part is empty, a label has no training image, or a class has none.
    """
    for part, entries in parts.items():
        if not entries.paths:
            demand = f"must name images of every part: the {part} list names none"
            raise SettingError("lists", demand, remedy=f"give the list of the {part} images")
        if max(entries.labels) >= len(class_names):
            demand = f"must have labels of training images alone: the {part} list has label {max(entries.labels)}"
            raise SettingError("lists", demand, remedy="correct it")
    trained = np.bincount(parts["train"].labels, minlength=len(class_names))
    if not trained.all():
        absent = class_names[int(np.argmin(trained))]
        demand = f"must name training images of every class: class {absent!r} has none"
        raise SettingError("lists", demand, remedy="give the whole training list")
    return ImageIndex(
        names=np.array([os.fsencode(path) for entries in parts.values() for path in entries.paths], dtype=np.bytes_),
        targets=np.array([label for entries in parts.values() for label in entries.labels], np.int64),
        official=np.repeat(
            np.array([PART_NAMES.index(part) for part in parts], np.uint8),
            [len(entries.paths) for entries in parts.values()],
        ),
        class_names=np.array(class_names),
        name=name,
        root=str(root),
        sources=sources,
    )


def read_meta(path: Path) -> IndexMeta:
    """Read what an index tells of itself.

    Raises:
        SettingError: the file is missing, damaged or of another format.
    """
    if not path.is_file():
        remedy = "write it with `drolt data prepare`"
        raise SettingError("index", "must be a file that exists", str(path), remedy=remedy)
    with _opened(path) as archive:
        return _meta(archive, path)


def load_index(path: Path) -> ImageIndex:
    """Read an index and check it against its hash.

    Raises:
        SettingError: see `read_meta`.
    """
    meta = read_meta(path)
    with _opened(path) as archive:
        try:
            index = ImageIndex(
                names=archive["names"],
                targets=archive["targets"].astype(np.int64),
                official=archive["official"],
                class_names=archive["class_names"],
                name=meta["name"],
                root=meta["root"],
                sources=meta["sources"],
            )
        except UNUSABLE as error:
            raise _damaged(path, error) from None
    if index.sha256 != meta["sha256"]:
        raise _damaged(path, "its content does not fit its hash")
    return index


def _opened(path: Path) -> NpzFile:
    if not zipfile.is_zipfile(path):
        raise _damaged(path, "it is not an archive")
    archive: NpzFile = np.load(path, allow_pickle=False)
    return archive


def _meta(archive: NpzFile, path: Path) -> IndexMeta:
    try:
        meta = json.loads(str(archive["meta"]))
        if meta["format"] == FORMAT:
            return IndexMeta(
                format=FORMAT,
                name=str(meta["name"]),
                root=str(meta["root"]),
                sources=dict(meta["sources"]),
                sha256=str(meta["sha256"]),
            )
    except UNUSABLE as error:
        raise _damaged(path, error) from None
    raise _damaged(path, f"format {meta['format']}, and {FORMAT} is read")


def _damaged(path: Path, why: object) -> SettingError:
    remedy = "remove it and write it again with `drolt data prepare`"
    return SettingError("index", f"must be a whole index: {str(path)!r} cannot be used ({why})", remedy=remedy)
