"""Checks of tensors, whose values are read on the CPU alone: elsewhere a check would wait for the device."""

import math

from torch import Tensor


def check_targets(targets: Tensor, num_classes: int) -> None:
    """Raises ValueError for targets that are not (B,) integers or, on CPU, lie outside [0, num_classes)."""
    if targets.ndim != 1 or targets.is_floating_point():
        raise ValueError(f"targets must be integers of shape (B,), got {targets.dtype} of {tuple(targets.shape)}")
    if targets.device.type == "cpu" and len(targets):
        low, high = map(int, targets.aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(f"targets must be in [0, {num_classes}), got {low} to {high}")


def check_radii(eps: Tensor) -> None:
    """Raises ValueError for radii that, on CPU, are negative or not finite."""
    if eps.device.type == "cpu":
        low, high = (bound.item() for bound in eps.aminmax())
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"eps must be finite and >= 0, got {low} to {high}")
