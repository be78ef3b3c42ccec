"""What an epoch draws: the sampling of its stage, how long it is, and which part of it a rank takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from drolt_pl.data.longtail import IntArray
from drolt_pl.errors import SettingError, require, require_int

EPOCH_SIZES = ("dataset", "max_class")


class StageSampling(Protocol):
    """What the data side reads of a training stage."""

    @property
    def sampling(self) -> str | Sequence[str]:
        """Key of `SAMPLERS`, or one key for each stream of batches that the stage trains on side by side."""

    @property
    def samples_per_class(self) -> int:
        """Images of one class in a row, read by class-aware sampling."""

    @property
    def epoch_size(self) -> str | int:
        """`dataset` (N images that go forward), `max_class` (n_max C) or a number."""

    @property
    def views(self) -> int:
        """Augmented views of each image drawn; an epoch draws that many times fewer images."""

    @property
    def passes(self) -> int:
        """How often each image goes forward in a step; an epoch draws that many times fewer images."""

    @property
    def mixing(self) -> str | None:
        """Name of the mixing of the stage's batches, or null for none."""

    @property
    def epochs(self) -> int:
        """Length of the stage, read by progressively balanced sampling."""


@dataclass(frozen=True)
class Sampling:
    """The sampling of one stage as plain values; fields as in `StageSampling`."""

    sampling: str | Sequence[str] = "instance"
    samples_per_class: int = 4
    epoch_size: str | int = "dataset"
    epochs: int = 1
    views: int = 1
    mixing: str | None = None
    passes: int = 1


Plan = Callable[[int], StageSampling]  # the sampling of an epoch


def instance_plan(epoch: int) -> StageSampling:
    """Instance sampling in every epoch."""
    return Sampling()


def stage_progress(plan: Plan, epoch: int) -> float:
    """Share of its stage that lies before an epoch, in [0, 1).

    A stage is a row of epochs for which the plan gives equal values.
    """
    stage = plan(epoch)
    first = epoch
    while first > 0 and plan(first - 1) == stage:
        first -= 1
    return min(epoch - first, stage.epochs - 1) / max(stage.epochs, 1)


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
    raise SettingError("epoch_size", f"must be one of {EPOCH_SIZES} or a number of images > 0", epoch_size)


def in_views(rows: IntArray, batch_size: int, views: int, *, offset: int = 0) -> IntArray:
    """Each batch of rows `views` times in a row, view v of row r as r + v offset: (n,) -> (views n,).

    Args:
        rows: Rows in the order of the batches, (n,).
        batch_size: Rows of a batch, which then has `views` times as many.
        views: How often each row comes.
        offset: Tells the views apart where the numbers are seeds.
    """
    starts = range(0, len(rows), batch_size) if views > 1 else []
    tiled = [rows[start : start + batch_size] + view * offset for start in starts for view in range(views)]
    return np.concatenate(tiled) if tiled else rows


def rank_positions(length: int, *, batch_size: int, rank: int, world_size: int) -> IntArray:
    """Places in the one-process stream that a rank takes: of every global batch its own contiguous slice.

    So batch b of all ranks, put together in rank order, is batch b of a one-process run, and a block of one class
    stays whole (a stride over ranks would tear it) if a rank's share of the batch is a multiple of it. The stream is
    cut to a multiple of `world_size`: every rank gets the same number of images and of batches.

    Args:
        length: Images in the one-process stream.
        batch_size: Global batch, divisible by `world_size`.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
    """
    for name, value in (("world_size", world_size), ("batch_size", batch_size)):
        require_int(name, value, at_least=1)
    require_int("rank", rank, at_least=0)
    require("rank", rank, rank < world_size, f"must be below the {world_size} processes")
    if batch_size % world_size:
        raise SettingError("batch_size", f"must be divisible by the {world_size} processes that share it", batch_size)
    whole = length // batch_size * batch_size
    full = np.arange(whole).reshape(-1, world_size, batch_size // world_size)[:, rank].reshape(-1)
    last = (length - whole) // world_size
    return np.concatenate([full, whole + rank * last + np.arange(last)])
