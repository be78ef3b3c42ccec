"""Reads the outputs of a network's inner layers while it runs, pooled over positions."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from drolt_pl.errors import SettingError


class LayerTaps:
    """Keeps the outputs of named parts of a backbone in its last forward pass, pooled over positions.

    Args:
        backbone: The network.
        layers: Names of parts as in `named_modules()`: `layer2`, `model.layer3`.
        image_shape: (channels, height, width) of an image; the widths are measured on one blank image.

    Attributes:
        widths: Length D_l of each layer's pooled output.

    Raises:
        SettingError: an unknown layer, a repeated layer, or an empty list.
    """

    def __init__(self, backbone: nn.Module, layers: Sequence[str], image_shape: Sequence[int]) -> None:
        parts, offered = dict(backbone.named_modules()), blocks(backbone)
        if not layers or len(set(layers)) < len(layers) or set(layers) - set(parts):
            raise SettingError("layers", f"must be null or name parts of the backbone, such as {offered}", list(layers))
        self._outputs: dict[str, Tensor] = {}
        self.layers = tuple(layers)
        for name in self.layers:
            parts[name].register_forward_hook(self._keeper(name))
        was_training = backbone.training
        backbone.eval()  # one blank image must not move BatchNorm's statistics
        with torch.no_grad():
            backbone(torch.zeros(1, *image_shape))
        backbone.train(was_training)
        self.widths = tuple(self._outputs[name].shape[1] for name in self.layers)

    def _keeper(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._outputs[name] = pooled(output)

        return keep

    def features(self) -> Tensor:
        """The layers' pooled outputs for the last batch, concatenated, (B, sum of the widths), in float32 or more."""
        parts = [self._outputs[name] for name in self.layers]
        return torch.cat([part.to(torch.promote_types(part.dtype, torch.float32)) for part in parts], dim=1)


def blocks(backbone: nn.Module) -> list[str]:
    """Names of a backbone's blocks or stages in their order, such as `layer2`, `layers.7` or `model.stages.1`."""
    names = [name for name, _ in backbone.named_modules()]
    return [name for name in names if re.search(r"(^|\.)(layer\d+|(layers|stages)\.\d+)$", name)]


def pooled(output: Tensor) -> Tensor:
    """The mean over positions of a map (B, D, H, W) or of tokens (B, N, D); vectors (B, D) stay as they are."""
    if output.ndim == 4:
        return output.mean((2, 3))
    return output.mean(1) if output.ndim == 3 else output
