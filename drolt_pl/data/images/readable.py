"""Going on past image files that cannot be read: which can be, and what stands in for the others."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drolt_pl.data.images.sources import ImageError, ImageSource, UnreadableError
from drolt_pl.data.longtail import IntArray

# What becomes of an image that cannot be read: it stops the run, another of its class takes its place, or none does.
OnCorrupt = Literal["error", "replace", "leave_out"]


def fetch_readable(
    source: ImageSource, indices: IntArray, crop_keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1
) -> tuple[Tensor, NDArray[np.bool_]]:
    """What `source.fetch` gives for the same arguments, with black images where a file cannot be read.

    Returns:
        Images, uint8, (n, C, H, W), and which of them could be read, (n,).
    """
    try:
        return source.fetch(indices, crop_keys, threads), np.ones(len(indices), np.bool_)
    except UnreadableError:
        if len(indices) == 1:
            return torch.zeros(1, *source.shape, dtype=torch.uint8), np.zeros(1, np.bool_)
    # Halving finds a few bad files among many in a few passes over a shrinking rest.
    half = len(indices) // 2
    halves = [
        fetch_readable(source, indices[rows], None if crop_keys is None else crop_keys[rows], threads)
        for rows in (slice(None, half), slice(half, None))
    ]
    return torch.cat([images for images, _ in halves]), np.concatenate([readable for _, readable in halves])


def stand_ins(row: int, targets: IntArray) -> list[int]:
    """Rows that may stand in for one whose image cannot be read: those of its class after it, then from the first.

    Args:
        row: The row.
        targets: Class of every row, (n,).
    """
    same = np.flatnonzero(targets == targets[row])
    place = int(np.searchsorted(same, row))
    others: list[int] = np.concatenate([same[place + 1 :], same[:place]]).tolist()
    return others


def none_readable(target: int) -> ImageError:
    """The error of a class that has no image left to stand in."""
    return ImageError(
        f"on_corrupt=skip finds no training image of class {target} that can be read; repair its files, or remove "
        "the class"
    )
