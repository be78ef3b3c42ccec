"""How features are measured: by which distance, and whether they are made unit vectors first."""

from dataclasses import dataclass

import torch
from torch import Tensor

from drolt_pl.losses.distances import unit_vectors


@dataclass(frozen=True)
class Measure:
    """The way of measuring that centroids, radii and nearest centroids share.

    Attributes:
        distance: `euclidean`, `student_t` or `cosine`.
        feature_norm: `l2` divides features by their norms, `none` leaves them.
    """

    distance: str = "euclidean"
    feature_norm: str = "none"

    def normalise(self, features: Tensor) -> Tensor:
        """Features (B, D) in at least float32, and unit vectors where `feature_norm` is `l2`."""
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        return unit_vectors(features) if self.feature_norm == "l2" else features
