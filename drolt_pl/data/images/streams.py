"""Several streams of batches side by side, each drawn by its own sampler."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor

from drolt_pl.data.longtail import IntArray

# Samples and targets, and for mixed samples the targets mixed in and the shares kept.
Batch = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor, Tensor]
StreamsBatch = tuple[Tensor, Tensor, Tensor | None, Tensor | None, tuple[Batch, ...]]


class Stream(Protocol):
    """The loader of one stream."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def rows_of(self, number: int) -> IntArray:
        """The rows of one batch."""


class Streams:
    """Gives a batch of every stream at each step.

    A step is `(samples, targets, partners, shares, others)`: the first stream's batch, with None for partners and
    shares where nothing is mixed, and the batches of the other streams as they come.

    Args:
        streams: Loaders with equally many batches.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        self.streams = list(streams)

    def __len__(self) -> int:
        return len(self.streams[0])

    def __iter__(self) -> Iterator[StreamsBatch]:
        for first, *others in zip(*self.streams, strict=True):
            samples, targets, partners, shares = first if len(first) == 4 else (*first, None, None)
            yield samples, targets, partners, shares, tuple(others)

    def rows_of(self, number: int) -> IntArray:
        """The rows of one batch of the first stream."""
        return self.streams[0].rows_of(number)
