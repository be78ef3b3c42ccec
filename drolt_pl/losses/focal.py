"""Focal losses of the softmax, of one sigmoid per class, and of a weighted cross-entropy."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from drolt_pl.checked import checked
from drolt_pl.losses.criteria import Criterion
from drolt_pl.ranges import BelowOne, Fraction, NonNegative


def focal_of(losses: Tensor, gamma: float) -> Tensor:
    r""":math:`(1 - p)^\gamma \ell` of losses :math:`\ell = -\log p`, elementwise; finite with its gradient at 0."""
    # At p = 1 the power may have no derivative; the smallest positive number in its place changes nothing.
    missing = (-torch.expm1(-losses)).clamp(min=torch.finfo(losses.dtype).tiny)
    return (missing**gamma) * losses


@checked
class Focal(Criterion):
    r"""Focal loss :math:`-(1 - p_y)^\gamma \log p_y` of the softmax (Lin et al. 2017); with ``beta`` class-balanced.

    The sum is divided by the size of the batch and not by its weights, as Cui et al. and LDAM-DRW do. With a long tail
    most of a batch has small weights, so the steps are several times smaller than with the weighted mean. The weight
    multiplies the loss; `WeightedFocal` puts it into the power too, and `SigmoidFocal` is the form of Cui et al.

    Args:
        class_counts, beta, start: See `Criterion`.
        gamma: >= 0; 0 is cross-entropy. LDAM-DRW's code compares with 1, Lin et al. use 2.
    """

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        *,
        gamma: NonNegative = 1.0,
        beta: BelowOne = 0.0,
        start: Fraction = 0.0,
    ) -> None:
        super().__init__(class_counts, beta=beta, start=start)
        self.gamma = gamma

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return focal_of(F.cross_entropy(logits, targets, reduction="none"), self.gamma)

    def mean(self, losses: Tensor, weights: Tensor) -> Tensor:
        return losses.mean()


class SigmoidFocal(Focal):
    r"""Focal loss of one sigmoid per class, summed over the classes (Cui et al. 2019, "class-balanced focal").

    .. math:: \sum_c -(1 - q_c)^\gamma \log q_c, \quad q_y = \sigma(s_y), \; q_c = \sigma(-s_c) \text{ for } c \ne y

    The weight of a sample's class multiplies all its terms; the sum is divided by the size of the batch. Start the
    classifier with ``init: rare_sigmoid``, as they do: otherwise the terms of the other classes are a hundred times the
    own one at first. Arguments as for `Focal`; they use 0.5, 1 and 2 for ``gamma``.
    """

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        signs = 2 * F.one_hot(targets, logits.shape[1]).to(logits.dtype) - 1  # (B, C): 1 at the own class, else -1
        scores = signs * logits
        # 1 - q by its own logarithm: exact where q is 1 to the last digit.
        return -((self.gamma * F.logsigmoid(-scores)).exp() * F.logsigmoid(scores)).sum(1)


class WeightedFocal(Focal):
    r"""Focal loss of the weighted cross-entropy: :math:`(1 - e^{-w_y \ell})^\gamma w_y \ell`, :math:`\ell` unweighted.

    LDAM-DRW's code (Cao et al. 2019) compares with this form as class-balanced focal. Here a class's weight also
    decides how easy its samples count. Without weights it is `Focal`. The sum is divided by the size of the batch.
    Arguments as for `Focal`.
    """

    def weighted_losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return focal_of(weights * F.cross_entropy(logits, targets, reduction="none"), self.gamma)
