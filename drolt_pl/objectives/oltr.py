"""The objective of OLTR: cross-entropy of its classifier, and a loss that keeps its memory at the class centroids."""

from torch import Tensor

from drolt_pl.losses import Criterion
from drolt_pl.objectives.base import Batch, Learner, Objective


def memory_loss(features: Tensor, targets: Tensor, memory: Tensor, *, margin: float = 10.0) -> Tensor:
    r"""Pulls each feature and its class's memory together, and the other classes' memories away (Liu et al. 2019).

    .. math:: \frac{1}{2B} \sum_i \|f_i - M_{y_i}\|^2 +
        0.01 \max\Big(0, m - \frac{1}{BC} \sum_i \sum_{c \ne y_i} \|f_i - M_c\|^2\Big)

    as their code has it. Args: features (B, D), targets (B,), memory (C, D), the margin m.
    """
    features = features.to(memory.dtype)
    distances = features.square().sum(1, keepdim=True) + memory.square().sum(1) - 2 * features @ memory.T  # (B, C)
    own = (features - memory[targets]).square().sum(1)
    others = distances.scatter(1, targets[:, None], 0.0).sum() / distances.numel()
    return 0.5 * own.mean() + 0.01 * (margin - others).clamp(min=0)


class OLTR(Objective):
    """Criterion + ``weight`` x `memory_loss`, for stages with the classifier `oltr`.

    Args:
        weight: Of the memory loss; theirs is 0.01.
        margin: See `memory_loss`.
        criterion, options: See `Objective`.
    """

    def __init__(self, *, criterion: Criterion, weight: float = 0.01, margin: float = 10.0, **options: object) -> None:
        super().__init__(criterion=criterion)
        self.weight, self.margin = weight, margin

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        features = learner.training_features(batch.images)
        terms = self.classify(learner, batch, features)
        memory = memory_loss(features, batch.targets, learner.classifier.class_vectors(), margin=self.margin)
        return {**terms, "loss_memory": memory, "loss": terms["loss_ce"] + self.weight * memory}
