"""What comes with classes: the indices of a batch's samples, and the sizes of the classes of a training set."""

from collections.abc import Sequence

import torch
from torch import Tensor

from drolt_pl.errors import SettingError, require


def can_be_read(tensor: Tensor) -> bool:
    """Whether a check may read a tensor's values: elsewhere it would wait for the device, or break a compiled graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def class_indices(targets: Tensor, size: int, num_classes: int, name: str = "targets") -> Tensor:
    """The class indices of a batch as int64, which indexing and torch's own losses take, (B,).

    Args:
        targets: Whole numbers of any dtype, (B,).
        size: B.
        num_classes: C.
        name: What the caller calls them.

    Raises:
        ValueError: another shape, or numbers that may be no whole ones; on CPU also one outside [0, C).
    """
    if targets.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), got {tuple(targets.shape)}")
    if targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"{name} must be integers, got {targets.dtype}")
    indices = targets.long()
    if size and can_be_read(indices):
        low, high = map(int, indices.aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(f"{name} must be in [0, {num_classes}), got {low} to {high}")
    return indices


def class_sizes(class_counts: Sequence[int] | Tensor, num_classes: int | None = None, *, at_least: int = 1) -> Tensor:
    """Training images of each class as a tensor of its own, (C,) int64.

    Args:
        class_counts: Whole numbers of any dtype, (C,).
        num_classes: C; null takes any number of classes.
        at_least: The smallest size that a class may have.

    Raises:
        SettingError: no such numbers, or another number of classes.
    """
    demand = f"must hold {'numbers' if num_classes is None else f'{num_classes} numbers'}, one per class"
    try:
        counts = torch.as_tensor(class_counts).detach()
    except (TypeError, ValueError, RuntimeError):  # what torch makes of text, of null, of lists of several lengths
        raise SettingError("class_counts", demand, class_counts) from None
    number = max(counts.numel(), 1) if num_classes is None else num_classes
    require("class_counts", tuple(counts.shape), counts.shape == (number,), demand)
    values = counts.cpu().double()
    whole = bool(((values == values.round()) & values.isfinite() & (values >= at_least)).all())
    require("class_counts", counts.tolist(), whole, f"must be whole numbers of at least {at_least}")
    return counts.to(torch.long, copy=True)
