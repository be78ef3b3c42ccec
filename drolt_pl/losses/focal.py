"""Focal losses: of the softmax, of one sigmoid a class, and of a weighted cross-entropy."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from drolt_pl.errors import require
from drolt_pl.losses.criteria import Criterion


def focal_of(losses: Tensor, gamma: float) -> Tensor:
    r""":math:`(1 - p)^\gamma \ell` of losses :math:`\ell = -\log p`, elementwise; finite with its gradient at 0."""
    # Below a probability's resolution the power has no derivative at 0; such a sample has no loss either.
    missing = (-torch.expm1(-losses)).clamp(min=torch.finfo(losses.dtype).tiny)
    return (missing**gamma) * losses


class Focal(Criterion):
    r"""Focal loss :math:`-(1 - p_y)^\gamma \log p_y` of the softmax (Lin et al. 2017); with ``beta`` class-balanced.

    Divided by the batch and not by its weights, as Cui et al. and LDAM-DRW do: with a long tail, where most of a batch
    has small weights, its steps are several times smaller than those of the weighted mean. The weight multiplies the
    loss; `WeightedFocal` has it in the power too, and `SigmoidFocal` is Cui et al.'s.

    Args:
        class_counts, beta, start: See `Criterion`.
        gamma: >= 0; 0 is cross-entropy. LDAM-DRW's code compares with 1, Lin et al. use 2.
    """

    def __init__(
        self, class_counts: Sequence[int] | Tensor, *, gamma: float = 1.0, beta: float = 0.0, start: float = 0.0
    ) -> None:
        super().__init__(class_counts, beta=beta, start=start)
        require("gamma", gamma, gamma >= 0, "must be >= 0")
        self.gamma = gamma

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return focal_of(F.cross_entropy(logits, targets, reduction="none"), self.gamma)

    def mean(self, losses: Tensor, weights: Tensor) -> Tensor:
        return losses.mean()


class SigmoidFocal(Focal):
    r"""Focal loss of one sigmoid a class, summed over the classes (Cui et al. 2019, "class-balanced focal").

    .. math:: \sum_c -(1 - q_c)^\gamma \log q_c, \quad q_y = \sigma(s_y), \; q_c = \sigma(-s_c) \text{ for } c \ne y

    A sample's weight is that of its class, on all its terms; divided by the batch. Start the classifier with
    ``init: rare_sigmoid``, as they do, or the other classes' terms are a hundred times the own one.
    Arguments as for `Focal`; theirs of ``gamma`` are 0.5, 1 and 2.
    """

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        signs = 2 * F.one_hot(targets, logits.shape[1]).to(logits.dtype) - 1  # (B, C): 1 at the own class, else -1
        scores = signs * logits
        # 1 - q by its own logarithm: exact where q is 1 to the last digit.
        return -((self.gamma * F.logsigmoid(-scores)).exp() * F.logsigmoid(scores)).sum(1)


class WeightedFocal(Focal):
    r"""Focal loss of the weighted cross-entropy: :math:`(1 - e^{-w_y \ell})^\gamma w_y \ell`, :math:`\ell` unweighted.

    What LDAM-DRW's code (Cao et al. 2019) compares with as class-balanced focal: a class's weight also says how easy
    its samples are taken to be. Without weights it is `Focal`. Divided by the batch. Arguments as for `Focal`.
    """

    def weighted_losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return focal_of(weights * F.cross_entropy(logits, targets, reduction="none"), self.gamma)
