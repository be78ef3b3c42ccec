"""Iterating batches: from a tensor that stays on the device, or from worker processes that read files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from drolt_pl.data.images.decoding import ImageError
from drolt_pl.data.images.readable import OnCorrupt, fetch_readable, none_readable, stand_ins
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.sources import Source, Transform


class BatchSource(Protocol):
    """Gives samples as their source fetches them, (B, *shape), and int64 targets (B,), batch by batch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def rows_of(self, number: int) -> IntArray:
        """The rows of one batch."""


class BatchLoader:
    """Gives the trainer its batches, each transformed as a whole.

    Every iteration starts from the same seed, so a loader gives the same values each time; a new epoch needs a new
    loader.

    Args:
        batches: Gives the batches as fetched.
        transform: Makes the network's input of them.
        make_generator: Makes the generator of one iteration.
    """

    def __init__(
        self,
        batches: BatchSource,
        transform: Transform,
        make_generator: Callable[[], torch.Generator],
    ) -> None:
        self.batches = batches
        self.transform = transform
        self.make_generator = make_generator

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = self.make_generator()
        for samples, targets in self.batches:
            yield self.transform(samples, generator), targets

    def rows_of(self, number: int) -> IntArray:
        """The rows of one batch."""
        return self.batches.rows_of(number)


class MemoryBatches:
    """Indexes batches out of tensors, without another process or a copy between devices.

    Args:
        samples: (n, *shape), on any device.
        targets: int64, (n,), on the same device.
        rows: Rows in the order of the batches.
        batch_size: Rows a batch; the last may be smaller.
    """

    def __init__(self, samples: Tensor, targets: Tensor, rows: IntArray, batch_size: int) -> None:
        self.samples, self.targets, self.rows, self.batch_size = samples, targets, rows, batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.from_numpy(self.rows).to(self.samples.device)
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            yield self.samples.index_select(0, batch), self.targets.index_select(0, batch)

    def rows_of(self, number: int) -> IntArray:
        """The rows of one batch."""
        return self.rows[number * self.batch_size : (number + 1) * self.batch_size]


@dataclass(frozen=True)
class SampleKeys:
    """Keys that `Source.fetch` takes: the key of an epoch, and each sample's place in its one-process stream."""

    epoch: tuple[int, ...]
    positions: IntArray

    def at(self, places: slice) -> list[tuple[int, ...]]:
        """The keys of some places among this rank's samples."""
        return [(*self.epoch, int(position)) for position in self.positions[places]]


class Part(NamedTuple):
    """One part of the split: row r is sample `indices[r]` of the source, of class `targets[r]`."""

    source: Source
    indices: IntArray
    targets: IntArray


class Batch(NamedTuple):
    """A batch as a worker hands it over."""

    samples: Tensor  # as fetched, (b, *shape)
    targets: Tensor  # int64, (b,)
    unreadable: list[int]  # rows that turned out to be unreadable


class _FetchedBatches(Dataset[Batch | ImageError]):
    """A data set whose items are whole batches, so that a worker hands over one tensor a batch.

    An error that stops the run is handed over as well: raised in a worker, it would arrive inside a traceback.
    """

    def __init__(
        self, part: Part, rows: IntArray, batch_size: int, keys: SampleKeys | None, on_corrupt: OnCorrupt
    ) -> None:
        self.part, self.rows, self.batch_size = part, rows, batch_size
        self.keys, self.on_corrupt = keys, on_corrupt

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, batch: int) -> Batch | ImageError:
        places = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        rows, keys = self.rows[places], None if self.keys is None else self.keys.at(places)
        try:
            if self.on_corrupt != "error":
                return self._readable(rows, keys)
            samples = self.part.source.fetch(self.part.indices[rows], keys)
            return Batch(samples, torch.from_numpy(self.part.targets[rows]), [])
        except ImageError as error:
            return error

    def _readable(self, rows: IntArray, keys: list[tuple[int, ...]] | None) -> Batch:
        source, indices, targets = self.part
        samples, readable = fetch_readable(source, indices[rows], keys)
        unreadable: list[int] = rows[~readable].tolist()
        if self.on_corrupt == "replace":
            for place in np.flatnonzero(~readable):
                key = None if keys is None else keys[place : place + 1]
                for row in stand_ins(int(rows[place]), targets):
                    sample, found = fetch_readable(source, indices[[row]], key)
                    if found[0]:
                        samples[place], readable[place] = sample[0], True
                        break
                    unreadable.append(row)
                else:
                    raise none_readable(targets[rows[place]])
        return Batch(samples[torch.from_numpy(readable)], torch.from_numpy(targets[rows[readable]]), unreadable)


class WorkerBatches:
    """Fetches batches in worker processes (with 0 workers in this one), and moves them to the device.

    Args:
        part: The samples.
        rows: Rows of the part in the order of the batches, (n,).
        batch_size: Samples a batch; the last may be smaller.
        num_workers: Processes.
        device: Where the batches go, as fetched.
        keys: Keys of the training views, or None for the evaluation view.
        on_corrupt: Whether a sample that cannot be read stops the run, is replaced or is left out.
        report: Called with the rows that turned out to be unreadable.
    """

    def __init__(
        self,
        part: Part,
        rows: IntArray,
        *,
        batch_size: int,
        num_workers: int,
        device: torch.device,
        keys: SampleKeys | None = None,
        on_corrupt: OnCorrupt = "error",
        report: Callable[[list[int]], None] = lambda rows: None,
    ) -> None:
        self.device, self.report = device, report
        self.rows, self.batch_size = rows, batch_size
        self.loader: DataLoader[Batch | ImageError] = DataLoader(
            _FetchedBatches(part, rows, batch_size, keys, on_corrupt),
            batch_size=None,
            num_workers=num_workers,
            pin_memory=device.type == "cuda",
            # Nothing is drawn from it; without it the loader would take its workers' seed from the global state.
            generator=torch.Generator().manual_seed(0),
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.loader:
            if isinstance(batch, ImageError):
                raise batch
            if batch.unreadable:
                self.report(batch.unreadable)
            if len(batch.targets):
                yield (
                    batch.samples.to(self.device, non_blocking=True),
                    batch.targets.to(self.device, non_blocking=True),
                )

    def rows_of(self, number: int) -> IntArray:
        """The rows of one batch, before any stand-in."""
        return self.rows[number * self.batch_size : (number + 1) * self.batch_size]
