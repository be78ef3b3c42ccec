"""The interface of backbones: samples in, features out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from drolt_pl.backbones.layers import blocks
from drolt_pl.errors import SettingError

# Arguments by which backbones get weights from elsewhere; who has a checkpoint leaves them out.
WEIGHTS = ("weights", "rename", "pretrained", "checkpoint_path")


@dataclass(frozen=True)
class Images:
    """The images that a network was made for.

    Attributes:
        image_size: Pixels per side.
        mean, std: By channel, of pixel values in [0, 1].
    """

    image_size: int = 32
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


class Share(NamedTuple):
    """How a parameter takes part in the rates of its network: a factor on the learning rate, and whether it decays."""

    factor: float
    decays: bool


class Backbone(nn.Module, ABC):
    """Base of the backbones.

    Attributes:
        num_features: D, the width of one set of features.
        num_experts: E, the number of feature sets; ensembles have more than 1.
    """

    num_features: int
    num_experts: int = 1

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, ...), or (B, E, D) of E experts."""

    @classmethod
    def made_for(cls, arguments: dict[str, object]) -> Images:
        """The images that a network of these constructor arguments was made for; nothing is built for the answer."""
        return Images()

    @classmethod
    def sized_for(cls, shape: tuple[int, ...], arguments: dict[str, object]) -> dict[str, object]:
        """The constructor arguments that the samples decide.

        Args:
            shape: Of one sample, (C, H, W) of images and (D,) of stored features.
            arguments: The other arguments.

        Raises:
            SettingError: the network takes no such samples.
        """
        return {"in_channels": shape[0]}

    def layer_shares(self, decay: float) -> dict[nn.Parameter, Share]:
        """The share of each parameter where rates fall by a factor from each layer to the one before it.

        The layers are the network's blocks in their order; what comes before the first block is a layer, and so is
        what comes after the last. Biases and norms, which have one dimension, do not decay.

        Args:
            decay: The factor, in (0, 1].
        """
        names, numbers, reached = blocks(self), {}, 0
        for name, parameter in self.named_parameters():
            own = next((number for number, block in enumerate(names, 1) if name.startswith(f"{block}.")), None)
            reached = own if own is not None else reached + (reached == len(names) > 0)
            numbers[parameter] = reached
        last = max(numbers.values(), default=0)
        return {parameter: Share(decay ** (last - number), parameter.ndim > 1) for parameter, number in numbers.items()}


class ImageBackbone(Backbone):
    """Base of our networks of images (B, C, H, W)."""

    @classmethod
    def sized_for(cls, shape: tuple[int, ...], arguments: dict[str, object]) -> dict[str, object]:
        if len(shape) != 3:
            demand = f"must take stored features, as backbone=mlp and identity do: {cls.__name__} takes images"
            raise SettingError("_target_", demand)
        return super().sized_for(shape, arguments)


class Side(nn.Module):
    """E parts side by side: each takes its share of the channels, the first row of parts all of them.

    Their outputs are concatenated in channels, so that a second `Side` can follow, pooling, or a tap.

    Args:
        parts: The experts' own parts, E of them.
        first: Whether they all take the same input.

    Shapes:
        (B, K, H, W), or with ``first=False`` (B, E K, H, W); output (B, E L, H, W).
    """

    def __init__(self, parts: Iterable[nn.Module], *, first: bool) -> None:
        super().__init__()
        self.parts, self.first = nn.ModuleList(parts), first

    def forward(self, x: Tensor) -> Tensor:
        inputs = [x] * len(self.parts) if self.first else x.chunk(len(self.parts), 1)
        return torch.cat([part(own) for part, own in zip(self.parts, inputs, strict=True)], 1)


def aside(make: Callable[[], nn.Module], experts: int, *, first: bool = False) -> nn.Module:
    """The part that `make` makes, or for several experts one each, side by side."""
    return make() if experts == 1 else Side((make() for _ in range(experts)), first=first)


def copies(part: nn.Module, *, anew: bool) -> Callable[[], nn.Module]:
    """Makes copies of some of torchvision's layers, perhaps with convolutions drawn anew by its law."""

    def copy() -> nn.Module:
        made = deepcopy(part)
        for layer in (layer for layer in made.modules() if anew and isinstance(layer, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return made

    return copy


def per_expert(features: Tensor, experts: int) -> Tensor:
    """Pooled channels (B, E D) as feature sets: (B, E, D) of E experts, (B, D) of one."""
    return features if experts == 1 else features.view(-1, experts, features.shape[1] // experts)


def each(features: Tensor) -> tuple[Tensor, ...]:
    """The feature sets of a backbone, (B, D) each: features (B, D) are one set, features (B, E, D) are E sets."""
    return features.unbind(1) if features.ndim == 3 else (features,)
