"""Making the index of a published large set from the user's own lists and images, after checking both."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drolt_pl.data.prepare.index import PART_NAMES, ImageIndex, make_index, read_meta
from drolt_pl.data.prepare.inspection import inspect_files
from drolt_pl.data.prepare.lists import Entries, read_annotations, read_lists
from drolt_pl.errors import SettingError
from drolt_pl.groups import group_masks

SHOWN = 20  # entries of each kind that a report spells out


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Files and published facts of a data set.

    Attributes:
        files: List file of each part.
        read: Reads them.
        certain: Published facts that must hold, by the names of `facts_of`.
        reported: Facts that we could not verify: a mismatch is only reported.
    """

    files: dict[str, str]
    read: Callable[[dict[str, Path]], tuple[dict[str, Entries], list[str]]]
    certain: dict[str, int] = field(default_factory=dict)
    reported: dict[str, int] = field(default_factory=dict)


RECIPES = {
    "imagenet_lt": Recipe(
        files={part: f"ImageNet_LT_{part}.txt" for part in PART_NAMES},
        read=read_lists,
        certain={
            "classes": 1_000,
            "training images": 115_846,
            "training images of the largest class": 1_280,
            "training images of the smallest class": 5,
            "many-shot classes": 385,
            "medium-shot classes": 479,
            "few-shot classes": 136,
            "validation images": 20_000,
            "validation images of the smallest class": 20,
            "test images": 50_000,
        },
    ),
    "places_lt": Recipe(
        files={part: f"Places_LT_{part}.txt" for part in PART_NAMES},
        read=read_lists,
        reported={
            "classes": 365,
            "training images": 62_500,
            "training images of the largest class": 4_980,
            "training images of the smallest class": 5,
            "validation images": 7_300,
            "test images": 36_500,
        },
    ),
    "inaturalist2018": Recipe(
        files={"train": "train2018.json", "test": "val2018.json"},  # the official validation set tests
        read=read_annotations,
        certain={"classes": 8_142, "training images": 437_513, "test images": 24_426},
        reported={
            "training images of the largest class": 1_000,
            "training images of the smallest class": 2,
            "many-shot classes": 842,
            "medium-shot classes": 3_701,
            "few-shot classes": 3_599,
        },
    ),
}


def listed(what: str, entries: list[str]) -> list[str]:
    """Report entries: a line with their number, and a line for each of the first."""
    more = [f"  ... and {len(entries) - SHOWN:,} more"] if len(entries) > SHOWN else []
    return [f"{what}: {len(entries):,}", *(f"  {entry}" for entry in entries[:SHOWN]), *more]


@dataclass(frozen=True)
class Defects:
    """Defects that keep a data set from being used.

    Attributes:
        kinds: Entries by kind.
        digests: A number for the content of each file, (N,), uint64.
    """

    kinds: dict[str, list[str]]
    digests: NDArray[np.uint64]

    def __bool__(self) -> bool:
        return any(self.kinds.values())

    @property
    def total(self) -> int:
        """Entries of all kinds."""
        return sum(len(entries) for entries in self.kinds.values())

    def report(self) -> str:
        """Each kind with its total and its first entries."""
        return "\n".join(line for kind, entries in self.kinds.items() for line in listed(kind, entries))


def up_to_date(path: Path, name: str, lists: Path, images: Path) -> bool:
    """Whether the index at `path` was made of these lists for these images."""
    if path.is_dir():
        raise SettingError("out", "must be a file, not a folder", str(path))
    try:
        meta = read_meta(path)
    except SettingError:  # missing, damaged or of another format: it is made anew
        return False
    return (meta["name"], meta["root"], meta["sources"]) == (name, str(images.resolve()), _hashes(_files(name, lists)))


def build_index(name: str, lists: Path, images: Path, *, allow_outside: bool = False) -> ImageIndex:
    """Read the list files of a data set, without opening an image.

    Args:
        name: Key of `RECIPES`.
        lists: Folder of the list files.
        images: Folder that their paths are relative to.
        allow_outside: Whether paths may lead out of that folder.

    Raises:
        SettingError: a list file is missing or wrong.
    """
    files = _files(name, lists)
    parts, class_names = RECIPES[name].read(files)
    return make_index(
        parts,
        class_names,
        name=name,
        root=images.resolve(),
        sources=_hashes(files),
        allow_outside=allow_outside,
    )


def facts_of(index: ImageIndex) -> dict[str, int]:
    """Measure in the index the facts that are published of data sets."""
    counts = {
        part: np.bincount(index.targets[index.official == place], minlength=len(index.class_names))
        for place, part in enumerate(PART_NAMES)
    }
    train = counts["train"]
    return {
        "classes": len(train),
        "training images": int(train.sum()),
        "training images of the largest class": int(train.max()),
        "training images of the smallest class": int(train.min()),
        **{f"{group}-shot classes": int(mask.sum()) for group, mask in group_masks(train).items()},
        "validation images": int(counts["val"].sum()),
        "validation images of the smallest class": int(counts["val"].min()),
        "test images": int(counts["test"].sum()),
    }


def mismatches(facts: Mapping[str, int], published: Mapping[str, int]) -> list[str]:
    """A line for each fact that differs from the published one."""
    return [
        f"{what}: {facts[what]:,} instead of {value:,}" for what, value in published.items() if facts[what] != value
    ]


def find_defects(
    index: ImageIndex,
    *,
    threads: int,
    certain: Mapping[str, int] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Defects:
    """Check the counts, and that every image is there, can be decoded, and is named once.

    Args:
        index: As `build_index` made it.
        threads: Threads that decode.
        certain: Facts that must hold; by default those published of the data set.
        progress: Called with how many more images are done.
    """
    published = RECIPES[index.name].certain if certain is None else certain
    inspection = inspect_files(Path(index.root), index.names, threads=threads, progress=progress)
    return Defects(
        {
            "counts that differ from the published ones": mismatches(facts_of(index), published),
            "missing files": _named(index, inspection.missing),
            "files that cannot be decoded": [
                f"{line}: {why}"
                for line, why in zip(_named(index, inspection.unreadable), inspection.unreadable.values(), strict=True)
            ],
            **_repeated(index),
        },
        inspection.numbers(),
    )


def _repeated(index: ImageIndex) -> dict[str, list[str]]:
    """Paths named more than once, within one list and over several."""
    order = np.argsort(index.names, kind="stable")
    names = index.names[order]
    again = np.flatnonzero(names[1:] == names[:-1])  # positions in the order whose successor is the same
    within: list[int] = []
    over: dict[bytes, set[int]] = {}
    for position in again:
        first, second = order[position], order[position + 1]
        if index.official[first] == index.official[second]:
            within.append(int(second))
        else:
            over.setdefault(bytes(names[position]), set()).update((int(first), int(second)))
    return {
        "entries repeated in one list": _named(index, sorted(within)),
        "images in more than one list": [
            f"{os.fsdecode(name)} ({', '.join(_parts(index, places))})" for name, places in sorted(over.items())
        ],
    }


def _parts(index: ImageIndex, places: Iterable[int]) -> list[str]:
    return [PART_NAMES[part] for part in sorted({int(index.official[place]) for place in places})]


def _named(index: ImageIndex, places: Iterable[int]) -> list[str]:
    return [f"{os.fsdecode(index.names[place])} ({PART_NAMES[index.official[place]]})" for place in places]


def _files(name: str, lists: Path) -> dict[str, Path]:
    files = {part: lists / file for part, file in RECIPES[name].files.items()}
    for path in files.values():
        if not path.is_file():
            remedy = "put it there, or fetch it with --url ADDRESS#sha256=HASH"
            raise SettingError("lists", f"must hold the list files: {str(path)!r} does not exist", remedy=remedy)
    return files


def _hashes(files: Mapping[str, Path]) -> dict[str, str]:
    hashes = {}
    for path in files.values():
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
