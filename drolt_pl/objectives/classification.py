"""Minimises the classifier's loss alone."""

from torch import Tensor

from drolt_pl.objectives.base import Batch, Learner, Objective


class Classification(Objective):
    """Minimises the criterion of the stage's classifier. Arguments as for `Objective`."""

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        terms = self.classify(learner, batch, learner.training_features(batch.images))
        return {**terms, "loss": terms["loss_ce"]}
