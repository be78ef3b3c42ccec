"""The samplers by name: which training image stands where in an epoch."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drolt_pl.data.epoch_sampler import EpochSampler, Place, SamplerSettings, StagePlace
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.plan import StageSampling
from drolt_pl.errors import SettingError, require, require_choice

FloatArray = NDArray[np.float64]


class InstanceSampler(EpochSampler):
    """Draws every image equally often: one shuffled pass, or as many as the epoch's length asks for."""

    def draw(self, generator: np.random.Generator) -> IntArray:
        passes = -(-self.length // len(self.targets))
        return np.concatenate([generator.permutation(len(self.targets)) for _ in range(passes)])[: self.length]


class ClassSampler(EpochSampler):
    """Draws a class with its chance, then one of its images uniformly, with replacement."""

    @abstractmethod
    def chances(self) -> FloatArray | None:
        """Chance of each class present, (P,), summing to 1; None if all have the same."""

    def draw(self, generator: np.random.Generator) -> IntArray:
        order, starts = self._by_class()
        classes = generator.choice(len(starts), size=self.length, p=self.chances())
        places: IntArray = starts[classes] + generator.integers(self.class_counts[classes])
        return order[places]


class ClassBalancedSampler(ClassSampler):
    """Draws every class equally often."""

    def chances(self) -> None:
        return None


class SquareRootSampler(ClassSampler):
    """Draws classes in proportion to the square root of their size (Mahajan et al. 2018; Kang et al. 2020)."""

    def chances(self) -> FloatArray:
        return _shares(np.sqrt(self.class_counts))


class ReversedSampler(ClassSampler):
    """Draws classes in proportion to the inverse of their size: rare ones most often (BBN, Zhou et al. 2020)."""

    def chances(self) -> FloatArray:
        return _shares(1 / self.class_counts)


class EffectiveNumberSampler(ClassSampler):
    r"""Weighs each image by the inverse of its class's effective number (Cui et al. 2019).

    A class comes in proportion to \(n_c / E_c\) with \(E_c = (1 - \beta^{n_c}) / (1 - \beta)\): instance sampling
    at \(\beta = 0\), class-balanced sampling towards \(\beta = 1\).

    Args:
        targets, kwargs: See `EpochSampler`.
        beta: In [0, 1).
    """

    def __init__(self, targets: ArrayLike, *, beta: float = 0.9999, **kwargs: Unpack[SamplerSettings]) -> None:
        super().__init__(targets, **kwargs)
        require("beta", beta, 0 <= beta < 1, "must be in [0, 1)")
        self.beta = beta

    def chances(self) -> FloatArray:
        effective = (1 - self.beta**self.class_counts) / (1 - self.beta)
        return _shares(self.class_counts / effective)


class ProgressiveSampler(ClassSampler):
    r"""Goes from instance to class-balanced sampling within a stage (Kang et al. 2020, "progressively balanced").

    \(p_c = (1 - t) n_c / N + t / C\), t the share of the stage that lies before the epoch.

    Args:
        targets, kwargs: See `EpochSampler`.
        progress: t, in [0, 1].
    """

    def __init__(self, targets: ArrayLike, *, progress: float, **kwargs: Unpack[SamplerSettings]) -> None:
        super().__init__(targets, **kwargs)
        require("progress", progress, 0 <= progress <= 1, "must be in [0, 1]")
        self.progress = progress

    @classmethod
    def for_stage(
        cls, stage: StageSampling, targets: ArrayLike, *, progress: float = 0.0, **place: Unpack[StagePlace]
    ) -> Self:
        return cls(targets, epoch_size=stage.epoch_size, progress=progress, **place)

    def chances(self) -> FloatArray:
        by_class = self.progress / len(self.class_counts)
        return _shares((1 - self.progress) * self.class_counts / self.class_counts.sum() + by_class)


class ClassAwareSampler(EpochSampler):
    """Draws `samples_per_class` images of one class in a row, classes and images in shuffled cycles.

    Every class comes once before any comes again, and so do the images of a class (Shen et al. 2016; Kang et
    al. 2020 use 4). A class with fewer images than `samples_per_class` repeats them within its row. The cycles
    start anew each epoch, which keeps an epoch independent of those before it.
    """

    def __init__(self, targets: ArrayLike, *, samples_per_class: int = 4, **kwargs: Unpack[SamplerSettings]) -> None:
        super().__init__(targets, **kwargs)
        require("samples_per_class", samples_per_class, samples_per_class >= 1, "must be >= 1")
        self.samples_per_class = samples_per_class

    @classmethod
    def for_stage(
        cls, stage: StageSampling, targets: ArrayLike, *, progress: float = 0.0, **place: Unpack[StagePlace]
    ) -> Self:
        return cls(targets, epoch_size=stage.epoch_size, samples_per_class=stage.samples_per_class, **place)

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
    "reversed": ReversedSampler,
    "progressive": ProgressiveSampler,
}


def samplers_named(sampling: str | Sequence[str]) -> tuple[type[EpochSampler], ...]:
    """The samplers of a stage's streams, one for each name in `StageSampling.sampling`.

    Raises:
        SettingError: an unknown name, or an empty list.
    """
    names = (sampling,) if isinstance(sampling, str) else tuple(sampling)
    if not names:
        raise SettingError("sampling", f"must be one or several of {tuple(SAMPLERS)}", [])
    for name in names:
        require_choice("sampling", name, SAMPLERS)
    return tuple(SAMPLERS[name] for name in names)


def stage_sampler(
    stage: StageSampling, targets: ArrayLike, *, stream: int = 0, progress: float = 0.0, **place: Unpack[Place]
) -> EpochSampler:
    """Make the sampler of one of a stage's streams; `progress` and `place` as for `EpochSampler.for_stage`."""
    samplers = samplers_named(stage.sampling)
    return samplers[stream].for_stage(
        stage,
        targets,
        progress=progress,
        views=stage.views * stage.passes,
        streams=len(samplers),
        stream=stream,
        **place,
    )
