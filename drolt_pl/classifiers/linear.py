"""Classifiers that are trained: linear, cosine, and scales of a linear one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.classifiers.base import Classifier, draw_uniform, linear_parts
from drolt_pl.errors import require


class LinearClassifier(Classifier, nn.Linear):
    """The ordinary linear layer, logits = W f + b.

    Args:
        num_features: Length D of the feature vectors.
        num_classes: Number of classes C.

    Shapes:
        Features (B, D); logits (B, C).

    Examples:
        >>> classifier = LinearClassifier(num_features=64, num_classes=10)
        >>> classifier.begin(None, generator=torch.Generator().manual_seed(0))
        >>> classifier(torch.zeros(2, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        nn.Linear.__init__(self, num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        return nn.Linear.forward(self, features)

    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Draw new weights and biases by the law of `torch.nn.Linear`; ``previous`` is not used."""
        draw_uniform(self.weight, generator, num_features=self.weight.shape[1])
        draw_uniform(self.bias, generator, num_features=self.weight.shape[1])

    def linear_parts(self) -> tuple[Tensor, Tensor]:
        return self.weight, self.bias

    def class_vectors(self) -> Tensor:
        return self.weight


class CosineClassifier(Classifier):
    """Cosine of the angle between feature and class weight, times a fixed scale.

    The scale is fixed because a learned one answers to the same imbalance as the weights' norms, which this
    classifier removes.

    Args:
        num_features: Length D of the feature vectors.
        num_classes: Number of classes C.
        scale: Factor on the cosines, > 0. 16 as in OLTR (Liu et al. 2019), 30 in LDAM's and BCL's code. `LDAM`
            takes the same one, for it scales its margins alone.

    Shapes:
        Features (B, D); logits (B, C) in [-scale, scale].

    Raises:
        SettingError: a scale that is not positive.
    """

    def __init__(self, num_features: int, num_classes: int, scale: float = 16.0) -> None:
        super().__init__()
        require("scale", scale, scale > 0, "must be > 0")
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, num_features))
        nn.init.uniform_(self.weight, -(num_features**-0.5), num_features**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))

    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Draw new weights by the law of `torch.nn.Linear`; ``previous`` is not used."""
        draw_uniform(self.weight, generator, num_features=self.weight.shape[1])

    def class_vectors(self) -> Tensor:
        return self.weight


class LWSClassifier(Classifier):
    """Learnable weight scaling (Kang et al. 2020, Sec. 4.1): s_c = g_c (w_c f + b_c), of which only g is learned.

    w and b are buffers: copies of the previous classifier's, so no optimizer and no weight decay can move them.

    Args:
        num_features: Length D of the feature vectors.
        num_classes: Number of classes C.

    Shapes:
        Features (B, D); logits (B, C). Before `begin` the copies are zero.
    """

    frozen_weight: Tensor
    frozen_bias: Tensor

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.class_scale = nn.Parameter(torch.ones(num_classes))
        self.register_buffer("frozen_weight", torch.zeros(num_classes, num_features))
        self.register_buffer("frozen_bias", torch.zeros(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        return self.class_scale * F.linear(features, self.frozen_weight, self.frozen_bias)

    @torch.no_grad()
    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Copy ``previous``'s weight and bias and set every g_c to 1; ``generator`` is not used.

        Raises:
            TypeError: ``previous`` is not a classifier with a weight and a bias.
            ValueError: its weight is for other features or classes.
        """
        weight, bias = linear_parts(previous)
        if weight.shape != self.frozen_weight.shape:
            raise ValueError(
                f"previous must have a weight of shape {tuple(self.frozen_weight.shape)}, got {tuple(weight.shape)}"
            )
        self.frozen_weight.copy_(weight)
        self.frozen_bias.copy_(bias)
        self.class_scale.fill_(1.0)
