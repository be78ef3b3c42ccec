"""The losses of the classifier, one class per idea: logits and targets in, one number out, with weights by class."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.classes import class_indices, class_sizes
from drolt_pl.losses.effective_number import effective_number_weights
from drolt_pl.ranges import BelowOne, Fraction, NonNegative, Positive


@checked
class Criterion(nn.Module, ABC):
    r"""A loss per sample, averaged over the batch with weights by class.

    .. math:: \sum_i w_{y_i} \ell_i / \sum_i w_{y_i}

    Torch's weighted cross-entropy is averaged in the same way; the focal losses divide by the batch instead. The
    weights are 1 until share ``start`` of a stage has passed, and class-balanced from then on ("deferred re-weighting",
    Cao et al. 2019: beta 0.9999 from epoch 160 of 200). Losses are computed in at least float32.

    Args:
        class_counts: Training images per class, (C,), whole numbers >= 1.
        beta: See `effective_number_weights`; 0 for no weights.
        start: Share of the stage that lies before the first weighted epoch, in [0, 1].

    Raises:
        SettingError: a value out of range.
    """

    class_counts: Tensor
    class_weights: Tensor

    def __init__(self, class_counts: Sequence[int] | Tensor, *, beta: BelowOne = 0.0, start: Fraction = 0.0) -> None:
        super().__init__()
        counts = class_sizes(class_counts)
        # They follow from the arguments, so checkpoints need not hold them.
        self.register_buffer("class_counts", counts.float(), persistent=False)
        self.register_buffer("class_weights", effective_number_weights(counts, beta), persistent=False)
        self.start = start
        self.begin_epoch(0.0)

    def begin_epoch(self, progress: float) -> None:
        """Switches the weights on or off for an epoch; `progress` is the share of its stage that has passed."""
        self.in_force = progress >= self.start

    def prior(self, sampled: str) -> str:
        """Class frequencies that its softmax assumes, `train` or `uniform`; `sampled` are those of the batches."""
        return sampled

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each sample before the class weights, (B,), of logits (B, C) for targets (B,)."""

    def weighted_losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Loss of each sample with its class's weight, (B,); by default the product of both."""
        return weights * self.losses(logits, targets)

    def forward(
        self, logits: Tensor, targets: Tensor, partners: Tensor | None = None, shares: Tensor | None = None
    ) -> Tensor:
        """The weighted mean over the batch, 0-d.

        Args:
            logits: (B, C), any float dtype.
            targets: (B,), integers in [0, C).
            partners: Targets of the images that were mixed in, (B,), for mixed batches.
            shares: What each image kept of itself, (B,), in [0, 1]; given with `partners`.

        Raises:
            ValueError: a shape that does not fit; on CPU a target outside [0, C).
        """
        if logits.ndim != 2 or logits.shape[1] != len(self.class_counts):
            raise ValueError(f"logits must be (B, {len(self.class_counts)}), got {tuple(logits.shape)}")
        return self.mean(*self.parts(logits, targets, partners, shares))

    def parts(
        self, logits: Tensor, targets: Tensor, partners: Tensor | None = None, shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Weighted losses of the samples and their weights, (B,) each, which `mean` takes; arguments as above."""
        if partners is None or shares is None:
            return self._weighted(logits, targets)
        own, other = self._weighted(logits, targets), self._weighted(logits, partners)
        losses, weights = (shares * mine + (1 - shares) * theirs for mine, theirs in zip(own, other, strict=True))
        return losses, weights

    def mean(self, losses: Tensor, weights: Tensor) -> Tensor:
        """The loss of a batch, 0-d, from weighted losses (B,) and their weights (B,)."""
        return losses.sum() / weights.sum()

    def _weighted(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted losses and their weights, (B,) each."""
        targets = class_indices(targets, len(logits), logits.shape[1])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = self.class_weights.to(logits.dtype)[targets] if self.in_force else torch.ones_like(logits[:, 0])
        return self.weighted_losses(logits, targets, weights), weights


class CrossEntropy(Criterion):
    """Cross-entropy; with ``beta`` the class-balanced loss (Cui et al. 2019). Arguments as for `Criterion`."""

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, reduction="none")


class FrequencyWeighted(CrossEntropy):
    """Cross-entropy with weights n_c / n_max.

    When classes are drawn equally often, the weights give back the risk under the images' own frequencies. DRO-LT's
    public code trains its features with this loss beside the robust one.

    Args:
        class_counts: See `Criterion`.
    """

    def __init__(self, class_counts: Sequence[int] | Tensor) -> None:
        super().__init__(class_counts)
        self.class_weights = self.class_counts / self.class_counts.max()

    def prior(self, sampled: str) -> str:
        return "train"


@checked
class LDAM(Criterion):
    r"""Label-distribution-aware margins (Cao et al. 2019): cross-entropy with :math:`s m_y` off the own logit.

    :math:`m_c = K n_c^{-1/4}`, with K such that the largest margin is ``max_margin``. Use it with a cosine classifier
    of the same scale: unbounded logits diverge. At test the classifier's logits are used without margins.

    Args:
        class_counts, beta, start: See `Criterion`.
        max_margin: Margin of the smallest class, as a difference of cosines, >= 0.
        scale: s, > 0, equal to the classifier's scale.
    """

    margins: Tensor

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        *,
        max_margin: NonNegative = 0.5,
        scale: Positive = 30.0,
        beta: BelowOne = 0.0,
        start: Fraction = 0.0,
    ) -> None:
        super().__init__(class_counts, beta=beta, start=start)
        self.scale = scale
        smallest = self.class_counts.min()
        self.register_buffer("margins", max_margin * (smallest / self.class_counts) ** 0.25, persistent=False)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        margins = self.scale * self.margins.to(logits.dtype) * F.one_hot(targets, logits.shape[1])  # (B, C)
        return F.cross_entropy(logits - margins, targets, reduction="none")


@checked
class LogitAdjusted(Criterion):
    r"""Cross-entropy of :math:`s_c + \tau \log p_c`, where p are the training frequencies (Menon et al. 2021).

    With ``tau`` 1 it is the balanced softmax of Ren et al. 2020. At test the classifier's logits are not adjusted.

    Args:
        class_counts, beta, start: See `Criterion`.
        tau: >= 0; 0 is cross-entropy.
    """

    adjustment: Tensor

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        *,
        tau: NonNegative = 1.0,
        beta: BelowOne = 0.0,
        start: Fraction = 0.0,
    ) -> None:
        super().__init__(class_counts, beta=beta, start=start)
        self.tau = tau
        log_prior = (self.class_counts.double() / self.class_counts.double().sum()).log()
        self.register_buffer("adjustment", (tau * log_prior).float(), persistent=False)

    def prior(self, sampled: str) -> str:
        return sampled if self.tau == 0 else "uniform"

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits + self.adjustment.to(logits.dtype), targets, reduction="none")


@checked
class LabelAwareSmoothing(Criterion):
    r"""Label smoothing that grows with the class (MiSLAS, Zhong et al. 2021, Eqs. 4 and 5, the concave form).

    The target has :math:`1 - e_y` at the own class and shares :math:`e_y` among the others, with
    :math:`e_y = e_t + (e_h - e_t) \sin(\frac{\pi}{2} \frac{n_y - n_{min}}{n_{max} - n_{min}})`.

    Args:
        class_counts, beta, start: See `Criterion`.
        head: :math:`e_h` of the largest class, in [0, 1). 0.4 is their value for CIFAR-100-LT at ratio 100.
        tail: :math:`e_t` of the smallest class, in [0, 1).
        spread: How :math:`e_y` is divided: ``others`` gives :math:`e_y / (C - 1)` to each other class, as in the paper;
            ``all`` gives :math:`e_y / C` to every class, the own one included, as in the authors' code.
    """

    smoothing: Tensor

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        *,
        head: BelowOne = 0.4,
        tail: BelowOne = 0.1,
        spread: Literal["others", "all"] = "others",
        beta: BelowOne = 0.0,
        start: Fraction = 0.0,
    ) -> None:
        super().__init__(class_counts, beta=beta, start=start)
        self.spread = spread
        low, high = self.class_counts.aminmax()
        place = (self.class_counts - low) / (high - low).clamp(min=1)
        self.register_buffer("smoothing", tail + (head - tail) * (torch.pi / 2 * place).sin(), persistent=False)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        own = log_p.gather(1, targets[:, None])[:, 0]
        smoothing = self.smoothing.to(logits.dtype)[targets]
        rest = log_p.mean(1) if self.spread == "all" else (log_p.sum(1) - own) / max(logits.shape[1] - 1, 1)
        return -((1 - smoothing) * own + smoothing * rest)
