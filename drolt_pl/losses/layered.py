"""The robust loss at several layers of a network."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from drolt_pl.errors import require
from drolt_pl.losses.dro_lt import DROLTLoss
from drolt_pl.losses.measure import Measure


class LayeredDROLTLoss(nn.Module):
    """The mean of L_robust over layers, each with its own centroids and radii; it is used as one `DROLTLoss` is.

    The paper says that the loss "can be applied to representations at several layers" and gives no form. With a mean
    ``ce_weight`` means the same for any number of layers.

    Args:
        losses: One loss per layer, in the order in which the layers' features are concatenated. They may differ in
            `num_features` alone.
    """

    def __init__(self, losses: Mapping[str, DROLTLoss]) -> None:
        super().__init__()
        require("losses", [*losses], bool(losses), "must name at least one layer")
        classes = {loss.num_classes for loss in losses.values()}
        require("losses", sorted(classes), len(classes) == 1, "must all have one number of classes")
        self.names = tuple(losses)
        self.layers = nn.ModuleList(losses.values())
        self.widths = [loss.num_features for loss in losses.values()]

        self.losses = list(losses.values())
        self.num_classes, self.num_features = self.losses[0].num_classes, sum(self.widths)

    def parts(self) -> list[DROLTLoss]:
        """The layers' losses, in order."""
        return self.losses

    @property
    def measure(self) -> Measure:
        """As in `DROLTLoss`."""
        return self.losses[0].measure

    @property
    def updates(self) -> Tensor:
        """As in `DROLTLoss`."""
        return self.losses[0].updates

    def forward(self, features: Tensor, targets: Tensor, centroids: Tensor) -> Tensor:
        """The mean over the layers of L_robust with the prior of its radii, 0-d; arguments as in :meth:`terms`."""
        return self.total(self.terms(features, targets, centroids))

    def terms(
        self, features: Tensor, targets: Tensor, centroids: Tensor, shares: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The means over the layers of `DROLTLoss.terms`, for features (B, sum D_l) and centroids (C, sum D_l)."""
        parts = zip(self.losses, self._split(features), self._split(centroids), strict=True)
        by_layer = [loss.terms(z, targets, means, shares) for loss, z, means in parts]
        return {name: torch.stack([terms[name] for terms in by_layer]).mean(0) for name in by_layer[0]}

    def own_mass(self, features: Tensor, targets: Tensor, centroids: Tensor) -> Tensor:
        """Mean over the layers of `DROLTLoss.own_mass`."""
        parts = zip(self.losses, self._split(features), self._split(centroids), strict=True)
        return torch.stack([loss.own_mass(z, targets, means) for loss, z, means in parts]).mean(0)

    def held_out_coverage(self, distances: Tensor, held_out_counts: Tensor) -> dict[str, Tensor]:
        """An empty result: the balls lie around centroids of inner layers, not around those before the classifier."""
        return {}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """As in `DROLTLoss`."""
        return self.losses[0].total(terms)

    def mix(self, ce: Tensor, value: Tensor) -> Tensor:
        """As in `DROLTLoss`."""
        return self.losses[0].mix(ce, value)

    def coverages(self) -> Tensor | None:
        """Null: radii of inner layers say nothing about the centroids of the last."""
        return None

    def radii(self) -> Tensor:
        """Radius of each class's ball in each layer, (C, layers)."""
        return torch.stack([loss.radii() for loss in self.losses], dim=1)

    def normalise(self, features: Tensor) -> Tensor:
        """Normalises each layer's features by `DROLTLoss.normalise` and concatenates them."""
        parts = zip(self.losses, self._split(features), strict=True)
        return torch.cat([loss.normalise(z) for loss, z in parts], dim=1)

    def _split(self, features: Tensor) -> tuple[Tensor, ...]:
        if features.ndim != 2 or features.shape[1] != self.num_features:
            demand = f"must have {self.num_features} columns, those of all layers"
            raise ValueError(f"features and centroids {demand}, got {tuple(features.shape)}")
        return torch.split(features, self.widths, 1)
