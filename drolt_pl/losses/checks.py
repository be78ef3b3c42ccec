"""Checks of tensors, whose values are read where that costs little."""

import math

import torch
from torch import Tensor

from drolt_pl.classes import can_be_read
from drolt_pl.errors import SettingError, require


def check_temperature(temperature: float) -> None:
    """Raises SettingError for a temperature that is not finite and > 0, or is a tensor."""
    if isinstance(temperature, Tensor):
        raise SettingError("temperature", "must be a number, not a tensor: no gradient would flow into it")
    require("temperature", temperature, 0 < temperature < math.inf, "must be finite and > 0")


def check_vectors(embeddings: Tensor, others: Tensor, least: int = 1) -> None:
    """Raises ValueError for what is not (B, E) and (K, E), E >= `least`."""
    if embeddings.ndim != 2 or others.ndim != 2 or not least <= embeddings.shape[1] == others.shape[1]:
        shapes = f"{tuple(embeddings.shape)} and {tuple(others.shape)}"
        raise ValueError(
            f"embeddings must be (B, E), and what they are held against (K, E), E >= {least}, got {shapes}"
        )


def check_radii(eps: Tensor) -> None:
    """Raises ValueError for radii that, on CPU, are negative or not finite."""
    if can_be_read(eps):
        low, high = (bound.item() for bound in eps.aminmax())
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"eps must be finite and >= 0, got {low} to {high}")


def constant(tensor: Tensor) -> Tensor:
    """The tensor without its gradient; what `torch.inference_mode` made is copied, since no backward may keep it."""
    tensor = tensor.detach()
    return tensor.clone() if not torch.compiler.is_compiling() and tensor.is_inference() else tensor
