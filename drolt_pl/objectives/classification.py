"""The classifier's loss, alone or beside the robust loss of the features."""

from torch import Tensor

from drolt_pl.objectives.base import Batch, Model, Objective

LOSS_TERMS = ("robust", "prior")  # what of DROLTLoss.terms is part of the loss; the rest are measurements


class Classification(Objective):
    """The criterion of the stage's classifier. Arguments as for `Objective`."""

    def forward(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        terms = self.classify(model, batch, model.training_features(batch.images))
        return {**terms, "loss": terms["loss_ce"]}


class Robust(Objective):
    """``ce_weight`` x criterion + (1 - ``ce_weight``) x L_robust (Samuel & Chechik 2021, Eq. 19).

    A mixed image counts for both its classes, with its shares. Arguments as for `Objective`.
    """

    uses_centroids = True

    def forward(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        features = model.training_features(batch.images)
        terms = self.classify(model, batch, features)
        measured = model.loss_features(features)
        centroids = model.step_centroids(model.loss.normalise(measured.detach()), batch.targets)
        if batch.partners is None or batch.shares is None:
            robust = model.loss.terms(measured, batch.targets, centroids)
        else:
            own = model.loss.terms(measured, batch.targets, centroids, batch.shares)
            other = model.loss.terms(measured, batch.partners, centroids, 1 - batch.shares)
            robust = {name: own[name] + other[name] for name in own}
        loss = model.loss.mix(terms["loss_ce"], model.loss.total(robust))
        named = {f"loss_{name}" if name in LOSS_TERMS else name: term for name, term in robust.items()}
        return {**terms, **named, "loss": loss}
