"""Going on past files that cannot be read: which can be, and which samples stand in for the others."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drolt_pl.data.images.files import ImageError, UnreadableError
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.sources import Source

# A sample that cannot be read stops the run, is replaced by another of its class, or is left out.
OnCorrupt = Literal["error", "replace", "leave_out"]


def fetch_readable(
    source: Source, indices: IntArray, keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1
) -> tuple[Tensor, NDArray[np.bool_]]:
    """Call `source.fetch` with the same arguments, and put zeros where a file cannot be read.

    Returns:
        Samples as `source.fetch` gives them, and which of them could be read, (n,).
    """
    try:
        return source.fetch(indices, keys, threads), np.ones(len(indices), np.bool_)
    except UnreadableError:
        if len(indices) == 1:
            return torch.zeros(1, *source.shape, dtype=source.dtype), np.zeros(1, np.bool_)
    # Halving finds a few bad files among many in a few passes over a shrinking rest.
    half = len(indices) // 2
    halves = [
        fetch_readable(source, indices[rows], None if keys is None else keys[rows], threads)
        for rows in (slice(None, half), slice(half, None))
    ]
    return torch.cat([samples for samples, _ in halves]), np.concatenate([readable for _, readable in halves])


def stand_ins(row: int, targets: IntArray) -> list[int]:
    """Rows that may stand in for a row that cannot be read: those of its class after it, then from the first.

    Args:
        row: The row.
        targets: Class of every row, (n,).
    """
    same = np.flatnonzero(targets == targets[row])
    place = int(np.searchsorted(same, row))
    others: list[int] = np.concatenate([same[place + 1 :], same[:place]]).tolist()
    return others


def none_readable(target: int) -> ImageError:
    """The error of a class in which no training image can be read."""
    demand = f"must hold a readable training image of every class: class {target} has none"
    return ImageError("root", demand, remedy="repair its files, or remove the class")
