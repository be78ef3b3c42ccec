"""The interface of backbones: images in, features out."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Base of the backbones.

    Attributes:
        num_features: D, the width of one set of features.
        num_experts: E, the number of feature sets; ensembles have more than 1.
    """

    num_features: int
    num_experts: int = 1

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, ...), or (B, E, D) of E experts."""


def each(features: Tensor) -> tuple[Tensor, ...]:
    """The feature sets of a backbone, (B, D) each: features (B, D) are one set, features (B, E, D) are E sets."""
    return features.unbind(1) if features.ndim == 3 else (features,)
