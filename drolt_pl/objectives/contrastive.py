"""Contrastive objectives, for stages with several views of each image: SupCon and balanced contrastive learning."""

from torch import Tensor, nn

from drolt_pl.losses import Criterion, balanced_contrastive, supervised_contrastive
from drolt_pl.objectives.base import Batch, Learner, Objective


def projection(num_features: int, num_outputs: int, *, norm: bool = False) -> nn.Sequential:
    """The head of Khosla et al. 2020: D -> D -> E with one ReLU; BCL's code has a BatchNorm before it."""
    layers = [nn.Linear(num_features, num_features), *[nn.BatchNorm1d(num_features)] * norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(num_features, num_outputs))


class SupCon(Objective):
    """Supervised contrastive loss of projected features (Khosla et al. 2020); no classifier learns.

    Args:
        num_features: D.
        temperature: T; 0.1 for CIFAR, 0.07 for ImageNet.
        num_outputs: Width of the projection.
        criterion, options: See `Objective`.
    """

    def __init__(
        self,
        *,
        criterion: Criterion,
        num_features: int,
        temperature: float = 0.1,
        num_outputs: int = 128,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        self.temperature = temperature
        self.projection = projection(num_features, num_outputs)

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        embeddings = self.projection(learner.training_features(batch.images))
        loss = supervised_contrastive(embeddings, batch.targets, temperature=self.temperature)
        return {"loss_supcon": loss, "loss": loss}


class BalancedContrastive(Objective):
    """The criterion, logit-adjusted as a rule, plus a balanced contrastive loss (BCL, Zhu et al. 2022).

    The classes' prototypes are projections of the classifier's rows.

    Args:
        num_features: D.
        weight: Of the contrastive loss.
        temperature: T.
        num_outputs: Width of the projections.
        criterion, options: See `Objective`.
    """

    def __init__(
        self,
        *,
        criterion: Criterion,
        num_features: int,
        weight: float = 0.35,
        temperature: float = 0.1,
        num_outputs: int = 128,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        self.weight, self.temperature = weight, temperature
        self.projection = projection(num_features, num_outputs, norm=True)
        self.prototypes = projection(num_features, num_outputs, norm=True)

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        features = learner.training_features(batch.images)
        terms = self.classify(learner, batch, features)
        contrast = balanced_contrastive(
            self.projection(features),
            batch.targets,
            self.prototypes(learner.classifier.class_vectors()),
            temperature=self.temperature,
        )
        return {**terms, "loss_contrastive": contrast, "loss": terms["loss_ce"] + self.weight * contrast}
