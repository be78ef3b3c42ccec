"""The robust loss at several layers of a network."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from drolt_pl.losses.dro_lt import DROLTLoss
from drolt_pl.losses.measure import Measure


class LayeredDROLTLoss(nn.Module):
    """Mean over layers of L_robust, each with its own centroids and radii; used as one `DROLTLoss` is.

    The paper says that the loss "can be applied to representations at several layers" and gives no form; a mean keeps
    the meaning of ``ce_weight`` whatever the number of layers.

    Args:
        losses: By layer, in the order in which their features stand side by side; alike but for `num_features`.
    """

    def __init__(self, losses: Mapping[str, DROLTLoss]) -> None:
        super().__init__()
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

    def terms(
        self, features: Tensor, targets: Tensor, centroids: Tensor, shares: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Means over the layers of what `DROLTLoss.terms` gives, of features (B, sum D_l), centroids (C, sum D_l)."""
        parts = zip(
            self.losses, torch.split(features, self.widths, 1), torch.split(centroids, self.widths, 1), strict=True
        )
        by_layer = [loss.terms(z, targets, means, shares) for loss, z, means in parts]
        return {name: torch.stack([terms[name] for terms in by_layer]).mean(0) for name in by_layer[0]}

    def own_mass(self, features: Tensor, targets: Tensor, centroids: Tensor) -> Tensor:
        """Mean over the layers of `DROLTLoss.own_mass`."""
        parts = zip(
            self.losses, torch.split(features, self.widths, 1), torch.split(centroids, self.widths, 1), strict=True
        )
        return torch.stack([loss.own_mass(z, targets, means) for loss, z, means in parts]).mean(0)

    def held_out_coverage(self, distances: Tensor, held_out_counts: Tensor) -> dict[str, Tensor]:
        """Nothing: the balls of inner layers are not around the centroids before the classifier."""
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
        """Each layer's features as `DROLTLoss.normalise` gives them, side by side."""
        parts = zip(self.losses, torch.split(features, self.widths, 1), strict=True)
        return torch.cat([loss.normalise(z) for loss, z in parts], dim=1)
