"""CIFAR's archive: fetched, unpacked, and its pickles read as arrays and plain values alone."""

import pickle
import tarfile
import warnings
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, cifar

from drolt_pl.data.longtail import IntArray
from drolt_pl.data.prepare.download import retrieve
from drolt_pl.errors import SettingError
from drolt_pl.regular import read_regular

MAX_BYTES = 256 * 1024**2  # of a file of the archive
# What a pickled array names. Whatever else a pickle names is not imported.
ARRAYS = {
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class Part(NamedTuple):
    """The training or the test images."""

    images: NDArray[np.uint8]  # (N, 32, 32, 3)
    targets: IntArray


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of arrays, numbers, text and containers of them; refuses every other name."""

    def find_class(self, module: str, name: str) -> object:
        """The object of a name in a pickle.

        Raises:
            UnpicklingError: it is none that an array needs.
        """
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")
        return super().find_class(module, name)


def read_archive(archive: type[CIFAR10], root: Path) -> tuple[Part, Part, list[str]]:
    """Training part, test part and class names of an unpacked archive whose checksums are right.

    Raises:
        SettingError: a file is missing or damaged.
    """
    folder = root / archive.base_folder
    try:
        meta = _values(folder / archive.meta["filename"], archive.meta["md5"])
        names = [str(name) for name in _list(meta[archive.meta["key"]])]
        parts = [_part(folder, files) for files in (archive.train_list, archive.test_list)]
    except Exception as error:  # damaged pickles raise far more than UnpicklingError
        reason = f" ({error})" if isinstance(error, pickle.UnpicklingError) else ""
        remedy = f"unpack {archive.filename} again, or set dataset.download=true"
        demand = f"must hold the whole archive: {str(folder)!r} is incomplete or damaged{reason}"
        raise SettingError("root", demand, remedy=remedy) from None
    return parts[0], parts[1], names


def fetch_archive(archive: type[CIFAR10], root: Path) -> None:
    """Fetch and unpack an archive, unless its files are there.

    Raises:
        SettingError: it cannot be fetched.
    """
    wanted = [*archive.train_list, *archive.test_list, [archive.meta["filename"], archive.meta["md5"]]]
    if all(cifar.check_integrity(root / archive.base_folder / name, md5) for name, md5 in wanted):
        return
    packed = root / archive.filename
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not cifar.check_integrity(packed, archive.tgz_md5):
            found = retrieve(archive.url, packed, "md5", archive.tgz_md5)
            if found != archive.tgz_md5:
                raise OSError(f"{archive.url} gives a file with MD5 {found}")
        _unpack(packed, root, {f"{archive.base_folder}/{name}" for name, _ in wanted})
    except (OSError, HTTPException, tarfile.TarError) as error:
        demand = f"must be false where {archive.filename} cannot be fetched ({error})"
        raise SettingError("download", demand, remedy=f"unpack it in {str(root)!r} by hand") from None


def _unpack(packed: Path, root: Path, wanted: set[str]) -> None:
    """Unpack the files that are wanted and no others, so that no name leads elsewhere."""
    with tarfile.open(packed) as archive:
        for member in archive:
            if member.name not in wanted or not member.isreg() or member.size > MAX_BYTES:
                continue
            content = archive.extractfile(member)
            assert content is not None
            path = root / member.name
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)  # rather than through a link
            path.write_bytes(content.read())


def _part(folder: Path, files: list[list[str]]) -> Part:
    rows: list[NDArray[np.uint8]] = []
    targets: list[int] = []
    for name, md5 in files:
        values = _values(folder / name, md5)
        data = values["data"]
        assert isinstance(data, np.ndarray)
        rows.append(data.astype(np.uint8, casting="no"))
        targets += [int(str(label)) for label in _list(values.get("labels", values.get("fine_labels")))]
    images = np.vstack(rows).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert len(images) == len(targets)
    return Part(images, np.array(targets, np.int64))


def _values(path: Path, md5: str) -> dict[str, object]:
    """What a file of the archive holds.

    Raises:
        Exception: whatever a damaged file leads to.
    """
    content = read_regular(path, MAX_BYTES)
    if not cifar.check_integrity(path, md5):
        raise OSError("its checksum is another")
    with warnings.catch_warnings():
        # The archives were pickled by a NumPy whose dtype description NumPy 2.4 finds old-fashioned.
        warnings.filterwarnings("ignore", message=".*align should be passed")
        values = ArrayUnpickler(BytesIO(content), encoding="latin1").load()
    return dict(values)


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
