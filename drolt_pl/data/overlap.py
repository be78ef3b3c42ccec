"""Parts of a split that share images: one file in two parts is refused, equal contents are counted."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from drolt_pl.data.images.files import UnreadableError
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.sources import Catalogue, Source
from drolt_pl.errors import SettingError
from drolt_pl.regular import kind_of, read_regular

PIECE = 1024  # samples that are looked at together: each path takes memory
THREADS = 8
MAX_BYTES = 1024**3  # of files whose contents are compared
SHOWN = 2  # examples in a sentence
SAMPLED_FILES, SAMPLED_ROWS = 64, 4096  # that tell a data set from one of the same names
WORD = 2**64 - 1
A = TypeVar("A", bound=np.generic)
STATUS = np.dtype([("device", "u8"), ("inode", "u8"), ("size", "u8"), ("mode", "u4"), ("links", "u4")])


class Pairs(NamedTuple):
    """Equal samples of different parts, as places among the samples of all parts, (n,) each."""

    first: IntArray  # in the earlier part
    again: IntArray

    def where(self, mask: NDArray[np.bool_]) -> "Pairs":
        """Some of the pairs."""
        return Pairs(self.first[mask], self.again[mask])


def require_disjoint(
    catalogue: Catalogue, parts: Mapping[str, IntArray], *, reads: bool, on_corrupt: str, allow_duplicates: bool
) -> tuple[str | None, str]:
    """Refuses parts of a split that share images.

    Args:
        catalogue: All samples.
        parts: Indices of each part.
        reads: See `Parts.shared_contents`.
        on_corrupt: With `error`, also refuses what is no regular file.
        allow_duplicates: Whether equal contents are only counted, as they are where the data set comes in one part
            and the split has parted them. One file in two parts is always refused.

    Returns:
        How many contents are equal, as a sentence, None for none; and `Parts.sha256`.

    Raises:
        SettingError: it names two samples.
    """
    samples = Parts(catalogue, parts)
    if on_corrupt == "error":
        samples.require_files()
    samples.refuse_shared_files()
    shared = samples.shared_contents(reads=reads)
    official = catalogue.official[samples.indices]
    across = shared.where(official[shared.first] != official[shared.again])
    if len(across.again) and not allow_duplicates:
        demand = f"must be true where parts of the data set share images: {samples.told(across)}"
        raise SettingError("allow_duplicates", demand, remedy="better remove the copies")
    return samples.told(shared) if len(shared.again) else None, samples.sha256()


class Parts:
    """The samples of all parts of a split, one part after the other.

    Args:
        catalogue: All samples.
        parts: Indices of each part.
    """

    def __init__(self, catalogue: Catalogue, parts: Mapping[str, IntArray]) -> None:
        self.catalogue, self.names = catalogue, list(parts)
        self.indices = np.concatenate(list(parts.values()))
        self.part = np.repeat(np.arange(len(parts)), [len(indices) for indices in parts.values()])
        self._files = _files(catalogue.source, self.indices)

    def require_files(self) -> None:
        """Refuses what is no regular file: a missing test image must not show after the training.

        Raises:
            UnreadableError: nothing, a pipe, a folder or the like.
        """
        if self._files is None:
            return
        for mode in np.unique(self._files["mode"]):
            kind = kind_of(int(mode))
            name = self._name(int(np.flatnonzero(self._files["mode"] == mode)[0]))
            if not mode:
                demand = f"must hold every image: {name!r} does not exist"
                raise UnreadableError("root", demand, remedy="correct the root or the list")
            if kind is not None:
                demand = f"must hold readable images: {name!r} cannot be read (it is {kind})"
                raise UnreadableError("root", demand, remedy="repair or remove it")

    def refuse_shared_files(self) -> None:
        """Refuses one file in two parts, by whatever path or link.

        Raises:
            SettingError: it names two of the paths.
        """
        if self._files is None:
            return
        known = np.flatnonzero(self._files["inode"] > 0)
        _, numbers = np.unique(self._files[known][["device", "inode"]], return_inverse=True)
        pairs = self._pairs(known, numbers)
        for first, again in zip(pairs.first, pairs.again, strict=True):
            # Some file systems number files badly: only a link, or one path, makes two names one file.
            if min(self._files["links"][[first, again]]) > 1 or self._leads_to(first) == self._leads_to(again):
                demand = f"must give each part images of its own: {self._example(first, again)} are one file"
                more = f", and {len(pairs.again) - 1:,} more files stand in two parts" if len(pairs.again) > 1 else ""
                raise SettingError("root", demand + more, remedy="correct the folders or the list")

    def shared_contents(self, *, reads: bool) -> Pairs:
        """Samples that equal one of an earlier part.

        Compared are the bytes of samples in memory, the hashes that an index holds, or the bytes of files.

        Args:
            reads: Whether files may be read: those that have the size of a file of another part, up to `MAX_BYTES`.
        """
        source, digests = self.catalogue.source, self.catalogue.digests
        everywhere = np.arange(len(self.indices))
        nothing = Pairs(everywhere[:0], everywhere[:0])
        if source.contents(self.indices[:0]) is not None:
            return self._pairs(everywhere, np.concatenate([_hashes(rows) for rows in self._contents()]))
        if digests is not None:
            return self._pairs(everywhere, digests[self.indices])
        if self._files is None or not reads:
            return nothing
        sizes = self._files["size"]
        found = self._pairs(everywhere, sizes)
        alike = np.flatnonzero(np.isin(sizes, sizes[found.again]) & (sizes > 0))
        if sizes[alike].sum() > MAX_BYTES:
            return nothing
        digested = np.concatenate(_in_threads(self._digests, alike))
        return self._pairs(alike[digested > 0], digested[digested > 0])

    def sha256(self) -> str:
        """A hash of what the samples are: of the sizes of all files and the bytes of some, or of some rows in memory.

        Where they lie and what they are called is no part of it.
        """
        found = hashlib.sha256()
        if self._files is None:
            some = self.indices[_spread(len(self.indices), SAMPLED_ROWS)]
            found.update(np.ascontiguousarray(self.catalogue.source.fetch(some).numpy()).tobytes())
        else:
            found.update(self._files["size"].astype("<u8").tobytes())
            some = _spread(len(self.indices), SAMPLED_FILES)
            found.update(np.concatenate(_in_threads(self._digests, some, piece=8)).astype("<u8").tobytes())
        return found.hexdigest()

    def told(self, shared: Pairs) -> str:
        """Pairs as a sentence: how many, and the first as examples."""
        shown = zip(shared.first[:SHOWN], shared.again[:SHOWN], strict=True)
        examples = ", or ".join(self._example(first, again) for first, again in shown)
        number = len(shared.again)
        return f"{number:,} {'images equal' if number > 1 else 'image equals'} one of another part, such as {examples}"

    def _contents(self) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(self.indices), PIECE):
            rows = self.catalogue.source.contents(self.indices[start : start + PIECE])
            assert rows is not None
            yield rows

    def _digests(self, places: IntArray) -> NDArray[np.uint64]:
        """Hashes of files; 0 for one that cannot be read, as whoever reads the image says."""
        assert self._files is not None
        found = np.zeros(len(places), np.uint64)
        for row, place in enumerate(places):
            with suppress(OSError):
                found[row] = digest(read_regular(self._path(int(place)), int(self._files["size"][place])))
        return found

    def _pairs(self, places: IntArray, keys: NDArray[np.generic]) -> Pairs:
        """Each sample whose key an earlier part has, with the first sample of that key."""
        order = np.lexsort((self.part[places], keys))
        places, keys = places[order], keys[order]
        begins = np.r_[True, keys[1:] != keys[:-1]][: len(keys)]
        first = places[np.maximum.accumulate(np.where(begins, np.arange(len(keys)), 0))]
        again = self.part[places] != self.part[first]
        by_part = np.argsort(places[again], kind="stable")
        return Pairs(first[again][by_part], places[again][by_part])

    def _leads_to(self, place: int) -> str:
        return os.path.realpath(self._path(place))

    def _path(self, place: int) -> str:
        paths = self.catalogue.source.paths(self.indices[place : place + 1])
        assert paths is not None
        return paths[0]

    def _name(self, place: int) -> str:
        return os.fsdecode(self.catalogue.names[self.indices[place]])

    def _example(self, *places: int) -> str:
        return " and ".join(f"{self._name(place)!r} ({self.names[self.part[place]]})" for place in places)


def digest(content: bytes) -> int:
    """64 bits of the SHA-256 of a file, which tell the files of one data set apart; never 0."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8]) | 1


def _files(source: Source, indices: IntArray) -> NDArray[np.void] | None:
    """What the file system says of each file, `STATUS`, zeros for one that is missing; None where there are none."""
    if source.paths(indices[:0]) is None:
        return None
    found = _in_threads(lambda part: np.array([_status(path) for path in source.paths(part) or []], STATUS), indices)
    return np.concatenate(found)


def _spread(number: int, most: int) -> IntArray:
    """Places among a number of them, evenly."""
    return np.unique(np.linspace(0, max(number - 1, 0), most).astype(np.int64))


def _in_threads(make: Callable[[IntArray], NDArray[A]], indices: IntArray, *, piece: int = PIECE) -> list[NDArray[A]]:
    """Makes arrays of pieces of indices; file systems on a network answer many questions at once."""
    pieces = [indices[start : start + piece] for start in range(0, max(len(indices), 1), piece)]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(make, pieces))


def _status(path: str) -> tuple[int, int, int, int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0, 0, 0, 0, 0
    return status.st_dev & WORD, status.st_ino & WORD, status.st_size, status.st_mode, status.st_nlink


def _hashes(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in np.ascontiguousarray(rows))
    return np.frombuffer(digests, np.uint64)
