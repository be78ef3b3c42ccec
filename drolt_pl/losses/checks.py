"""Checks of tensors, whose values are read on the CPU alone: elsewhere a check would wait for the device."""

import math

from torch import Tensor

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
    if eps.device.type == "cpu":
        low, high = (bound.item() for bound in eps.aminmax())
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"eps must be finite and >= 0, got {low} to {high}")


def constant(tensor: Tensor) -> Tensor:
    """The tensor without its gradient; what `torch.inference_mode` made is copied, since no backward may keep it."""
    tensor = tensor.detach()
    return tensor.clone() if tensor.is_inference() else tensor
