"""Sharpness-aware minimisation as an objective: the loss of all or of rare classes, at the worst weights nearby."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from drolt_pl.checked import checked
from drolt_pl.losses import Criterion
from drolt_pl.objectives.base import Batch, Learner, Objective
from drolt_pl.ranges import Count, Positive

TINY = 1e-12  # in place of the norm of a gradient that is zero


@checked
class SharpnessAware(Objective):
    r"""The criterion at weights a step uphill (SAM, Foret et al. 2021); or that of rare classes alone (ImbSAM).

    .. math:: L_{flat}(w) + L_{sharp}(w + \epsilon), \quad
        \epsilon = \rho \, \nabla L_{sharp}(w) / \|\nabla L_{sharp}(w)\|

    L_sharp is the part of the batch's loss that classes with fewer than ``below`` images have (Zhou et al. 2023), and
    L_flat the rest. The gradient is that at w + epsilon, epsilon taken as constant. Each image goes forward and back
    twice. On several ranks each has an epsilon of its own, from its share of the batch, as in Foret et al.

    Args:
        class_counts: Training images per class, (C,).
        rho: Length of the step uphill, over all weights that the stage trains.
        below: Classes with fewer training images are sharp; null for all classes, which is SAM.
        criterion, options: See `Objective`.
    """

    passes = 2
    sharp: Tensor

    def __init__(
        self,
        *,
        criterion: Criterion,
        class_counts: list[int],
        rho: Positive = 0.05,
        below: Count | None = None,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        self.rho, self.all = rho, below is None
        counts = torch.as_tensor(class_counts)
        sharp = torch.ones(len(counts)) if below is None else (counts < below).float()
        self.register_buffer("sharp", sharp, persistent=False)

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        logits = learner.classifier(learner.training_features(batch.images))
        sharp, flat = self._split(logits, batch)
        parts = {"backbone": learner.backbone, "classifier": learner.classifier}
        moved = self._uphill(sharp, parts)
        images = batch.images
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        features = functional_call(learner.backbone, moved["backbone"], (images,))
        if not moved["backbone"]:
            features = features.detach()  # of a backbone that the stage does not train
        uphill, _ = self._split(functional_call(learner.classifier, moved["classifier"], (features,)), batch)
        acc = (logits.detach().argmax(1) == batch.targets).float().mean()
        loss = uphill if self.all else uphill + flat
        return {"loss_ce": (sharp + flat).detach(), "sharpness": (uphill - sharp).detach(), "acc": acc, "loss": loss}

    def _split(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's loss in two parts, 0-d: that of the sharp classes, and the rest."""
        losses, weights = self.criterion.parts(logits, batch.targets, batch.partners, batch.shares)
        share = self.sharp.to(losses.dtype)[batch.targets]
        return self.criterion.mean(share * losses, weights), self.criterion.mean((1 - share) * losses, weights)

    def _uphill(self, loss: Tensor, parts: dict[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
        """The parameters of each part with a gradient, a step uphill; they pass gradients on to the parameters."""
        found = dict(_learning(parts))
        gradients = torch.autograd.grad(loss, list(found.values()), retain_graph=not self.all, allow_unused=True)
        steps = {key: step for key, step in zip(found, gradients, strict=True) if step is not None}
        norm = torch.stack([_wide(step).norm() for step in steps.values()]).norm().clamp(min=TINY)
        moved: dict[str, dict[str, Tensor]] = {name: {} for name in parts}
        for (part, name), step in steps.items():
            moved[part][name] = found[part, name] + (self.rho / norm * _wide(step)).to(step.dtype)
        return moved


def _wide(step: Tensor) -> Tensor:
    return step.to(torch.promote_types(step.dtype, torch.float32))


def _learning(parts: dict[str, nn.Module]) -> Iterator[tuple[tuple[str, str], nn.Parameter]]:
    for part, module in parts.items():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                yield (part, name), parameter
