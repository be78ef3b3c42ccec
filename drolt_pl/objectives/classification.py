"""The classifier's loss, alone or beside the robust loss of the features."""

from torch import Tensor

from drolt_pl.objectives.balance import gradient_balance
from drolt_pl.objectives.base import Batch, Model, Objective

MEASURED_EVERY = 50  # steps of an epoch, from its first on
LOSS_TERMS = ("robust", "prior")  # what of DROLTLoss.terms is part of the loss; the rest are measurements


class Classification(Objective):
    """The criterion of the stage's classifier. Arguments as for `Objective`."""

    def forward(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        terms = self.classify(model, batch, model.training_features(batch.images))
        return {**terms, "loss": terms["loss_ce"]}


class Robust(Objective):
    """The criterion and L_robust, mixed as the loss says (Samuel & Chechik 2021, Eq. 19).

    A mixed image counts for both its classes, with its shares. Every 50 steps the terms hold measurements as well:
    ``own_mass``, the own class's share in the softmax of L_robust, and where it is of the classifier's features and
    these learn, those of `gradient_balance`. Arguments as for `Objective`.
    """

    uses_centroids = True
    _step = 0  # of the epoch: a resumed epoch then measures where the first one did

    def begin_epoch(self, progress: float) -> None:
        super().begin_epoch(progress)
        self._step = 0

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
        total = model.loss.total(robust)
        named = {f"loss_{name}" if name in LOSS_TERMS else name: term for name, term in robust.items()}
        if self._step % MEASURED_EVERY == 0:
            named["own_mass"] = model.loss.own_mass(measured, batch.targets, centroids)
            if measured is features and features.requires_grad:
                named |= gradient_balance(terms["loss_ce"], total, features)
        self._step += 1
        return {**terms, **named, "loss": model.loss.mix(terms["loss_ce"], total)}
