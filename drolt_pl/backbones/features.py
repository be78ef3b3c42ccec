"""Backbones of stored features: as they are, or through a small trained network."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from drolt_pl.backbones.base import Backbone, per_expert
from drolt_pl.checked import checked
from drolt_pl.errors import SettingError
from drolt_pl.ranges import Few, Width


class FeatureBackbone(Backbone):
    """The base of backbones that take features (B, D).

    Args:
        in_channels: D of the stored features.
        neck: Null: necks are for maps.
    """

    def __init__(self, in_channels: Width, neck: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        if neck is not None:
            raise SettingError("neck", "must be null for stored features: it works on the maps of images")

    @classmethod
    def sized_for(cls, shape: tuple[int, ...], arguments: dict[str, object]) -> dict[str, object]:
        if len(shape) != 1:
            demand = f"must take images: {cls.__name__} takes stored features, those of dataset=features"
            raise SettingError("_target_", demand)
        return super().sized_for(shape, arguments)


@checked
class Identity(FeatureBackbone):
    """Stored features as they are: nothing learns but classifier and loss; arguments as for `FeatureBackbone`.

    Shapes:
        (B, in_channels) -> the same.
    """

    def __init__(self, in_channels: Width, neck: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__(in_channels, neck)
        self.num_features = in_channels

    def forward(self, images: Tensor) -> Tensor:
        return images


@checked
class MLP(FeatureBackbone):
    """Hidden layers, then a projection of stored features.

    Each hidden layer is followed by LayerNorm and ReLU: unlike BatchNorm, LayerNorm takes a last batch of one sample.

    Args:
        in_channels: D of the stored features.
        num_features: Width of the projection.
        hidden: Widths of the hidden layers, from the input on; none for a linear projection.
        experts: Number E of experts, which share the hidden layers; each has a projection of its own.
        neck: Null: necks are for maps.

    Shapes:
        (B, in_channels) -> (B, num_features), of experts (B, E, num_features).
    """

    def __init__(
        self,
        in_channels: Width,
        num_features: Width = 256,
        hidden: Sequence[Width] = (512,),
        experts: Few = 1,
        neck: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__(in_channels, neck)
        widths = [in_channels, *hidden]
        blocks = [
            nn.Sequential(nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(inplace=True))
            for before, after in pairwise(widths)
        ]
        self.layers = nn.ModuleList(blocks)
        self.projection = nn.Linear(widths[-1], experts * num_features)
        self.num_features, self.num_experts = num_features, experts

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        for block in self.layers:
            hidden = block(hidden)
        return per_expert(self.projection(hidden), self.num_experts)
