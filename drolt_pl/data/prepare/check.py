"""Looking into a data set: classes, groups, sizes, modes, and defects of its image files or of its stored features."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drolt_pl.data.images.sources import FileSource
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.prepare.index import PART_NAMES, load_index
from drolt_pl.data.prepare.inspection import Inspection, inspect_features, inspect_files
from drolt_pl.data.prepare.published import listed
from drolt_pl.data.sets.features import FeaturesLT
from drolt_pl.data.sets.folder import ImageFolderLT
from drolt_pl.data.sets.manifest import ManifestLT
from drolt_pl.data.sources import Catalogue
from drolt_pl.data.stored import holds_features, read_features
from drolt_pl.groups import FEW, MANY, group_masks

BARS, BAR_WIDTH = 30, 40  # classes that the text histogram shows, and its longest bar


def open_catalogue(path: Path, root: Path | None) -> tuple[Path, Catalogue]:
    """Open a folder, a manifest (.csv, .csv.gz) or an index (.npz): its images' folder, and its catalogue."""
    if path.is_dir():
        return path, ImageFolderLT(root=path, image_size=1).catalogue()
    if path.suffix != ".npz":
        manifest = ManifestLT(manifest=path, root=root, image_size=1)
        return manifest.root, manifest.catalogue()
    index = load_index(path)
    images = Path(index.root) if root is None else root
    return images, Catalogue(
        names=index.names,
        targets=index.targets,
        official=np.array(PART_NAMES)[index.official],
        class_names=index.class_names.tolist(),
        source=FileSource(images, index.names, image_size=1),
    )


@dataclass(frozen=True)
class DataCheck:
    """A data set's files, looked into.

    Attributes:
        catalogue: Its images.
        found: Sizes, modes and defects of their files.
    """

    catalogue: Catalogue
    found: Inspection

    @property
    def class_counts(self) -> IntArray:
        """Training images of each class, (C,)."""
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
        training: dict[bytes, int] = {}
        others = []
        for place, digest in enumerate(self.found.digests):
            if self.catalogue.official[place] == "train":
                training.setdefault(digest.tobytes(), place)
            elif digest.tobytes().strip(b"\0"):  # a file that could not be opened has a digest of zeros
                others.append(place)
        pairs = [(training.get(self.found.digests[place].tobytes()), place) for place in others]
        return [f"{self._name(one)} = {self._name(other)}" for one, other in pairs if one is not None]

    def report(self) -> str:
        """Everything as text."""
        counts = self.class_counts
        parts = Counter(self.catalogue.official.tolist())
        lines = [
            f"{len(counts):,} classes; images: " + ", ".join(f"{part} {parts[part]:,}" for part in PART_NAMES),
            f"training images a class: {counts.max():,} to {counts.min():,}, ratio {counts.max() / counts.min():.1f}",
        ]
        for name, mask in group_masks(counts).items():
            lines.append(f"  {name}: {mask.sum():,} classes, {counts[mask].sum():,} images")
        lines += ["", *self._bars(counts), ""]
        lines += _frequencies("sizes", [f"{width}x{height}" for width, height in self.found.sizes.tolist() if width])
        lines += _frequencies("modes", [mode for mode in self.found.modes.tolist() if mode])
        lines += listed("files that cannot be read", self.unreadable)
        lines += listed("images of validation or test that are training images", self.shared)
        return "\n".join(lines)

    def draw(self, path: Path) -> None:
        """Write the class histogram as a PNG image."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        counts = np.sort(self.class_counts)[::-1]
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.bar(np.arange(len(counts)) + 1, counts, width=1.0)
        for border, group in ((MANY, "many: above"), (FEW, "few: below")):
            axes.axhline(border, color="black", linewidth=0.8, linestyle="--", label=f"{group} {border}")
        axes.set(yscale="log", xlabel="class, most frequent first", ylabel="training images")
        axes.set_xlim(0.5, len(counts) + 0.5)
        axes.legend(loc="upper right", framealpha=1.0)
        FigureCanvasAgg(figure).print_png(path)

    def _bars(self, counts: IntArray) -> list[str]:
        """A line for each class, most frequent first; of many classes, evenly spaced ones."""
        order = np.argsort(-counts, kind="stable")
        shown = order[np.unique(np.linspace(0, len(order) - 1, min(BARS, len(order))).round().astype(int))]
        names = [self.catalogue.class_names[class_id] for class_id in shown]
        width = min(max(map(len, names)), 40)
        lines = [
            f"{name[:width]:{width}} {counts[class_id]:>8,} "
            + "#" * max(1, round(BAR_WIDTH * counts[class_id] / counts.max()))
            for name, class_id in zip(names, shown, strict=True)
        ]
        return lines if len(shown) == len(order) else [*lines, f"({len(shown)} of {len(order):,} classes)"]

    def _name(self, place: int) -> str:
        return os.fsdecode(self.catalogue.names[place])


def check_data(
    path: Path, *, root: Path | None = None, threads: int = 1, progress: Callable[[int, int], None] = lambda *_: None
) -> DataCheck:
    """Look into every file of a folder, manifest or index, or into every row of a file of features.

    Args:
        path: See `open_catalogue`, or a file of features.
        root: Folder that the paths of a manifest or index are relative to, if not the default.
        threads: Threads that decode.
        progress: Called with how many more files are done, and how many there are.
    """
    if path.is_file() and holds_features(path):
        stored = read_features(path)
        progress(len(stored.targets), len(stored.targets))
        return DataCheck(FeaturesLT(file=path).catalogue(), inspect_features(stored.features))
    images, catalogue = open_catalogue(path, root)
    total = len(catalogue.names)
    found = inspect_files(images, catalogue.names, threads=threads, progress=lambda done: progress(done, total))
    return DataCheck(catalogue, found)


def _frequencies(what: str, values: list[str]) -> list[str]:
    """The most frequent values."""
    counts = Counter(values)
    most = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common(5))
    return [f"{what}: {most}" + (f" and {len(counts) - 5:,} more" if len(counts) > 5 else "")]
