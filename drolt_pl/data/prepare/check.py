"""Looking into a data set: classes, groups, the split, sizes, modes, and defects of its files or stored features."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from drolt_pl import escape
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.sources import FileSource
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.prepare.index import PART_NAMES
from drolt_pl.data.prepare.inspection import Inspection, inspect_files, inspect_samples
from drolt_pl.data.prepare.published import listed
from drolt_pl.data.sources import Catalogue
from drolt_pl.data.split import NO_TEST, Split
from drolt_pl.errors import SettingError
from drolt_pl.groups import FEW, MANY, group_masks

BARS, BAR_WIDTH, NAME_WIDTH = 30, 40, 40  # classes that the text histogram shows, its longest bar, its longest name


@dataclass(frozen=True)
class DataCheck:
    """A data set's files, looked into.

    Attributes:
        catalogue: Its samples.
        found: Sizes, modes and defects of their files.
        split: The split that training would make; None where it refuses the data set.
        refused: Why training refuses the data set; None where it does not.
        told: What training would say of it, a sentence each.
        limits: Of the shot groups: more than `many`, fewer than `few`.
    """

    catalogue: Catalogue
    found: Inspection
    split: Split | None
    refused: SettingError | None
    told: Sequence[str]
    limits: tuple[int, int] = (MANY, FEW)

    @property
    def class_counts(self) -> IntArray:
        """Training samples of each class, (C,): those of the split, or without one all that training may take."""
        if self.split is not None:
            return self.split.class_counts
        targets = self.catalogue.targets[self.catalogue.official == "train"]
        return np.bincount(targets, minlength=len(self.catalogue.class_names))

    @property
    def unreadable(self) -> list[str]:
        """Files that are missing or cannot be decoded, each with the reason."""
        reasons = dict.fromkeys(self.found.missing, "missing") | self.found.unreadable
        return [f"{self._name(place)}: {reason}" for place, reason in sorted(reasons.items())]

    @property
    def shared(self) -> list[str]:
        """Images of validation and test that are byte for byte a training image, as `training image = image`."""
        return self._equal("train", ("val", "test"))

    @property
    def shared_held_out(self) -> list[str]:
        """Test images that are byte for byte a validation image."""
        return self._equal("val", ("test",))

    @property
    def repeated(self) -> list[str]:
        """Images that are byte for byte another image of their part."""
        return [entry for part in PART_NAMES for entry in self._equal(part, (part,))]

    def _equal(self, one: str, others: Sequence[str]) -> list[str]:
        """Images of other parts that equal an image of one part; within a part, those that come again."""
        first: dict[bytes, int] = {}
        digests = [digest.tobytes() for digest in self.found.digests]
        known = [place for place, digest in enumerate(digests) if digest.strip(b"\0")]  # zeros: not opened
        parts = {place: str(self.catalogue.official[place]) for place in known}
        for place in known:
            if parts[place] == one:
                first.setdefault(digests[place], place)
        pairs = [
            (first[digests[place]], place) for place in known if parts[place] in others and digests[place] in first
        ]
        return [f"{self._name(early)} = {self._name(late)}" for early, late in pairs if early != late]

    def report(self) -> str:
        """Everything as text."""
        counts = self.class_counts
        parts = Counter(self.catalogue.official.tolist())
        lines = [
            f"{len(counts):,} classes; images: " + ", ".join(f"{part} {parts[part]:,}" for part in PART_NAMES),
            *self.told,
            *self._of_the_split(),
            f"training images a class: {counts.max():,} to {counts.min():,}, ratio {counts.max() / counts.min():.1f}",
        ]
        for name, mask in group_masks(counts, *self.limits).items():
            lines.append(f"  {name}: {mask.sum():,} classes, {counts[mask].sum():,} images")
        lines += ["", *self._bars(counts), ""]
        lines += _frequencies("sizes", [f"{width}x{height}" for width, height in self.found.sizes.tolist() if width])
        lines += _frequencies("modes", [mode for mode in self.found.modes.tolist() if mode])
        lines += listed("files that cannot be read", self.unreadable)
        lines += listed("images of validation or test that are training images", self.shared)
        if self.shared_held_out:
            lines += listed("test images that are validation images", self.shared_held_out)
        if self.repeated:
            lines += listed("warning: images that come again in their part", self.repeated)
        if self.refused is not None:
            lines.append(f"training refuses it: {self.refused.under('dataset')}")
        return "\n".join(escape.plain(line) for line in lines)

    def _of_the_split(self) -> Iterator[str]:
        """What training makes of the data set, and which classes it cannot validate or test."""
        if self.split is None:
            return
        sizes = {name: len(indices) for name, indices in self.split.parts.items()}
        cut = f", {sizes['pool']:,} cut away" if sizes["pool"] else ""
        yield f"a run: {sizes['train']:,} train, {sizes['val']:,} validate, {sizes['test']:,} test{cut}"
        for part, verb in (("val", "validation"), ("test", "test")):
            absent = np.setdiff1d(np.arange(len(self.class_counts)), self.catalogue.targets[self.split.parts[part]])
            if len(absent) and sizes[part]:
                names = ", ".join(repr(self.catalogue.class_names[class_id]) for class_id in absent[:5])
                more = f" and {len(absent) - 5:,} more" if len(absent) > 5 else ""
                yield f"classes without a {verb} image: {len(absent):,} ({names}{more})"

    def _bars(self, counts: IntArray) -> list[str]:
        """A line for each class, most frequent first; of many classes, evenly spaced ones."""
        order = np.argsort(-counts, kind="stable")
        shown = order[np.unique(np.linspace(0, len(order) - 1, min(BARS, len(order))).round().astype(int))]
        names = [escape.plain(self.catalogue.class_names[class_id]) for class_id in shown]
        width = min(max(map(len, names)), NAME_WIDTH)
        lines = [
            f"{name[:width]:{width}} {counts[class_id]:>8,} "
            + "#" * max(1, round(BAR_WIDTH * counts[class_id] / counts.max()))
            for name, class_id in zip(names, shown, strict=True)
        ]
        return lines if len(shown) == len(order) else [*lines, f"({len(shown)} of {len(order):,} classes)"]

    def _name(self, place: int) -> str:
        return os.fsdecode(self.catalogue.names[place])


def check_data(
    datamodule: LongTailDataModule,
    *,
    limits: tuple[int, int] = (MANY, FEW),
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> DataCheck:
    """Look into every sample of a data set, and split it as training would.

    Args:
        datamodule: The data set, not set up yet.
        limits: Of the shot groups.
        threads: Threads that decode.
        progress: Called with how many more files are done, and how many there are.

    Raises:
        SettingError: there is nothing to look into; what training alone would refuse is in `refused`.
    """
    catalogue = datamodule.catalogue()
    refused = None
    try:
        datamodule.setup()
        if not len(datamodule.split.test):
            raise SettingError(*NO_TEST)
    except SettingError as error:
        refused = error
    split: Split | None = vars(datamodule).get("split")  # also of what was refused later
    duplicates = [] if datamodule.duplicates is None else [f"warning: {datamodule.duplicates}"]
    source, total = catalogue.source, len(catalogue.names)
    if isinstance(source, FileSource):
        found = inspect_files(
            source.root,
            catalogue.names,
            threads=threads,
            max_pixels=source.max_pixels,
            progress=lambda done: progress(done, total),
        )
    else:
        found = inspect_samples(source, total, lambda done: progress(done, total))
    return DataCheck(catalogue, found, split, refused, [*catalogue.notes, *duplicates], limits)


def _frequencies(what: str, values: list[str]) -> list[str]:
    """The most frequent values."""
    counts = Counter(values)
    most = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common(5))
    return [f"{what}: {most}" + (f" and {len(counts) - 5:,} more" if len(counts) > 5 else "")]
