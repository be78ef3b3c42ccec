"""The samples of a split: held on the training device, or read by workers, as `dataset.loader` says."""

import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from drolt_pl.data.images.loaders import BatchSource, MemoryBatches, Part, SampleKeys, WorkerBatches
from drolt_pl.data.images.readable import OnCorrupt, fetch_readable, none_readable, stand_ins
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.overlap import require_disjoint
from drolt_pl.data.plan import in_views
from drolt_pl.data.sources import Catalogue
from drolt_pl.data.split import Split
from drolt_pl.errors import SettingError, require

MEMORY_LIMIT = 2 * 1024**3  # bytes of samples up to which `loader=auto` holds them


class SampleStore:
    """Gives batches of any rows of any part of the split.

    With `error`, a sample that cannot be read stops the run. With `skip`, the next one of its class takes its place
    in training, while evaluation and the centroid pass do without it.

    Args:
        catalogue: All samples.
        split: The parts.
        loader: See `LongTailDataModule`.
        num_workers: Processes that read.
        on_corrupt: See `LongTailDataModule`.

    Attributes:
        training: Name of the part that training draws from: `train`, or `views` where several views are stored.
        unreadable: Samples that this process could not read, as indices into the catalogue.
        duplicates, sha256: What `require_disjoint` has found; see `overlap.require_disjoint`.
    """

    duplicates: str | None
    sha256: str

    def __init__(self, catalogue: Catalogue, split: Split, loader: str, *, num_workers: int, on_corrupt: str) -> None:
        source = catalogue.source
        if source.keyed:
            demand = "must be 'workers' where every epoch reads other views, as for train_crop='random_resized'"
            require("loader", loader, loader != "memory", demand)
        self.catalogue, self.split, self.source = catalogue, split, source
        self.num_workers, self.on_corrupt = num_workers, on_corrupt
        self.parts = {name: Part(source, indices, catalogue.targets[indices]) for name, indices in split.parts.items()}
        self.training = "train"
        if self.stored_views > 1:
            self.training, train = "views", self.parts["train"]
            indices = [source.in_view(train.indices, view) for view in range(self.stored_views)]
            self.parts["views"] = Part(source, np.concatenate(indices), np.tile(train.targets, self.stored_views))
        num_samples = sum(len(part.indices) for part in self.parts.values())
        fits = num_samples * int(np.prod(source.shape)) * source.dtype.itemsize <= MEMORY_LIMIT and not source.keyed
        self.in_memory = loader == "memory" or (loader == "auto" and fits)
        self.unreadable: set[int] = set()
        self._resident: dict[str, tuple[Tensor, Tensor, NDArray[np.bool_]]] = {}

    @property
    def stored_views(self) -> int:
        """Views of a training sample that the source stores, 1 where it augments or has no others."""
        return self.source.views or 1

    def require_views(self, views: int) -> None:
        """Refuses a stage of more views than are stored."""
        fits = self.source.views is None or views <= self.source.views
        demand = f"must be at most {self.source.views}, the views of a training sample that the file holds"
        if not fits:
            raise SettingError("views", demand, views, remedy="store more: drolt embed --views")

    def rows_in_views(self, rows: IntArray, batch_size: int, views: int, epoch: int) -> IntArray:
        """Rows for `training_batches`, those of each batch `views` times; stored views are taken in turn."""
        tiled = in_views(rows, batch_size, views)
        if self.stored_views == 1:
            return tiled
        number = in_views(np.zeros_like(rows), batch_size, views, offset=1)
        return tiled + (epoch * views + number) % self.stored_views * len(self.parts["train"].indices)

    def require_disjoint(self, *, pool: bool, allow_duplicates: bool) -> None:
        """Refuses parts of the split that share images; see `overlap.require_disjoint` and `Split.disjoint`."""
        self.duplicates, self.sha256 = require_disjoint(
            self.catalogue,
            self.split.disjoint(pool=pool),
            reads=self.in_memory,
            on_corrupt=self.on_corrupt,
            allow_duplicates=allow_duplicates,
        )

    def training_batches(
        self, rows: IntArray, batch_size: int, device: torch.device, keys: SampleKeys | None
    ) -> BatchSource:
        """Batches of rows of the training part. A stand-in is of the same class, so sizes and classes stay."""
        if not self.in_memory:
            return self._worker_batches(self.training, rows, batch_size, device, keys, "replace")
        samples, targets, readable = self._held(self.training, device)
        if not readable.all():
            rows = _replaced(readable, self.parts[self.training].targets)[rows]
        return MemoryBatches(samples, targets, rows, batch_size)

    def evaluation_batches(self, name: str, rows: IntArray, batch_size: int, device: torch.device) -> BatchSource:
        """Batches of rows of a part, in order."""
        if not self.in_memory:
            return self._worker_batches(name, rows, batch_size, device, None, "leave_out")
        samples, targets, readable = self._held(name, device)
        return MemoryBatches(samples, targets, rows[readable[rows]], batch_size)

    def names(self, indices: IntArray | Sequence[int]) -> list[str]:
        """The names of samples by their places in the catalogue."""
        return [os.fsdecode(name) for name in self.catalogue.names[np.asarray(indices, np.int64)]]

    def unreadable_anywhere(self) -> set[int]:
        """`unreadable` of all ranks together; every rank must call it."""
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
        keys: SampleKeys | None,
        on_corrupt: OnCorrupt,
    ) -> WorkerBatches:
        part = self.parts[name]
        return WorkerBatches(
            part,
            rows,
            batch_size=batch_size,
            num_workers=self.num_workers,
            device=device,
            keys=keys,
            on_corrupt="error" if self.on_corrupt == "error" else on_corrupt,
            report=lambda unreadable: self.unreadable.update(part.indices[unreadable].tolist()),
        )

    def _held(self, name: str, device: torch.device) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
        """Samples and targets of a part on the device, and which could be read. The first call reads them."""
        if name not in self._resident:
            indices, threads = self.parts[name].indices, min(8, os.cpu_count() or 1)
            if self.on_corrupt == "error":
                samples, readable = self.source.fetch(indices, threads=threads), np.ones(len(indices), np.bool_)
            else:
                samples, readable = fetch_readable(self.source, indices, threads=threads)
            self.unreadable.update(indices[~readable].tolist())
            self._resident[name] = (samples, torch.from_numpy(self.parts[name].targets), readable)
        samples, targets, readable = self._resident[name]
        if samples.device != device:
            self._resident[name] = (samples.to(device), targets.to(device), readable)
        return self._resident[name]


def _replaced(readable: NDArray[np.bool_], targets: IntArray) -> IntArray:
    """The row that stands in for each row, (n,); a readable row stands for itself."""
    rows = np.arange(len(targets))
    for row in np.flatnonzero(~readable):
        found = next((other for other in stand_ins(int(row), targets) if readable[other]), None)
        if found is None:
            raise none_readable(targets[row])
        rows[row] = found
    return rows
