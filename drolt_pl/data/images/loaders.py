"""Iterating batches: from a tensor that stays on the device, or from worker processes that decode files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from drolt_pl.data.images.readable import OnCorrupt, fetch_readable, none_readable, stand_ins
from drolt_pl.data.images.sources import ImageError, ImageSource
from drolt_pl.data.longtail import IntArray


class BatchSource(Protocol):
    """Gives uint8 images (B, C, H, W) and int64 targets (B,), batch by batch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


class BatchLoader:
    """What the trainer iterates: uint8 batches, transformed as a batch.

    Every iteration starts from the same seed, so a loader gives the same pixels each time it is gone through; a new
    epoch is a new loader.

    Args:
        batches: Source of uint8 batches.
        transform: Takes uint8 images and a CPU generator, gives float images.
        make_generator: Makes the generator of one iteration.
    """

    def __init__(
        self,
        batches: BatchSource,
        transform: Callable[[Tensor, torch.Generator], Tensor],
        make_generator: Callable[[], torch.Generator],
    ) -> None:
        self.batches = batches
        self.transform = transform
        self.make_generator = make_generator

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = self.make_generator()
        for images, targets in self.batches:
            yield self.transform(images, generator), targets


class MemoryBatches:
    """Batches indexed out of tensors; no process, no copy between devices.

    Args:
        images: uint8, (n, C, H, W), on any device.
        targets: int64, (n,), on the same device.
        rows: Rows in the order of the batches.
        batch_size: Rows a batch; the last may be smaller.
    """

    def __init__(self, images: Tensor, targets: Tensor, rows: IntArray, batch_size: int) -> None:
        self.images, self.targets, self.rows, self.batch_size = images, targets, rows, batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.from_numpy(self.rows).to(self.images.device)
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            yield self.images[batch], self.targets[batch]


@dataclass(frozen=True, kw_only=True)
class CropSeeds:
    """Seeds of the random crops made at decoding: `key` and the sample's place in the one-process stream."""

    key: tuple[int, ...]
    positions: IntArray


class Part(NamedTuple):
    """One part of the split: row r is image `indices[r]` of the source, of class `targets[r]`."""

    source: ImageSource
    indices: IntArray
    targets: IntArray


class Batch(NamedTuple):
    """What a worker hands over."""

    images: Tensor  # uint8, (b, C, H, W)
    targets: Tensor  # int64, (b,)
    unreadable: list[int]  # rows met that cannot be read


class _DecodedBatches(Dataset[Batch | ImageError]):
    """A data set whose items are whole batches, so that a worker hands over one tensor a batch.

    What stops the run is handed over as well: raised in a worker, its sentence would arrive inside a traceback.
    """

    def __init__(
        self, part: Part, rows: IntArray, batch_size: int, crops: CropSeeds | None, on_corrupt: OnCorrupt
    ) -> None:
        self.part, self.rows, self.batch_size = part, rows, batch_size
        self.crops, self.on_corrupt = crops, on_corrupt

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, batch: int) -> Batch | ImageError:
        places = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        rows, keys = self.rows[places], None
        if self.crops is not None:
            keys = [(*self.crops.key, int(position)) for position in self.crops.positions[places]]
        try:
            if self.on_corrupt != "error":
                return self._readable(rows, keys)
            images = self.part.source.fetch(self.part.indices[rows], keys)
            return Batch(images, torch.from_numpy(self.part.targets[rows]), [])
        except ImageError as error:
            return error

    def _readable(self, rows: IntArray, keys: list[tuple[int, ...]] | None) -> Batch:
        source, indices, targets = self.part
        images, readable = fetch_readable(source, indices[rows], keys)
        unreadable: list[int] = rows[~readable].tolist()
        if self.on_corrupt == "replace":
            for place in np.flatnonzero(~readable):
                key = None if keys is None else keys[place : place + 1]
                for row in stand_ins(int(rows[place]), targets):
                    image, found = fetch_readable(source, indices[[row]], key)
                    if found[0]:
                        images[place], readable[place] = image[0], True
                        break
                    unreadable.append(row)
                else:
                    raise none_readable(targets[rows[place]])
        return Batch(images[torch.from_numpy(readable)], torch.from_numpy(targets[rows[readable]]), unreadable)


class WorkerBatches:
    """Batches decoded by worker processes (or here, with 0 workers), then moved to the device.

    Args:
        part: The images.
        rows: Rows of the part in the order of the batches, (n,).
        batch_size: Images a batch; the last may be smaller.
        num_workers: Processes.
        device: Where the batches go, as uint8.
        crops: Seeds of random crops, or None for the evaluation view.
        on_corrupt: What becomes of an image that cannot be read.
        report: Told the rows met that cannot be read.
    """

    def __init__(
        self,
        part: Part,
        rows: IntArray,
        *,
        batch_size: int,
        num_workers: int,
        device: torch.device,
        crops: CropSeeds | None = None,
        on_corrupt: OnCorrupt = "error",
        report: Callable[[list[int]], None] = lambda rows: None,
    ) -> None:
        self.device, self.report = device, report
        self.loader: DataLoader[Batch | ImageError] = DataLoader(
            _DecodedBatches(part, rows, batch_size, crops, on_corrupt),
            batch_size=None,
            num_workers=num_workers,
            pin_memory=device.type == "cuda",
            # Decoding draws nothing from it; it keeps the loader from drawing its workers' seed globally.
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
                    batch.images.to(self.device, non_blocking=True),
                    batch.targets.to(self.device, non_blocking=True),
                )
