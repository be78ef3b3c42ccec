"""Objectives of several experts: diverse ones and their routing (RIDE), skilled ones (SADE), two branches (BBN)."""

import torch
from torch import Tensor

from drolt_pl.checked import checked
from drolt_pl.classifiers.experts import running_means
from drolt_pl.errors import require
from drolt_pl.losses import Criterion
from drolt_pl.losses.experts import class_temperatures, diversity, frequency_shifts, routing
from drolt_pl.objectives.base import Batch, Learner, Objective
from drolt_pl.ranges import BelowOne, NonNegative, Positive


@checked
class DiverseExperts(Objective):
    """The sum of the experts' criteria less ``weight`` x `diversity` (RIDE, Wang et al. 2021), with LDAM in the source.

    While the criterion's class weights are in force, temperatures rise with the class, see `class_temperatures`.

    Args:
        class_counts: Training images per class, (C,).
        weight: Of the diversity; their code has 0.45 for CIFAR-100-LT, 0.2 for the large sets.
        temperature_factor: See `class_temperatures`.
        criterion, options: See `Objective`.
    """

    temperatures: Tensor

    def __init__(
        self,
        *,
        criterion: Criterion,
        class_counts: list[int],
        weight: NonNegative = 0.45,
        temperature_factor: BelowOne = 0.05,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        self.weight = weight
        temperatures = class_temperatures(torch.as_tensor(class_counts), temperature_factor)
        self.register_buffer("temperatures", temperatures, persistent=False)

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        logits = learner.classifier.expert_logits(learner.training_features(batch.images))
        ce = _sum_over_experts(self.criterion, logits, batch)
        temperatures = self.temperatures if self.criterion.in_force else torch.ones_like(self.temperatures)
        spread = diversity(logits, temperatures)
        return {"loss_ce": ce, "diversity": spread, "acc": _acc(logits, batch), "loss": ce - self.weight * spread}


@checked
class Routing(Objective):
    """Learns which experts are asked (RIDE, Wang et al. 2021), for stages with the classifier `routed_experts`.

    Args:
        weight: See `routing`.
        criterion, options: See `Objective`; the criterion is not used.
    """

    def __init__(self, *, criterion: Criterion, weight: Positive = 20.0, **options: object) -> None:
        super().__init__(criterion=criterion)
        self.weight = weight

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        features = learner.training_features(batch.images)
        wishes = learner.classifier.routes(features)
        with torch.no_grad():
            means = running_means(learner.classifier.expert_logits(features))
            acc = (learner.classifier(features).argmax(1) == batch.targets).float().mean()
            asked = 1 + (wishes > 0).float().cumprod(1).sum(1).mean()
        loss = routing(wishes, means, batch.targets, weight=self.weight)
        return {"loss_routing": loss, "experts_asked": asked, "acc": acc, "loss": loss}


@checked
class SkilledExperts(Objective):
    """Three experts, each for other class frequencies: the sum of their criteria on shifted logits (SADE).

    The shifts are those of `frequency_shifts`; the criterion is cross-entropy in the source (Zhang et al. 2022).

    Args:
        class_counts: Training images per class, (C,).
        tau: See `frequency_shifts`.
        criterion, options: See `Objective`.
    """

    shifts: Tensor

    def __init__(
        self, *, criterion: Criterion, class_counts: list[int], tau: NonNegative = 2.0, **options: object
    ) -> None:
        super().__init__(criterion=criterion)
        self.register_buffer("shifts", frequency_shifts(torch.as_tensor(class_counts), tau), persistent=False)

    def prior(self, sampled: str) -> str:
        return "uniform"  # the mean of the three shifts is near that of even frequencies

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        logits = learner.classifier.expert_logits(learner.training_features(batch.images))
        require(
            "backbone.experts", logits.shape[1], logits.shape[1] == len(self.shifts), "must be 3 for this objective"
        )
        ce = _sum_over_experts(self.criterion, logits + self.shifts.to(logits.dtype), batch)
        return {"loss_ce": ce, "acc": _acc(logits, batch), "loss": ce}


class TwoBranches(Objective):
    r"""Two experts and two streams of images; the weight shifts from the first to the second (BBN, Zhou et al. 2020).

    With :math:`\alpha = 1 - t^2`, t the share of the stage that has passed, the logits are those of the features
    :math:`2 (\alpha f_1(x_1), (1 - \alpha) f_2(x_2))` side by side, and the loss is
    :math:`\alpha L(s, y_1) + (1 - \alpha) L(s, y_2)`. At test both weights are 1/2.

    Args:
        criterion, options: See `Objective`.
    """

    share = 1.0

    def begin_epoch(self, progress: float) -> None:
        super().begin_epoch(progress)
        self.share = 1 - progress**2

    def prior(self, sampled: str) -> str:
        return "uniform"

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        require("sampling", len(batch.others) + 1, len(batch.others) == 1, "must name two samplers for this objective")
        (other,) = batch.others
        size = min(len(batch.targets), len(other.targets))
        one, two = (learner.training_features(part.images[:size]) for part in (batch, other))
        require("backbone.experts", 1, one.ndim == 3 and one.shape[1] == 2, "must be 2 for this objective")
        mixed = 2 * torch.stack([self.share * one[:, 0], (1 - self.share) * two[:, 1]], 1)
        logits = learner.classifier(mixed)
        plain, rare = (self.criterion(logits, part.targets[:size]) for part in (batch, other))
        right = [(logits.detach().argmax(1) == part.targets[:size]).float().mean() for part in (batch, other)]
        acc = self.share * right[0] + (1 - self.share) * right[1]
        return {
            "loss_ce": plain,
            "loss_reversed": rare,
            "acc": acc,
            "loss": self.share * plain + (1 - self.share) * rare,
        }


def _sum_over_experts(criterion: Criterion, logits: Tensor, batch: Batch) -> Tensor:
    losses = [criterion(own, batch.targets, batch.partners, batch.shares) for own in logits.unbind(1)]
    return torch.stack(losses).sum()


def _acc(logits: Tensor, batch: Batch) -> Tensor:
    """The share of the images, (), that the mean of the experts' logits (B, E, C) classifies rightly."""
    return (logits.detach().mean(1).argmax(1) == batch.targets).float().mean()
