"""The objective of DRO-LT: it owns the robust loss with its radii, centroids and inner layers."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from drolt_pl.backbones.layers import LayerTaps
from drolt_pl.centroids import ClassStatistics, step_centroids
from drolt_pl.checked import checked
from drolt_pl.losses import Criterion, DROLTLoss, LayeredDROLTLoss
from drolt_pl.objectives.balance import gradient_balance
from drolt_pl.objectives.base import Batch, Learner, Objective
from drolt_pl.ranges import Fraction

LOSS_TERMS = ("robust", "prior")  # parts of the loss among DROLTLoss.terms; the other terms are measurements
MEASURED_EVERY = 50  # steps of an epoch, from its first on

Source = Literal["epoch", "batch", "ema"]


@checked
class Robust(Objective):
    """Mixes the criterion and L_robust by `DROLTLoss.mix` (Samuel & Chechik 2021, Eq. 19).

    A mixed image counts for both its classes, by its shares. Every 50 steps the terms also hold measurements:
    ``own_mass``, the own class's share in the softmax of L_robust, and without `taps`, in stages that train the
    backbone, the two of `gradient_balance`.

    Args:
        criterion: The classifier's loss.
        loss: The robust loss; with `taps` one of several layers.
        taps: The inner layers that the loss measures at; null for the features before the classifier.
        centroids: The centroids that the loss measures against: `epoch` (means over the training set at the epoch's
            start), `batch` (means of the batch) or `ema` (the epoch's, moved at every step). Paper Sec. 6 compares
            them.
        ema_decay: Weight of the old centroid in `ema`.
        options: See `Objective`.

    The buffer `centroids` is (C, W), W the width of the features that the loss measures.
    """

    uses_centroids = True
    centroids: Tensor
    _step = 0  # counts within the epoch, so that a resumed epoch measures at the same steps

    def __init__(
        self,
        *,
        criterion: Criterion,
        loss: DROLTLoss | LayeredDROLTLoss,
        taps: LayerTaps | None = None,
        centroids: Source = "epoch",
        ema_decay: Fraction = 0.9,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        self.loss, self.taps, self.source, self.ema_decay = loss, taps, centroids, ema_decay
        self.register_buffer("centroids", torch.zeros(loss.num_classes, loss.num_features))

    def robust(self) -> "Robust":
        return self

    def learned(self) -> Iterator[nn.Parameter]:
        return self.criterion.parameters()

    @property
    def layer_widths(self) -> Sequence[int]:
        """Widths of the tapped layers' features; empty if the loss measures the features before the classifier."""
        return () if self.taps is None else self.taps.widths

    def tapped(self) -> Tensor:
        """Features of the tapped layers in the last forward pass, as the loss measures them, (B, sum of widths)."""
        assert self.taps is not None
        return self.loss.normalise(self.taps.features())

    def set_statistics(self, statistics: Sequence[ClassStatistics]) -> None:
        """Takes the statistics of a centroid pass: one for each tapped layer, or one of the classifier's features."""
        self.centroids.copy_(torch.cat([found.centroids for found in statistics], dim=1))
        for loss, found in zip(self.loss.parts(), statistics, strict=True):
            loss.set_statistics(found.total_variance, found.effective_dim)

    def begin_epoch(self, progress: float) -> None:
        super().begin_epoch(progress)
        self._step = 0

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        features = learner.training_features(batch.images)
        terms = self.classify(learner, batch, features)
        measured = features.flatten(1) if self.taps is None else self.taps.features()
        centroids = self._centroids_of(self.loss.normalise(measured.detach()), batch.targets)
        if batch.partners is None or batch.shares is None:
            robust = self.loss.terms(measured, batch.targets, centroids)
        else:
            own = self.loss.terms(measured, batch.targets, centroids, batch.shares)
            other = self.loss.terms(measured, batch.partners, centroids, 1 - batch.shares)
            robust = {name: own[name] + other[name] for name in own}
        total = self.loss.total(robust)
        named = {f"loss_{name}" if name in LOSS_TERMS else name: term for name, term in robust.items()}
        if self._step % MEASURED_EVERY == 0:
            named["own_mass"] = self.loss.own_mass(measured, batch.targets, centroids)
            if self.taps is None and features.requires_grad:
                named |= gradient_balance(terms["loss_ce"], total, features)
        self._step += 1
        return {**terms, **named, "loss": self.loss.mix(terms["loss_ce"], total)}

    def _centroids_of(self, features: Tensor, targets: Tensor) -> Tensor:
        """The centroids that this step measures its features (B, W) against, (C, W)."""
        used, kept = step_centroids(self.source, self.centroids, features, targets, decay=self.ema_decay)
        if kept is not self.centroids:
            self.centroids.copy_(kept)
        return used
