"""Iterating batches: from a tensor that stays on the device, or from worker processes that decode files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from drolt_pl.data.longtail import IntArray
from drolt_pl.data.sources import ImageError, ImageSource

LOADERS = ("auto", "memory", "workers")


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


class _DecodedBatches(Dataset[tuple[Tensor, Tensor] | ImageError]):
    """A data set whose items are whole batches, so that a worker hands over one tensor a batch.

    An unreadable image is handed over as well: raised in a worker, its sentence would arrive inside a traceback.
    """

    def __init__(
        self, source: ImageSource, indices: IntArray, targets: IntArray, batch_size: int, crops: CropSeeds | None
    ) -> None:
        self.source, self.indices, self.targets, self.batch_size = source, indices, targets, batch_size
        self.crops = crops

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __getitem__(self, batch: int) -> tuple[Tensor, Tensor] | ImageError:
        rows = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        keys = None
        if self.crops is not None:
            keys = [(*self.crops.key, int(position)) for position in self.crops.positions[rows]]
        try:
            return self.source.fetch(self.indices[rows], keys), torch.from_numpy(self.targets[rows])
        except ImageError as error:
            return error


class WorkerBatches:
    """Batches decoded by worker processes (or here, with 0 workers), then moved to the device.

    Args:
        source: Decodes.
        indices: Images in the order of the batches, (n,).
        targets: Their classes, (n,).
        batch_size: Images a batch; the last may be smaller.
        num_workers: Processes.
        device: Where the batches go, as uint8.
        crops: Seeds of random crops, or None for the evaluation view.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: IntArray,
        targets: IntArray,
        *,
        batch_size: int,
        num_workers: int,
        device: torch.device,
        crops: CropSeeds | None = None,
    ) -> None:
        self.device = device
        self.loader: DataLoader[tuple[Tensor, Tensor] | ImageError] = DataLoader(
            _DecodedBatches(source, indices, np.asarray(targets, np.int64), batch_size, crops),
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
            images, targets = batch
            yield images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
