"""The runs that a figure is made of: folders with their weights, or records."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from drolt_pl.backbones.layers import blocks
from drolt_pl.centroids import ClassStatistics, class_statistics, dataset_features
from drolt_pl.data.images.loaders import BatchLoader
from drolt_pl.errors import SettingError
from drolt_pl.kept import OF_A_RUN, SUFFIX, Kept, load_all
from drolt_pl.learning.protocols import Batches
from drolt_pl.results import Groups, Results
from drolt_pl.rows import Row, labelled
from drolt_pl.run.opened import OpenedRun, open_run

Features = tuple[Tensor, Tensor]
CPU = torch.device("cpu")
PIECE = 16_384  # samples that are classified at a time
FORM = "must be [LABEL=]FOLDER[:STAGE], or a kept run's file"


@dataclass(frozen=True)
class Source:
    """A run of a figure.

    Attributes:
        path: Its folder, the file of a kept run, or a folder of runs or kept runs over several seeds.
        stage: The stage whose last epoch is taken; None for the figure's own choice.
        name: What the figure calls it; None for the method and the stage.
        trust: See `open_run`.
    """

    path: Path
    stage: str | None = None
    name: str | None = None
    trust: bool = False

    @classmethod
    def parse(cls, word: str, *, trust: bool = False) -> "Source":
        """The source that a word of the command line names: `CE=outputs/DAY/TIME:ce_warmup`.

        Raises:
            SettingError: there is no such folder or file.
        """
        # A label and a path may both hold an "=": the first that a path stands behind parts them.
        for place in (0, *(found.end() for found in re.finditer("=", word))):
            path, _, stage = word[place:].rpartition(":")
            for candidate, chosen in ((word[place:], None), (path, stage)):
                if candidate and Path(candidate).exists():
                    return cls(Path(candidate), chosen, word[: place - 1] if place > 1 else None, trust)
        raise SettingError("RUN", FORM, word)

    def open(self, stage: str | None = None) -> "Opened":
        """The run with its weights, after its stage, else the given one.

        Raises:
            SettingError: it is the record of a run, whose weights are not kept; or see `open_run`.
        """
        if not self.path.is_dir():
            raise SettingError("RUN", "must be a run's folder: this figure is made from its weights", str(self.path))
        run = open_run(self.path, self.stage or stage, trust=self.trust)
        return Opened(run, self.name or f"{run.method}, {run.stage}")

    @property
    def results(self) -> Results:
        """The record of the run.

        Raises:
            SettingError: there is none.
        """
        if self.path.suffix == SUFFIX and self.path.name != OF_A_RUN:
            return Kept.load(self.path).results
        return Results.load(self.path / OF_A_RUN if self.path.is_dir() else self.path)

    @property
    def seeds(self) -> list[Results]:
        """The record of the run, or those of a folder of runs, or of kept ones, that differ in their seeds.

        Raises:
            SettingError: there is none, or two are of one seed.
        """
        if not self.path.is_dir() or (self.path / OF_A_RUN).exists():
            return [self.results]
        folders = self._folders()
        found = list(folders.values()) or [kept.results for kept in load_all(self.path).values()]
        if len({(results.label, results.seed) for results in found}) < len(found) or len({r.label for r in found}) > 1:
            raise SettingError("RUN", "must be a folder of runs that differ in their seeds alone", str(self.path))
        return found

    def open_seeds(self, stage: str | None = None) -> "list[Opened]":
        """As `open`, of the run, or of each run of a folder of runs that differ in their seeds, as a sweep leaves it.

        Raises:
            SettingError: as `open` and `seeds`.
        """
        folders = self._folders()
        if not folders:
            return [self.open(stage)]
        order = [results.seed for results in self.seeds]
        return [replace(self, path=path).open(stage) for _, path in sorted(zip(order, folders, strict=True))]

    def _folders(self) -> dict[Path, Results]:
        """The runs in the folder; none where it is a run itself, or holds kept ones."""
        if not self.path.is_dir() or (self.path / OF_A_RUN).exists():
            return {}
        return {file.parent: Results.load(file) for file in sorted(self.path.glob(f"*/{OF_A_RUN}"))}

    def label_of(self, results: Results) -> str:
        """What the figure calls a run that it knows by its record."""
        return self.name or (f"{results.label}, {self.stage}" if self.stage else results.label)

    def epochs(self) -> list[str]:
        """The snapshots of the run in their order.

        Raises:
            SettingError: it kept none.
        """
        found = sorted(path.stem for path in (self.path / "checkpoints").glob("epoch*.ckpt"))
        if not found:
            demand = "must be a run with callbacks=[default,snapshots]: it kept no weights of single epochs"
            raise SettingError("RUN", demand, str(self.path))
        return found


@dataclass(frozen=True)
class Opened:
    """A run after a stage, with features of its data as figures need them, on the CPU."""

    run: OpenedRun
    label: str

    def rows(self, measured: Iterable[Row]) -> list[Row]:
        """Rows of this run: with its name and its seed."""
        return labelled(self.label, ({"seed": self.run.seed, **row} for row in measured))

    @property
    def groups(self) -> Groups:
        """Limits of the shot groups."""
        return self.run.groups

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.run.datamodule.class_counts)

    @property
    def counts(self) -> Tensor:
        """Training images by class, (C,)."""
        return torch.tensor(self.run.datamodule.class_counts)

    @property
    def layers(self) -> list[str]:
        """The first convolution and the blocks: of a ResNet-32, what is behind its convolutions 0, 10, 20 and 30."""
        names = [name for name, part in self.run.backbone.named_modules() if isinstance(part, torch.nn.Conv2d)]
        return [*(name for name in names[:1] if name == "conv1"), *blocks(self.run.backbone)]

    @cached_property
    def train(self) -> Features:
        """Features, as the loss measures them, and targets of the training images."""
        return self._measured(self._of(self.run.datamodule.centroid_dataloader()))

    @cached_property
    def test(self) -> Features:
        """Features, as the classifier takes them, and targets of the test images."""
        return self._of(self.run.datamodule.test_dataloader())

    @cached_property
    def held_out(self) -> Features:
        """Features and targets of images that no weight was trained on: validation, and what the cut removed.

        Raises:
            SettingError: the run holds none back.
        """
        found = [self._measured(self._of(loader)) for loader in self.held_out_loaders()]
        return torch.cat([features for features, _ in found]), torch.cat([targets for _, targets in found])

    def held_out_loaders(self) -> list[BatchLoader]:
        """The loaders of such images: of the validation images first, where there are some."""
        val, pool = self.run.datamodule.val_dataloader(), self.run.datamodule.pool_dataloader()
        found = [loader for loader in (val, pool) if isinstance(loader, BatchLoader)]
        if not found:
            raise SettingError("RUN", "must hold images back, as protocol=holdout and a cut data set do", self.label)
        return found

    def statistics(self, features: Features) -> ClassStatistics:
        """Class means and variances of features."""
        return class_statistics(*features, self.num_classes)

    @torch.no_grad()
    def logits(self) -> Features:
        """Logits and targets of the test images, by the stage's classifier."""
        features, targets = self.test
        classifier = self.run.classifier.eval().cpu()
        return torch.cat([classifier(piece) for piece in torch.split(features, PIECE)]), targets

    def _of(self, loader: Batches) -> Features:
        backbone = self.run.backbone.eval().to(_device())
        with torch.no_grad():
            features, targets = dataset_features(backbone, loader, device=_device())
        return features.cpu(), targets.cpu()

    def _measured(self, found: Features) -> Features:
        """Features as the loss measures them."""
        return self.run.measure.normalise(found[0]), found[1]


def recorded(sources: Iterable[Source]) -> list[tuple[Source, Results]]:
    """Each source with its record, or with the record of each of its seeds."""
    return [(source, results) for source in sources for results in source.seeds]


def opened(sources: Iterable[Source], stage: str | None = None) -> list[Opened]:
    """The runs of sources, each of its seeds."""
    return [found for source in sources for found in source.open_seeds(stage)]


def longest_tail(runs: Sequence[Opened]) -> Tensor:
    """The class counts of the run whose largest class is the most times its smallest."""
    names = runs[0].run.datamodule.class_names
    if any(found.run.datamodule.class_names != names for found in runs):
        raise SettingError("RUN", "must be runs on the same classes, in the same order")
    return max((found.counts for found in runs), key=lambda counts: float(counts.max() / counts.min()))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
