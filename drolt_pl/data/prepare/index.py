"""The compact index of a large data set: one file, a few contiguous arrays, a hash."""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from drolt_pl.data.longtail import IntArray
from drolt_pl.data.prepare.lists import Entries
from drolt_pl.data.prepare.reading import OUTSIDE, SHOWN, path_problem, with_slashes
from drolt_pl.disk import replacing
from drolt_pl.errors import SettingError, reason

FORMAT = 1
PART_NAMES = ("train", "val", "test")
MAX_BYTES = 2 * 1024**3  # that the arrays of an index may unpack to


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
        digests: A number for the content of each image's file, (N,), uint64; null in an older index.
    """

    names: NDArray[np.bytes_]
    targets: IntArray
    official: NDArray[np.uint8]
    class_names: NDArray[np.str_]
    name: str
    root: str
    sources: dict[str, str]
    digests: NDArray[np.uint64] | None = None

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
        try:
            with replacing(path) as file:
                np.savez(
                    file,
                    meta=np.array(json.dumps(meta)),
                    names=self.names,
                    targets=self.targets.astype(np.int32),
                    official=self.official,
                    class_names=self.class_names,
                    **({} if self.digests is None else {"digests": self.digests}),  # type: ignore[arg-type]
                )
        except OSError as error:
            demand = f"must be a file that can be written: {str(path)!r} cannot ({error.strerror})"
            raise SettingError("out", demand) from None


def make_index(
    parts: Mapping[str, Entries],
    class_names: list[str],
    *,
    name: str,
    root: Path,
    sources: dict[str, str],
    allow_outside: bool = False,
) -> ImageIndex:
    """Put the parts into arrays.

    Raises:
        SettingError: a part is empty, a label has no training image, a class has none, or a path leads out of the
            root, which `allow_outside` allows.
    """
    parts = {
        part: entries._replace(paths=[with_slashes(path, root) for path in entries.paths])
        for part, entries in parts.items()
    }
    for part, entries in parts.items():
        if not entries.paths:
            demand = f"must name images of every part: the {part} list names none"
            raise SettingError("lists", demand, remedy=f"give the list of the {part} images")
        if max(entries.labels) >= len(class_names):
            demand = f"must have labels of training images alone: the {part} list has label {max(entries.labels)}"
            raise SettingError("lists", demand, remedy="correct it")
        for path in entries.paths:
            problem = path_problem(path, root)
            if problem is not None and not (allow_outside and problem == OUTSIDE):
                demand = f"must name images below {str(root)!r}: {path[:SHOWN]!r} of the {part} list {problem}"
                remedy = "correct it" + (", or allow it by --allow-outside" if problem == OUTSIDE else "")
                raise SettingError("lists", demand, remedy=remedy)
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
    with _opened(path) as archive:
        return _meta(archive)


def load_index(path: Path, *, allow_outside: bool = False) -> ImageIndex:
    """Read an index and check it against its hash.

    Args:
        path: The file.
        allow_outside: Whether its paths may lead out of the images' folder.

    Raises:
        SettingError: see `read_meta`; or a path leads out.
    """
    with _opened(path) as archive:
        meta = _meta(archive)
        index = ImageIndex(
            names=archive["names"],
            targets=archive["targets"].astype(np.int64),
            official=archive["official"],
            class_names=archive["class_names"],
            name=meta["name"],
            root=meta["root"],
            sources=meta["sources"],
            digests=archive.get("digests"),
        )
        _require_sound(index)
        if index.sha256 != meta["sha256"]:
            raise ValueError("its content does not fit its hash")
    if not allow_outside:
        _require_inside(index, path)
    return index


@contextmanager
def _opened(path: Path) -> Iterator[NpzFile]:
    """The arrays of an archive; whatever goes wrong with them is one sentence."""
    if not path.is_file():
        remedy = "write it with `drolt data prepare`"
        raise SettingError("index", "must be a file that exists", str(path), remedy=remedy)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except Exception as error:  # damaged archives raise far more than BadZipFile
        why = "it is not an archive" if isinstance(error, zipfile.BadZipFile) else reason(error)[:200]
        remedy = "remove it and write it again with `drolt data prepare`"
        demand = f"must be a whole index: {str(path)!r} cannot be used ({why})"
        raise SettingError("index", demand, remedy=remedy) from None


def _meta(archive: NpzFile) -> IndexMeta:
    meta = json.loads(str(archive["meta"]))
    if meta["format"] != FORMAT:
        raise ValueError(f"format {meta['format']}, and {FORMAT} is read")
    return IndexMeta(
        format=FORMAT,
        name=str(meta["name"]),
        root=str(meta["root"]),
        sources={str(name): str(hashed) for name, hashed in dict(meta["sources"]).items()},
        sha256=str(meta["sha256"]),
    )


def _require_sound(index: ImageIndex) -> None:
    """Refuses arrays of other kinds or sizes, which a hash does not tell.

    Raises:
        ValueError: they are.
    """
    size, classes = len(index.names), len(index.class_names)
    shapes = [index.names.shape, index.targets.shape, index.official.shape]
    kinds = f"{index.names.dtype.kind}{index.class_names.dtype.kind}{index.official.dtype}"
    within = (index.targets >= 0).all() and (index.targets < classes).all()
    if shapes != [(size,)] * 3 or kinds != "SUuint8" or index.class_names.ndim != 1 or not size:
        raise ValueError("its arrays do not fit each other")
    if not within or (index.official >= len(PART_NAMES)).any():
        raise ValueError("it names classes or parts that it does not have")
    if index.digests is not None and (index.digests.shape != (size,) or index.digests.dtype != np.uint64):
        raise ValueError("its digests do not fit its names")


def _require_inside(index: ImageIndex, path: Path) -> None:
    """Refuses paths that lead out of the images' folder."""
    # Half a million Python strings would take seconds: only these can lead out.
    suspects = np.char.startswith(index.names, b"/") | (np.char.find(index.names, b"..") >= 0)
    suspects |= (np.char.find(index.names, b"\0") >= 0) | (np.char.str_len(index.names) == 0)
    for name in index.names[suspects]:
        problem = path_problem(os.fsdecode(name), Path(index.root))
        if problem is not None:
            demand = f"must name images below its root: {os.fsdecode(name)[:SHOWN]!r} of {str(path)!r} {problem}"
            raise SettingError("index", demand, remedy="write it anew, or set dataset.allow_outside=true")
