"""The CIFAR ResNets of He et al. 2016 (16-32-64 channels, option-A shortcuts), as the long-tail field uses them."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.backbones.base import ImageBackbone
from drolt_pl.checked import checked
from drolt_pl.ranges import Few

WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with an option-A shortcut: it takes every second pixel and fills new channels with zeros."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        if self.new_channels == 0:
            return x
        before = self.new_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))


@checked
class CifarResNet(ImageBackbone):
    """ResNet-20/32/44/56 for images of about 32 pixels (He et al. 2016, Sec. 4.2; option A).

    ResNet-32 with a 100-way linear classifier has 470,004 parameters, as in the LDAM code that the field builds on.
    Convolutions are drawn by Kaiming's normal law, as in that code.

    Args:
        depth: Number of layers that carry weights, 20, 32, 44 or 56 (counting a linear classifier).
        in_channels: Channels of the input images.
        neck: num_features -> a module through which the last map (B, D, H, W) goes before it is pooled; None for none.

    Shapes:
        Input (B, in_channels, H, W), any H and W from 4 pixels; output (B, 64), non-negative.

    Raises:
        SettingError: a depth that is not one of the four, or fewer than one channel.
    """

    num_features = WIDTHS[-1]

    def __init__(
        self,
        depth: Literal[20, 32, 44, 56] = 32,
        in_channels: Few = 3,
        neck: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        blocks_per_width = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stack(WIDTHS[0], WIDTHS[0], blocks_per_width, stride=1)
        self.layer2 = _stack(WIDTHS[0], WIDTHS[1], blocks_per_width, stride=2)
        self.layer3 = _stack(WIDTHS[1], WIDTHS[2], blocks_per_width, stride=2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        self.neck = nn.Identity() if neck is None else neck(self.num_features)

    def forward(self, images: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(images)))
        out = self.neck(self.layer3(self.layer2(self.layer1(out))))
        features: Tensor = out.mean(dim=(2, 3))
        return features


def _stack(in_channels: int, out_channels: int, num_blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride=stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels) for _ in range(num_blocks - 1)))
