"""A three-layer network for 8x8 digits: trains in seconds on two CPU cores, so the default run needs no GPU."""

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Le, MultipleOf
from torch import Tensor, nn

from drolt_pl.backbones.base import ImageBackbone, aside, per_expert
from drolt_pl.checked import checked
from drolt_pl.ranges import Few


@checked
class SmallConvNet(ImageBackbone):
    """Three 3x3 convolutions with BatchNorm, then global average pooling.

    Args:
        in_channels: Channels of the input images.
        num_features: Length D of the feature vector.
        experts: Number E of experts. Several share the first layer, and each has the other two for itself.
        neck: num_features -> a module through which the last map (B, D, H, W) goes before it is pooled; None for none.

    Shapes:
        Input (B, in_channels, H, W); output (B, num_features), of experts (B, E, num_features), non-negative.

    Raises:
        SettingError: fewer than one channel, or num_features is not a multiple of 4: the first two layers have a
            quarter and a half of it.
    """

    def __init__(
        self,
        in_channels: Few = 1,
        num_features: Annotated[int, Ge(4), Le(4096), MultipleOf(4)] = 64,
        experts: Few = 1,
        neck: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.num_features, self.num_experts = num_features, experts

        def own() -> list[nn.Module]:
            second = _conv_bn_relu(num_features // 4, num_features // 2, stride=2)
            return [*second, *_conv_bn_relu(num_features // 2, num_features, stride=1)]

        first = _conv_bn_relu(in_channels, num_features // 4, stride=1)
        rest = own() if experts == 1 else [aside(lambda: nn.Sequential(*own()), experts, first=True)]
        self.layers = nn.Sequential(*first, *rest)
        self.neck = nn.Identity() if neck is None else aside(lambda: neck(num_features), experts)

    def forward(self, images: Tensor) -> Tensor:
        return per_expert(self.neck(self.layers(images)).mean(dim=(2, 3)), self.num_experts)


def _conv_bn_relu(in_channels: int, out_channels: int, *, stride: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
