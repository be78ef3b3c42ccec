"""A neck: a module through which a feature map goes before it is pooled."""

import torch
from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.ranges import Width


@checked
class ModulatedAttention(nn.Module):
    """Modulated attention (OLTR, Liu et al. 2019): self-attention over positions, weighted by a map of positions.

    Their position map is a linear layer over a map of 7x7. Here it is a linear layer over channels, the same for every
    position, so that maps may have any size. The module starts as the identity, so a backbone that was trained without
    it can be continued with it.

    Args:
        num_features: Channels of the map; half of them are compared.

    Shapes:
        (B, num_features, H, W) -> the same.
    """

    def __init__(self, num_features: Width) -> None:
        super().__init__()
        inner = max(num_features // 2, 1)
        self.query, self.key, self.value = (nn.Conv2d(num_features, inner, 1) for _ in range(3))
        self.mask = nn.Conv2d(inner, num_features, 1)
        self.where = nn.Conv2d(num_features, 1, 1)
        for layer in (self.query, self.key, self.value):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.mask.weight)
        nn.init.zeros_(self.mask.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))  # (B, E, HW)
        attention = torch.einsum("bei,bej->bij", query, key).softmax(2)  # (B, HW, HW)
        gathered = torch.einsum("bij,bej->bei", attention, value)  # (B, E, HW)
        mask: Tensor = self.mask(gathered.view(*gathered.shape[:2], height, width))
        where = self.where(x).flatten(2).softmax(2).view(-1, 1, height, width)
        attended: Tensor = x + where * mask
        return attended
