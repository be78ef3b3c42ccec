"""The interface of backbones: samples in, features out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

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


def each(features: Tensor) -> tuple[Tensor, ...]:
    """The feature sets of a backbone, (B, D) each: features (B, D) are one set, features (B, E, D) are E sets."""
    return features.unbind(1) if features.ndim == 3 else (features,)
