"""The CIFAR ResNets of He et al. 2016 (16-32-64 channels, option-A shortcuts), as the long-tail field uses them."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.backbones.base import ImageBackbone, aside, per_expert
from drolt_pl.checked import checked
from drolt_pl.ranges import Few

WIDTHS = (16, 32, 64)
EXPERT_WIDTHS = (16, 24, 48)  # of several experts (RIDE, Wang et al. 2021): three have 1.5 times the parameters of one


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
        experts: Number E of experts. Several share the first third of the blocks, and each has the rest for itself, of
            24 and 48 channels (RIDE, Wang et al. 2021).
        neck: num_features -> a module through which the last map (B, D, H, W) goes before it is pooled; None for none.

    Shapes:
        Input (B, in_channels, H, W), any H and W from 4 pixels; output (B, 64), of experts (B, E, 48), non-negative.

    Raises:
        SettingError: a depth that is not one of the four, or fewer than one channel.
    """

    def __init__(
        self,
        depth: Literal[20, 32, 44, 56] = 32,
        in_channels: Few = 3,
        experts: Few = 1,
        neck: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        blocks_per_width = (depth - 2) // 6
        first, second, third = WIDTHS if experts == 1 else EXPERT_WIDTHS
        self.num_features, self.num_experts = third, experts
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = _stack(first, first, blocks_per_width, stride=1)
        self.layer2 = aside(lambda: _stack(first, second, blocks_per_width, stride=2), experts, first=True)
        self.layer3 = aside(lambda: _stack(second, third, blocks_per_width, stride=2), experts)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        self.neck = nn.Identity() if neck is None else aside(lambda: neck(third), experts)

    def forward(self, images: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(images)))
        out = self.neck(self.layer3(self.layer2(self.layer1(out))))
        return per_expert(out.mean(dim=(2, 3)), self.num_experts)


def _stack(in_channels: int, out_channels: int, num_blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride=stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels) for _ in range(num_blocks - 1)))
