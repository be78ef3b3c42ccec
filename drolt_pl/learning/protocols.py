"""The interfaces that callbacks use of a module, of the data, of the progress bar and of loggers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, cast, runtime_checkable

import pytorch_lightning as pl
from torch import Tensor

from drolt_pl.centroids import ClassStatistics

Batches = Iterable[tuple[Tensor, Tensor]]


@runtime_checkable
class Embeds(Protocol):
    """A module with features."""

    def embed(self, images: Tensor, /) -> Tensor:
        """Features (B, D) of images."""


class HasCentroids(Embeds, Protocol):
    """A LightningModule whose centroids `RefreshCentroids` can compute.

    Attributes:
        centroids: Buffer (C, D).
        centroid_counts: Buffer (C,), int64.
    """

    centroids: Tensor
    centroid_counts: Tensor


@runtime_checkable
class ChoosesEpochs(Protocol):
    """A module that decides in which epochs it needs centroids."""

    def needs_centroids(self, epoch: int, /) -> bool:
        """Whether an epoch needs centroids."""


@runtime_checkable
class TakesStatistics(ChoosesEpochs, Protocol):
    """A module that also takes the statistics itself.

    Attributes:
        centroids_are_current: Whether the centroids are those of the weights in force.
        feature_widths: Widths of the kinds of features that `embed` concatenates; the first is that of `centroids`.
    """

    centroids_are_current: bool

    @property
    def feature_widths(self) -> Sequence[int]: ...

    def set_statistics(self, statistics: Sequence[ClassStatistics], /) -> None:
        """Takes the statistics of every kind of features."""


class TrainingData(Protocol):
    """The part of the data module that callbacks read.

    Attributes:
        batch_size: Training images per step, on all ranks together.
    """

    batch_size: int

    def train_dataloader(self) -> Iterable[Sequence[object]]:
        """The batches of this rank in the epoch that the trainer runs."""

    def centroid_dataloader(self) -> Batches:
        """The training set of this rank, without augmentation or resampling."""

    def val_dataloader(self) -> Batches | None:
        """The validation images of this rank; None or an empty list if there are none."""


@runtime_checkable
class NamesSamples(Protocol):
    """A data module that knows which samples a step has."""

    def names_of_step(self, epoch: int, step: int, /) -> list[str]:
        """Names of this rank's samples in a step of an epoch, in the batch's order."""


def data_of(trainer: pl.Trainer) -> TrainingData:
    """The trainer's data module; Lightning leaves the attribute untyped."""
    return cast(TrainingData, trainer.datamodule)  # type: ignore[attr-defined]


@runtime_checkable
class Tracks(Protocol):
    """A progress bar with a line for other passes over data."""

    def track(self, batches: Batches, description: str, /) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields `batches` and counts them."""


@runtime_checkable
class LogsHistograms(Protocol):
    """A logger that takes distributions."""

    def log_histogram(self, name: str, values: Tensor, epoch: int, /) -> None:
        """Logs the distribution of values in an epoch."""
