"""The images of a split: held on the training device, or decoded by workers, as `dataset.loader` says."""

import os

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from drolt_pl.data.images.loaders import BatchSource, CropSeeds, MemoryBatches, Part, WorkerBatches
from drolt_pl.data.images.readable import OnCorrupt, fetch_readable, none_readable, stand_ins
from drolt_pl.data.images.sources import Catalogue
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.split import PARTS, Split

LOADERS = ("auto", "memory", "workers")
SKIPS = ("error", "skip")
MEMORY_LIMIT = 2 * 1024**3  # bytes of decoded images up to which `loader=auto` holds them


class ImageStore:
    """Gives batches of any rows of any part of the split.

    An image that cannot be read stops the run (`error`), or (`skip`) the next one of its class takes its place in
    training, while evaluation and the centroid pass do without it.

    Args:
        catalogue: All images.
        split: The parts.
        loader: One of `LOADERS`.
        num_workers: Processes that decode.
        on_corrupt: One of `SKIPS`.

    Attributes:
        unreadable: Images met in this process that cannot be read, as indices into the catalogue.
    """

    def __init__(self, catalogue: Catalogue, split: Split, *, loader: str, num_workers: int, on_corrupt: str) -> None:
        self.source, self.num_workers, self.on_corrupt = catalogue.source, num_workers, on_corrupt
        self.parts: dict[str, Part] = {}
        for name in PARTS:
            indices = getattr(split, name)
            self.parts[name] = Part(catalogue.source, indices, catalogue.targets[indices])
        num_images = sum(len(part.indices) for part in self.parts.values())
        fits = num_images * int(np.prod(catalogue.source.shape)) <= MEMORY_LIMIT and not catalogue.source.random_crop
        self.in_memory = loader == "memory" or (loader == "auto" and fits)
        self.unreadable: set[int] = set()
        self._resident: dict[str, tuple[Tensor, Tensor, NDArray[np.bool_]]] = {}

    def training_batches(
        self, rows: IntArray, batch_size: int, device: torch.device, crops: CropSeeds | None
    ) -> BatchSource:
        """Batches of rows of the training part, as many and of the classes asked for."""
        if not self.in_memory:
            return self._worker_batches("train", rows, batch_size, device, crops, "replace")
        images, targets, readable = self._held("train", device)
        if not readable.all():
            rows = _replaced(readable, self.parts["train"].targets)[rows]
        return MemoryBatches(images, targets, rows, batch_size)

    def evaluation_batches(self, name: str, rows: IntArray, batch_size: int, device: torch.device) -> BatchSource:
        """Batches of rows of a part, in order."""
        if not self.in_memory:
            return self._worker_batches(name, rows, batch_size, device, None, "leave_out")
        images, targets, readable = self._held(name, device)
        return MemoryBatches(images, targets, rows[readable[rows]], batch_size)

    def unreadable_anywhere(self) -> set[int]:
        """`unreadable` of all ranks together; every rank must ask."""
        found: list[list[int]] = [sorted(self.unreadable)]
        if dist.is_available() and dist.is_initialized():
            found = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(found, sorted(self.unreadable))
        return {index for indices in found for index in indices}

    def _worker_batches(
        self,
        name: str,
        rows: IntArray,
        batch_size: int,
        device: torch.device,
        crops: CropSeeds | None,
        on_corrupt: OnCorrupt,
    ) -> WorkerBatches:
        part = self.parts[name]
        return WorkerBatches(
            part,
            rows,
            batch_size=batch_size,
            num_workers=self.num_workers,
            device=device,
            crops=crops,
            on_corrupt="error" if self.on_corrupt == "error" else on_corrupt,
            report=lambda unreadable: self.unreadable.update(part.indices[unreadable].tolist()),
        )

    def _held(self, name: str, device: torch.device) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
        """uint8 images and targets of a part on the device, and which could be read; decoded when first asked for."""
        if name not in self._resident:
            indices, threads = self.parts[name].indices, min(8, os.cpu_count() or 1)
            if self.on_corrupt == "error":
                images, readable = self.source.fetch(indices, threads=threads), np.ones(len(indices), np.bool_)
            else:
                images, readable = fetch_readable(self.source, indices, threads=threads)
            self.unreadable.update(indices[~readable].tolist())
            self._resident[name] = (images, torch.from_numpy(self.parts[name].targets), readable)
        images, targets, readable = self._resident[name]
        if images.device != device:
            self._resident[name] = (images.to(device), targets.to(device), readable)
        return self._resident[name]


def _replaced(readable: NDArray[np.bool_], targets: IntArray) -> IntArray:
    """The row that stands for each row, (n,): itself if it can be read."""
    rows = np.arange(len(targets))
    for row in np.flatnonzero(~readable):
        found = next((other for other in stand_ins(int(row), targets) if readable[other]), None)
        if found is None:
            raise none_readable(targets[row])
        rows[row] = found
    return rows
