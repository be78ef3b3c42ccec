"""Contrastive objectives, for stages with several views of each image: SupCon and balanced contrastive learning."""

from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.losses import Criterion, balanced_contrastive, supervised_contrastive
from drolt_pl.objectives.base import Batch, Learner, Objective
from drolt_pl.ranges import NonNegative, Positive, Width


def projection(num_features: int, num_outputs: int, *, hidden: int | None = None, norm: bool = False) -> nn.Sequential:
    """The head of Khosla et al. 2020, D -> hidden -> E with one ReLU; BCL's code has a BatchNorm before the ReLU."""
    width = num_features if hidden is None else hidden
    layers = [nn.Linear(num_features, width), *[nn.BatchNorm1d(width)] * norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(width, num_outputs))


@checked
class SupCon(Objective):
    """Supervised contrastive loss of projected features (Khosla et al. 2020). No classifier learns.

    Args:
        num_features: D.
        temperature: T; 0.1 for CIFAR, 0.07 for ImageNet.
        base_temperature: The loss is multiplied by T / base_temperature. Their code has 0.07, so that steps at T = 0.1
            are 1.43 times as large. Null leaves the loss as in their paper.
        num_outputs: Width of the projection.
        criterion, options: See `Objective`.

    Raises:
        SettingError: a base temperature that is not positive.
    """

    def __init__(
        self,
        *,
        criterion: Criterion,
        num_features: int,
        temperature: Positive = 0.1,
        base_temperature: Positive | None = None,
        num_outputs: Width = 128,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        self.temperature = temperature
        self.factor = 1.0 if base_temperature is None else temperature / base_temperature
        self.projection = projection(num_features, num_outputs)

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        embeddings = self.projection(learner.training_features(batch.images))
        loss = supervised_contrastive(embeddings, batch.targets, temperature=self.temperature)
        return {"loss_supcon": loss, "loss": self.factor * loss}


@checked
class BalancedContrastive(Objective):
    """The criterion plus a balanced contrastive loss (BCL, Zhu et al. 2022); the source has a logit-adjusted criterion.

    The classes' prototypes are projections of the classifier's rows. With three views the first is classified and the
    other two are contrasted, as in their code; with another number every view is both.

    Args:
        num_features: D.
        weight: Weight of the contrastive loss.
        temperature: T.
        num_outputs: Width of the projections.
        num_hidden: Width of their inner layer; null for D. The code of ProCo, which has BCL for CIFAR, uses 512.
        criterion, options: See `Objective`.
    """

    def __init__(
        self,
        *,
        criterion: Criterion,
        num_features: int,
        weight: NonNegative = 0.35,
        temperature: Positive = 0.1,
        num_outputs: Width = 128,
        num_hidden: Width | None = None,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        self.weight, self.temperature = weight, temperature
        self.projection = projection(num_features, num_outputs, hidden=num_hidden, norm=True)
        self.prototypes = projection(num_features, num_outputs, hidden=num_hidden, norm=True)

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        features = learner.training_features(batch.images)
        embeddings = self.projection(features)  # of all views: its BatchNorm sees the same images as the backbone's
        classified = contrasted = slice(None)
        if batch.views == 3:
            first = len(batch.targets) // 3
            classified, contrasted = slice(first), slice(first, None)
        terms = self.classify(learner, batch.part(classified), features[classified])
        contrast = balanced_contrastive(
            embeddings[contrasted],
            batch.targets[contrasted],
            self.prototypes(learner.classifier.class_vectors()),
            temperature=self.temperature,
        )
        return {**terms, "loss_contrastive": contrast, "loss": terms["loss_ce"] + self.weight * contrast}
