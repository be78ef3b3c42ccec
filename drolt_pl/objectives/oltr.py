"""The objective of OLTR: the criterion of its classifier, and a loss that keeps its memory at the class centroids."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.classifiers import Classifier
from drolt_pl.losses import Criterion
from drolt_pl.losses.batch import class_histogram
from drolt_pl.objectives.base import Batch, Learner, Objective
from drolt_pl.ranges import NonNegative


def memory_loss(features: Tensor, targets: Tensor, memory: Tensor, *, margin: float = 10.0) -> Tensor:
    r"""Pulls each feature to its class's memory and pushes it away from the other memories (Liu et al. 2019).

    .. math:: \frac{1}{2B} \sum_i \|f_i - M_{y_i}\|^2 +
        0.01 \max\Big(0, m - \frac{1}{BC} \sum_i \sum_{c \ne y_i} \|f_i - M_c\|^2\Big)

    The form is that of their code. The first term has no gradient with respect to the memory; `memory_pull` has one
    instead. Arguments: features (B, D), targets (B,), memory (C, D) and the margin m.
    """
    features = features.to(memory.dtype)
    distances = features.square().sum(1, keepdim=True) + memory.square().sum(1) - 2 * features @ memory.T  # (B, C)
    own = (features - memory.detach()[targets]).square().sum(1)
    others = distances.scatter(1, targets[:, None], 0.0).sum() / distances.numel()
    return 0.5 * own.mean() + 0.01 * (margin - others).clamp(min=0)


@torch.no_grad()
def memory_pull(features: Tensor, targets: Tensor, memory: Tensor) -> Tensor:
    r"""The gradient of `memory_loss`'s first term with respect to the memory, as their code defines it, (C, D).

    .. math:: \frac{1}{B (1 + b_c)} \sum_{i: y_i = c} (M_c - f_i)

    b_c is the number of samples of the class in the batch: it is the true gradient divided by 1 + b_c. Arguments as for
    `memory_loss`.
    """
    number = class_histogram(targets, len(memory)).to(memory.dtype)[:, None]  # (C, 1)
    total = torch.zeros_like(memory).index_add_(0, targets, features.to(memory.dtype))
    return (number * memory - total) / (len(targets) * (1 + number))


@checked
class OLTR(Objective):
    """Criterion + ``weight`` x `memory_loss`, for stages with the classifier `oltr`.

    The memory follows `memory_pull` without the weight (the backward pass of their code leaves it out). It learns at
    the backbone's rate and decay: 0.01 in their code, where the classifier has 0.1.

    Args:
        weight: Weight of the memory loss; theirs is 0.01.
        margin: See `memory_loss`.
        criterion, options: See `Objective`.
    """

    def __init__(
        self, *, criterion: Criterion, weight: NonNegative = 0.01, margin: NonNegative = 10.0, **options: object
    ) -> None:
        super().__init__(criterion=criterion)
        self.weight, self.margin = weight, margin

    def with_backbone(self, classifier: Classifier) -> Iterable[nn.Parameter]:
        memory = classifier.class_vectors()
        return [memory] if isinstance(memory, nn.Parameter) else []

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        features = learner.training_features(batch.images)
        terms = self.classify(learner, batch, features)
        memory = learner.classifier.class_vectors()
        loss = memory_loss(features, batch.targets, memory, margin=self.margin)
        pull = memory_pull(features, batch.targets, memory)
        # The value is 0, and the gradient with respect to the memory is `pull`.
        pulling = (pull * (memory - memory.detach())).sum()
        return {**terms, "loss_memory": loss, "loss": terms["loss_ce"] + self.weight * loss + pulling}
