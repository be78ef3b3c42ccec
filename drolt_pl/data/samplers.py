"""Rank-aware samplers: which training image stands where in an epoch, as a pure function of (seed, epoch, rank)."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from drolt_pl.data.longtail import IntArray
from drolt_pl.data.plan import StageSampling, epoch_length, rank_positions
from drolt_pl.data.seeding import numpy_generator

FloatArray = NDArray[np.float64]


class EpochSampler(Sampler[int]):
    """One epoch's stream of positions into `targets`.

    Beside `targets` it holds one array of integers, its rank's places in the stream; drawing takes a few more for as
    long as it lasts.

    Args:
        targets: Class of every training image, (N,), integers >= 0; classes without images are never drawn.
        epoch_size: `dataset`, `max_class` or a number of images.
        views: How often each draw counts towards `epoch_size`.
        seed, epoch: Decide the stream, the same on all ranks.
        rank, world_size, batch_size: See `rank_positions`.
    """

    def __init__(
        self,
        targets: ArrayLike,
        *,
        epoch_size: str | int = "dataset",
        views: int = 1,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
    ) -> None:
        self.targets = np.asarray(targets, dtype=np.int64)
        counts = np.bincount(self.targets)
        self.class_counts: IntArray = counts[counts > 0]
        self.length = epoch_length(epoch_size, self.class_counts) // views
        if self.length < world_size:
            raise ValueError(f"epoch_size={epoch_size} gives fewer images than the {world_size} processes")
        self.seed, self.epoch = seed, epoch
        self.positions = rank_positions(self.length, batch_size=batch_size, rank=rank, world_size=world_size)

    @classmethod
    def for_stage(cls, stage: StageSampling, targets: ArrayLike, *, progress: float = 0.0, **where: Any) -> Self:
        """The sampler with a stage's settings.

        Args:
            stage: The stage.
            targets: See the class.
            progress: Share of the stage that lies before the epoch, in [0, 1].
            where: views, seed, epoch, rank, world_size, batch_size.
        """
        return cls(targets, epoch_size=stage.epoch_size, **where)

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> IntArray:
        """The one-process stream, (length,)."""

    def indices(self) -> IntArray:
        """The stream of this rank, (len(self),)."""
        generator = numpy_generator(f"sampler/{type(self).__name__}", self.seed, self.epoch)
        return self.draw(generator)[self.positions]

    def __iter__(self) -> Iterator[int]:
        return map(int, self.indices())

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


class ClassSampler(EpochSampler):
    """A class drawn with its chance, then one of its images uniformly, with replacement."""

    @abstractmethod
    def chances(self) -> FloatArray | None:
        """Chance of each class present, (P,), summing to 1; None if all have the same."""

    def draw(self, generator: np.random.Generator) -> IntArray:
        order, starts = self._by_class()
        classes = generator.choice(len(starts), size=self.length, p=self.chances())
        places: IntArray = starts[classes] + generator.integers(self.class_counts[classes])
        return order[places]


class ClassBalancedSampler(ClassSampler):
    """Every class equally often."""

    def chances(self) -> None:
        return None


class SquareRootSampler(ClassSampler):
    """Classes in proportion to the square root of their size (Mahajan et al. 2018; Kang et al. 2020)."""

    def chances(self) -> FloatArray:
        return _shares(np.sqrt(self.class_counts))


class EffectiveNumberSampler(ClassSampler):
    r"""Images weighted by the inverse of their class's effective number (Cui et al. 2019).

    A class comes in proportion to \(n_c / E_c\) with \(E_c = (1 - \beta^{n_c}) / (1 - \beta)\): instance sampling
    at \(\beta = 0\), class-balanced sampling towards \(\beta = 1\).

    Args:
        targets, kwargs: See `EpochSampler`.
        beta: In [0, 1).
    """

    def __init__(self, targets: ArrayLike, *, beta: float = 0.9999, **kwargs: Any) -> None:
        super().__init__(targets, **kwargs)
        if not 0 <= beta < 1:
            raise ValueError(f"beta must be in [0, 1), got {beta!r}")
        self.beta = beta

    def chances(self) -> FloatArray:
        effective = (1 - self.beta**self.class_counts) / (1 - self.beta)
        return _shares(self.class_counts / effective)


class ProgressiveSampler(ClassSampler):
    r"""From instance to class-balanced sampling in the course of a stage (Kang et al. 2020, "progressively balanced").

    \(p_c = (1 - t) n_c / N + t / C\), t the share of the stage that lies before the epoch.

    Args:
        targets, kwargs: See `EpochSampler`.
        progress: t, in [0, 1].
    """

    def __init__(self, targets: ArrayLike, *, progress: float, **kwargs: Any) -> None:
        super().__init__(targets, **kwargs)
        if not 0 <= progress <= 1:
            raise ValueError(f"progress must be in [0, 1], got {progress!r}")
        self.progress = progress

    @classmethod
    def for_stage(cls, stage: StageSampling, targets: ArrayLike, *, progress: float = 0.0, **where: Any) -> Self:
        return cls(targets, epoch_size=stage.epoch_size, progress=progress, **where)

    def chances(self) -> FloatArray:
        by_class = self.progress / len(self.class_counts)
        return _shares((1 - self.progress) * self.class_counts / self.class_counts.sum() + by_class)


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
    def for_stage(cls, stage: StageSampling, targets: ArrayLike, *, progress: float = 0.0, **where: Any) -> Self:
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


def _shares(weights: FloatArray) -> FloatArray:
    shares: FloatArray = weights / weights.sum()
    return shares


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
    "square_root": SquareRootSampler,
    "effective_number": EffectiveNumberSampler,
    "progressive": ProgressiveSampler,
}


def stage_sampler(stage: StageSampling, targets: ArrayLike, **where: Any) -> EpochSampler:
    """The sampler that a stage names; `where` is progress, seed, epoch, rank, world_size, batch_size."""
    if stage.sampling not in SAMPLERS:
        raise ValueError(f"sampling must be one of {tuple(SAMPLERS)}, got {stage.sampling!r}")
    return SAMPLERS[stage.sampling].for_stage(stage, targets, views=stage.views, **where)
