"""The contents of a data set: samples by index, their names and labels."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drolt_pl.data.augment.transforms import Augment
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.data.longtail import IntArray
from drolt_pl.errors import SettingError

# Takes a batch as `Source.fetch` gives it and a CPU generator, gives the batch that the network sees.
Transform = Callable[[Tensor, torch.Generator], Tensor]


class Source(ABC):
    """Gives the samples of a data set by index, all of one shape: images or stored features.

    Attributes:
        shape: Of one sample, as fetched and as the network sees it, e.g. (C, H, W) or (D,).
        dtype: Of the tensor that `fetch` gives.
        keyed: Whether a sample comes out differently for each key. Such samples are fetched for every epoch anew.
        views: How many views of a training sample are stored; None where views are drawn when needed, by augmentation.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    keyed: bool = False
    views: int | None = None

    @abstractmethod
    def fetch(self, indices: IntArray, keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1) -> Tensor:
        """Read samples, (n, *shape).

        Args:
            indices: Samples to read, (n,).
            keys: One key a sample, which seeds its random crop or the like; None for the evaluation view.
            threads: Threads that read.
        """

    def in_view(self, indices: IntArray, view: int) -> IntArray:
        """Under which indices `fetch` gives a stored view of training samples, (n,)."""
        return indices

    def transform(
        self, mean: Sequence[float] | None, std: Sequence[float] | None, augment: Augment | None
    ) -> Transform:
        """Make the step from fetched samples to the network's input. This one changes nothing.

        The arguments are those of `LongTailDataModule`; one that does not fit the samples raises a `SettingError`.
        """
        for name, value in (("mean", mean), ("std", std), ("augment", augment)):
            if value is not None:
                raise SettingError(name, "must be null for samples that are not images", value)
        return unchanged

    def paths(self, indices: IntArray) -> list[str] | None:
        """Where samples lie, if each has a file of its own; None for samples that have none."""
        return None

    def contents(self, indices: IntArray) -> NDArray[np.uint8] | None:
        """The bytes of samples, (n, k), if the source holds all samples in memory; else None."""
        return None

    def preprocessing(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> Preprocessing | None:
        """What one more image goes through before the network sees it; null for samples that are not images."""
        return None


def unchanged(samples: Tensor, generator: torch.Generator) -> Tensor:
    """The transform that changes nothing."""
    return samples


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All samples of a data set by name and label; none has been read.

    Attributes:
        names: Identity of each sample on any machine, (N,), e.g. its path below the root. A NumPy array of bytes is
            one block of memory, which worker processes share; a list of str would be copied page by page.
        targets: Class of each sample, (N,), int64 in [0, C).
        official: Part that each sample comes in, (N,): "train", "val" or "test".
        class_names: C names in label order.
        source: Gives the samples.
        digests: A number for the content of each sample, (N,), where it is known; None where it is not.
        notes: What a user should know of how they were found, a sentence each.
    """

    names: NDArray[np.bytes_]
    targets: IntArray
    official: NDArray[np.str_]
    class_names: list[str]
    source: Source
    digests: NDArray[np.uint64] | None = None
    notes: tuple[str, ...] = ()
