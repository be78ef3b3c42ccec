"""The base of the samplers: an epoch's stream as a pure function of (seed, epoch), and the part that a rank takes."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Self, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike
from torch.utils.data import Sampler

from drolt_pl.data.longtail import IntArray
from drolt_pl.data.plan import StageSampling, epoch_length, rank_positions
from drolt_pl.data.seeding import numpy_generator
from drolt_pl.errors import SettingError, require, require_int


class Place(TypedDict, total=False):
    """Which epoch, and which part of it; keyword arguments of `EpochSampler`."""

    seed: int
    epoch: int
    rank: int
    world_size: int
    batch_size: int


class StagePlace(Place, total=False):
    """`Place`, and what counts towards the epoch's images."""

    views: int
    streams: int
    stream: int


class SamplerSettings(StagePlace, total=False):
    """Keyword arguments of `EpochSampler`."""

    epoch_size: str | int


class EpochSampler(Sampler[int]):
    """One epoch's stream of positions into `targets`.

    Beside `targets` it holds one array of integers, its rank's places in the stream; drawing takes a few more for as
    long as it lasts.

    Args:
        targets: Class of every training image, (N,), integers >= 0, N >= 1; classes without images are never drawn.
        epoch_size: `dataset`, `max_class` or a number of images.
        views: How often each draw counts towards `epoch_size`.
        streams: Streams that share the epoch. Each is cut to the first 1/streams of what it would be alone.
        stream: Number of this stream among them. The first, 0, draws what it would draw alone.
        seed, epoch: With `stream`, decide what is drawn, the same on all ranks.
        rank, world_size, batch_size: See `rank_positions`.

    Attributes:
        length: Images drawn for all ranks, before the cut.
        positions: Places in the stream that this rank takes, (len(self),).
        epoch: Set it before each pass of your own loop: until then every pass draws the same.

    Raises:
        SettingError: a value out of range.
    """

    def __init__(
        self,
        targets: ArrayLike,
        *,
        epoch_size: str | int = "dataset",
        views: int = 1,
        streams: int = 1,
        stream: int = 0,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
    ) -> None:
        self.targets = _class_indices(targets)
        for name, value in (("views", views), ("streams", streams)):
            require_int(name, value, at_least=1)
        for name, value in (("seed", seed), ("epoch", epoch), ("stream", stream)):
            require_int(name, value, at_least=0)
        counts = np.bincount(self.targets)
        self.class_counts: IntArray = counts[counts > 0]
        self.length = epoch_length(epoch_size, self.class_counts) // views
        kept = self.length // streams
        demand = f"must give each of the {world_size} processes an image"
        require("epoch_size", epoch_size, kept >= world_size, demand if streams == 1 else f"{demand} of every stream")
        self.seed, self.epoch, self.stream = seed, epoch, stream
        self.positions = rank_positions(kept, batch_size=batch_size, rank=rank, world_size=world_size)

    @classmethod
    def for_stage(
        cls, stage: StageSampling, targets: ArrayLike, *, progress: float = 0.0, **place: Unpack[StagePlace]
    ) -> Self:
        """Make the sampler with a stage's settings.

        Args:
            stage: The stage.
            targets: See the class.
            progress: Share of the stage that lies before the epoch, in [0, 1].
            place: Which part of the epoch; see the class.
        """
        return cls(targets, epoch_size=stage.epoch_size, **place)

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> IntArray:
        """Draw the one-process stream, (length,)."""

    def indices(self) -> IntArray:
        """The stream of this rank, (len(self),)."""
        further = (self.stream,) if self.stream else ()  # the first stream keeps the seeds of an epoch of one stream
        generator = numpy_generator(f"sampler/{type(self).__name__}", self.seed, self.epoch, *further)
        return self.draw(generator)[self.positions]

    def __iter__(self) -> Iterator[int]:
        return map(int, self.indices())

    def __len__(self) -> int:
        return len(self.positions)

    def _by_class(self) -> tuple[IntArray, IntArray]:
        """Positions sorted by class, (N,), and where each class present starts in them, (P,)."""
        # NumPy sorts numbers of 16 bits by their digits, in a time that is linear in N.
        keys = self.targets.astype(np.uint16) if self.targets.max() < 2**16 else self.targets
        return np.argsort(keys, kind="stable"), np.cumsum(self.class_counts) - self.class_counts


def _class_indices(targets: ArrayLike) -> IntArray:
    found = np.asarray(targets)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu" or found.min() < 0:
        got = f"{found.dtype} of shape {found.shape}" if found.size else "none"
        raise SettingError("targets", f"must be the class of each image, whole numbers >= 0 (N,), got {got}")
    return found.astype(np.int64, copy=False)
