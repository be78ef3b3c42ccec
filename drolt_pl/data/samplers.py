"""Rank-aware samplers: which training image stands where in an epoch, as a pure function of (seed, epoch, rank)."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from drolt_pl.data.seeding import numpy_generator

IntArray = NDArray[np.int64]

EPOCH_SIZES = ("dataset", "max_class")


class StageSampling(Protocol):
    """What the data side reads of a training stage."""

    @property
    def sampling(self) -> str:
        """Key of `SAMPLERS`."""

    @property
    def samples_per_class(self) -> int:
        """Images of one class in a row, read by class-aware sampling."""

    @property
    def epoch_size(self) -> str | int:
        """`dataset` (N draws), `max_class` (n_max C draws) or a number of draws."""


@dataclass(frozen=True)
class Sampling:
    """The sampling of one stage as plain values; fields as in `StageSampling`."""

    sampling: str = "instance"
    samples_per_class: int = 4
    epoch_size: str | int = "dataset"


def instance_plan(epoch: int) -> StageSampling:
    """Instance sampling in every epoch."""
    return Sampling()


def epoch_length(epoch_size: str | int, class_counts: IntArray) -> int:
    """Draws of one epoch over all ranks, before it is cut to a multiple of the world size.

    Args:
        epoch_size: See `StageSampling.epoch_size`.
        class_counts: Images per class present, (P,).
    """
    if epoch_size == "dataset":
        return int(class_counts.sum())
    if epoch_size == "max_class":  # the length of Kang et al.'s class-aware epoch
        return int(class_counts.max()) * len(class_counts)
    if isinstance(epoch_size, int) and not isinstance(epoch_size, bool) and epoch_size > 0:
        return epoch_size
    raise ValueError(f"epoch_size must be one of {EPOCH_SIZES} or a number of images > 0, got {epoch_size!r}")


def rank_positions(length: int, *, batch_size: int, rank: int, world_size: int) -> IntArray:
    """Places in the one-process stream that a rank takes: of every global batch its own contiguous slice.

    So batch b of all ranks, put together in rank order, is batch b of a one-process run, and a block of one class
    stays whole (a stride over ranks would tear it) if a rank's share of the batch is a multiple of it. The stream is
    cut to a multiple of `world_size`: every rank has the same number of images and of batches.

    Args:
        length: Images in the one-process stream.
        batch_size: Global batch, divisible by `world_size`.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
    """
    if batch_size % world_size:
        raise ValueError(f"batch_size={batch_size} must be divisible by the {world_size} processes that share it")
    whole = length // batch_size * batch_size
    full = np.arange(whole).reshape(-1, world_size, batch_size // world_size)[:, rank].reshape(-1)
    last = (length - whole) // world_size
    return np.concatenate([full, whole + rank * last + np.arange(last)])


class EpochSampler(Sampler[int]):
    """One epoch's stream of positions into `targets`.

    Memory is a few integers per image of the set and of the epoch, and only while the stream is drawn.

    Args:
        targets: Class of every training image, (N,), integers >= 0; classes without images are never drawn.
        epoch_size: `dataset`, `max_class` or a number of draws.
        seed, epoch: Decide the stream, the same on all ranks.
        rank, world_size, batch_size: See `rank_positions`.
    """

    def __init__(
        self,
        targets: ArrayLike,
        *,
        epoch_size: str | int = "dataset",
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
    ) -> None:
        self.targets = np.asarray(targets, dtype=np.int64)
        counts = np.bincount(self.targets)
        self.class_counts: IntArray = counts[counts > 0]
        self.length = epoch_length(epoch_size, self.class_counts)
        if self.length < world_size:
            raise ValueError(f"epoch_size={epoch_size} gives fewer images than the {world_size} processes")
        self.seed, self.epoch = seed, epoch
        self.positions = rank_positions(self.length, batch_size=batch_size, rank=rank, world_size=world_size)

    @classmethod
    def for_stage(cls, stage: StageSampling, targets: ArrayLike, **where: Any) -> Self:
        """The sampler with a stage's settings; `where` is seed, epoch, rank, world_size, batch_size."""
        return cls(targets, epoch_size=stage.epoch_size, **where)

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> IntArray:
        """The one-process stream, (length,)."""

    def indices(self) -> IntArray:
        """The stream of this rank, (len(self),)."""
        generator = numpy_generator(f"sampler/{type(self).__name__}", self.seed, self.epoch)
        return self.draw(generator)[self.positions]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())

    def __len__(self) -> int:
        return len(self.positions)

    def _by_class(self) -> tuple[IntArray, IntArray]:
        """Positions sorted by class, (N,), and where each class present starts in them, (P,)."""
        return np.argsort(self.targets, kind="stable"), np.cumsum(self.class_counts) - self.class_counts


class InstanceSampler(EpochSampler):
    """Every image equally often: one shuffled pass, or as many as the epoch's length asks for."""

    def draw(self, generator: np.random.Generator) -> IntArray:
        passes = -(-self.length // len(self.targets))
        return np.concatenate([generator.permutation(len(self.targets)) for _ in range(passes)])[: self.length]


class ClassBalancedSampler(EpochSampler):
    """A class drawn uniformly, then one of its images uniformly, with replacement."""

    def draw(self, generator: np.random.Generator) -> IntArray:
        order, starts = self._by_class()
        classes = generator.integers(len(starts), size=self.length)
        places: IntArray = starts[classes] + generator.integers(self.class_counts[classes])
        return order[places]


class ClassAwareSampler(EpochSampler):
    """`samples_per_class` images of one class in a row, classes and images taken from shuffled cycles.

    Every class comes once before any comes again, and so do the images of a class (Shen et al. 2016; Kang et
    al. 2020 use 4). A class with fewer images than `samples_per_class` repeats them within its row. The cycles
    start anew each epoch, which keeps an epoch independent of those before it.
    """

    def __init__(self, targets: ArrayLike, *, samples_per_class: int = 4, **kwargs: Any) -> None:
        super().__init__(targets, **kwargs)
        if samples_per_class < 1:
            raise ValueError(f"samples_per_class must be >= 1, got {samples_per_class!r}")
        self.samples_per_class = samples_per_class

    @classmethod
    def for_stage(cls, stage: StageSampling, targets: ArrayLike, **where: Any) -> Self:
        return cls(targets, epoch_size=stage.epoch_size, samples_per_class=stage.samples_per_class, **where)

    def draw(self, generator: np.random.Generator) -> IntArray:
        order, starts = self._by_class()
        num_classes, per_class = len(starts), self.samples_per_class
        rounds = -(-self.length // (num_classes * per_class))  # each class comes once a round
        # All cycles of all classes lie end to end: class by class, cycle by cycle, shuffled within each cycle.
        cycles = -(-rounds * per_class // self.class_counts)
        cycle_sizes = np.repeat(self.class_counts, cycles)
        cycle_of_slot = np.repeat(np.arange(len(cycle_sizes)), cycle_sizes)
        slot_in_cycle = np.arange(len(cycle_of_slot)) - np.repeat(np.cumsum(cycle_sizes) - cycle_sizes, cycle_sizes)
        shuffled = slot_in_cycle[_shuffle_within(cycle_of_slot, generator)]
        images: IntArray = order[np.repeat(starts, cycles * self.class_counts) + shuffled]
        first_slot = np.cumsum(cycles * self.class_counts) - cycles * self.class_counts

        classes = generator.permuted(np.tile(np.arange(num_classes), (rounds, 1)), axis=1)  # (rounds, P)
        turn = np.arange(rounds)[:, None] * per_class  # images that each class gave in the rounds before
        slots = (first_slot[classes] + turn)[..., None] + np.arange(per_class)  # (rounds, P, per_class)
        stream: IntArray = images[slots.reshape(-1)[: self.length]]
        return stream


def _shuffle_within(groups: IntArray, generator: np.random.Generator) -> IntArray:
    """A permutation that moves entries only within their group; `groups` is sorted.

    One sort of 64-bit keys: the group in the high bits, random low bits.
    """
    low_bits = 63 - int(groups[-1]).bit_length()
    keys: IntArray = (groups << low_bits) | generator.integers(1 << low_bits, size=len(groups))
    order: IntArray = np.argsort(keys, kind="stable")
    return order


SAMPLERS: dict[str, type[EpochSampler]] = {
    "instance": InstanceSampler,
    "class_balanced": ClassBalancedSampler,
    "class_aware": ClassAwareSampler,
}


def stage_sampler(stage: StageSampling, targets: ArrayLike, **where: Any) -> EpochSampler:
    """The sampler that a stage names; `where` is seed, epoch, rank, world_size, batch_size."""
    if stage.sampling not in SAMPLERS:
        raise ValueError(f"sampling must be one of {tuple(SAMPLERS)}, got {stage.sampling!r}")
    return SAMPLERS[stage.sampling].for_stage(stage, targets, **where)
