"""Classifiers that are trained: a linear one, a cosine one, and linear ones with a factor on each row."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.classifiers.base import Classifier, HeldOut, draw_normal, draw_uniform, linear_parts, unit_rows
from drolt_pl.errors import require
from drolt_pl.ranges import Count, Positive

Init = Literal["torch", "kaiming_normal", "rare_sigmoid"]


@checked
class LinearClassifier(Classifier, nn.Linear):
    r"""The ordinary linear layer, logits = W f + b.

    Args:
        num_features: Length D of the feature vectors.
        num_classes: Number of classes C.
        init: Law of the weights that `begin` draws. ``torch``: U(-1/sqrt(D), 1/sqrt(D)), as `torch.nn.Linear` does.
            ``kaiming_normal``: W from N(0, 2/D), 2.4 times as wide, as LDAM-DRW's code does (Cao et al. 2019).
            ``rare_sigmoid``: as ``torch``, and b = -log(C - 1), at which each of C sigmoids is 1/C (Cui et al. 2019).

    Shapes:
        Features (B, D); logits (B, C).

    Raises:
        SettingError: an unknown ``init``, or ``rare_sigmoid`` with one class.

    Examples:
        >>> classifier = LinearClassifier(num_features=64, num_classes=10)
        >>> classifier.begin(None, generator=torch.Generator().manual_seed(0))
        >>> classifier(torch.zeros(2, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_features: Count, num_classes: Count, init: Init = "torch") -> None:
        nn.Linear.__init__(self, num_features, num_classes)
        several = init != "rare_sigmoid" or num_classes >= 2
        require("init", init, several, f"must be one of {get_args(Init)[:2]} where there is one class")
        self.init = init

    def forward(self, features: Tensor) -> Tensor:
        return nn.Linear.forward(self, features)

    @torch.no_grad()
    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Draws new weights and biases by the law of ``init``; ``previous`` is not used."""
        num_classes, num_features = self.weight.shape
        draw_uniform(self.weight, generator, bound=num_features**-0.5)
        draw_uniform(self.bias, generator, bound=num_features**-0.5)
        if self.init == "kaiming_normal":
            draw_normal(self.weight, generator, std=(2 / num_features) ** 0.5)
        elif self.init == "rare_sigmoid":
            self.bias.fill_(-math.log(num_classes - 1))

    def linear_parts(self) -> tuple[Tensor, Tensor]:
        return self.weight, self.bias

    def class_vectors(self) -> Tensor:
        return self.weight


@checked
class CosineClassifier(Classifier):
    """The logit is the cosine of the angle between feature and class weight, times a fixed scale.

    The scale is fixed: a learned one would follow the imbalance as the norms of the weights do, which this classifier
    removes. Rows start at norm 1, as in LDAM's code. A gradient turns a row by its step over the row's norm, so shorter
    rows would turn faster.

    Args:
        num_features: Length D of the feature vectors.
        num_classes: Number of classes C.
        scale: Factor on the cosines, > 0. OLTR has 16 (Liu et al. 2019), the code of LDAM and BCL 30. Give `LDAM` the
            same scale: it multiplies its margins by it.

    Shapes:
        Features (B, D); logits (B, C) in [-scale, scale].

    Raises:
        SettingError: a scale that is not positive.
    """

    def __init__(self, num_features: Count, num_classes: Count, scale: Positive = 16.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(F.normalize(torch.empty(num_classes, num_features).uniform_(-1, 1), dim=1))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(unit_rows(features), unit_rows(self.weight))

    @torch.no_grad()
    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Draws rows from U(-1, 1) and gives them norm 1 (Cao et al. 2019); ``previous`` is not used."""
        draw_uniform(self.weight, generator, bound=1.0)
        self.weight.copy_(unit_rows(self.weight))

    def class_vectors(self) -> Tensor:
        return self.weight


class ClassMeansClassifier(CosineClassifier):
    """A cosine classifier whose rows start at the class means of the features (as LIFT, Shi et al. 2024, may).

    With pretrained features it knows its classes before the first step. Arguments as for `CosineClassifier`.
    """

    needs_fit = True

    @torch.no_grad()
    def fit(self, held_out: HeldOut | None, centroids: Tensor, counts: Tensor) -> None:
        """Sets the rows to the directions of the class means (C, D); a class without images keeps its drawn row."""
        means = F.normalize(centroids, dim=1).to(self.weight.dtype)
        self.weight.copy_(torch.where((counts > 0)[:, None], means, self.weight))


class LWSClassifier(Classifier):
    """Learnable weight scaling (Kang et al. 2020, Sec. 4.1): s_c = g_c (w_c f + b_c), and g alone is learned.

    w and b are copies of the previous classifier's. They are buffers, so no optimizer and no weight decay can move
    them.

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
        """Copies ``previous``'s weight and bias and sets every g_c to 1; ``generator`` is not used.

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


@checked
class ScaledLinearClassifier(Classifier):
    """A linear classifier with a factor on each class: s_c = g_c (w_c f + b_c), and g, w and b are learned.

    It goes on from the previous classifier, as stage two of MiSLAS does (Zhong et al. 2021). The factors start at 1 and
    learn ``factor_rate`` times as fast as the rows; weight decay pulls them at the rows' rate.

    Args:
        num_features: Length D of the feature vectors.
        num_classes: Number of classes C.
        factor_rate: > 0. The authors' code has 5 for CIFAR: 0.1 for the factors, 0.02 for the rows.

    Shapes:
        Features (B, D); logits (B, C). Before `begin` the rows are zero.

    Raises:
        SettingError: a rate that is not positive.
    """

    def __init__(self, num_features: Count, num_classes: Count, factor_rate: Positive = 5.0) -> None:
        super().__init__()
        self.factor_rate = factor_rate
        self.class_scale = nn.Parameter(torch.ones(num_classes))
        # Not named `weight` and `bias`: a classifier that takes those over would lose the factors.
        self.row_weight = nn.Parameter(torch.zeros(num_classes, num_features))
        self.row_bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        scale = scale_gradient(self.class_scale, self.factor_rate)
        return scale * F.linear(features, self.row_weight, self.row_bias)

    @torch.no_grad()
    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Copies ``previous``'s weight and bias and sets every g_c to 1; ``generator`` is not used.

        Raises:
            TypeError: ``previous`` is not a classifier with a weight and a bias.
        """
        weight, bias = linear_parts(previous)
        self.row_weight.copy_(weight)
        self.row_bias.copy_(bias)
        self.class_scale.fill_(1.0)


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """Returns the same values and multiplies their gradient by ``factor`` on the way back.

    With SGD a parameter used in this way learns at ``factor`` times its rate; weight decay keeps the plain rate.
    """
    return values + (factor - 1) * (values - values.detach())
