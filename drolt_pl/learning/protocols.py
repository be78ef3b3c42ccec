"""What the callbacks may touch: of a module, of the data, of the progress bar."""

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
    """A module that says when it needs centroids."""

    def needs_centroids(self, epoch: int, /) -> bool:
        """Whether an epoch needs them."""


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
        """Takes over the statistics of every kind of features."""


class TrainingData(Protocol):
    """What callbacks read of the data module.

    Attributes:
        batch_size: Training images of a step, of all ranks.
    """

    batch_size: int

    def centroid_dataloader(self) -> Batches:
        """The training set as it is, this rank's share."""

    def val_dataloader(self) -> Batches | None:
        """Validation images, this rank's share; none or an empty list where there are none."""


@runtime_checkable
class NamesSamples(Protocol):
    """A data module that knows which samples a step has."""

    def names_of_step(self, epoch: int, step: int, /) -> list[str]:
        """Names of this rank's samples in a step of an epoch, in the batch's order."""


def data_of(trainer: pl.Trainer) -> TrainingData:
    """The trainer's data module, an attribute that Lightning leaves untyped."""
    return cast(TrainingData, trainer.datamodule)  # type: ignore[attr-defined]


@runtime_checkable
class Tracks(Protocol):
    """A progress bar that has a line for passes over data."""

    def track(self, batches: Batches, description: str, /) -> Iterator[tuple[Tensor, Tensor]]:
        """Passes `batches` on and counts them."""


@runtime_checkable
class LogsHistograms(Protocol):
    """A logger that takes distributions."""

    def log_histogram(self, name: str, values: Tensor, epoch: int, /) -> None:
        """Adds the distribution of values to an epoch."""
