"""The interface of classifiers: features in, logits out, and a start at the beginning of a stage."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.errors import SettingError


class HeldOut(NamedTuple):
    """Features (M, D) and targets (M,) of images that no weight was trained on."""

    features: Tensor
    targets: Tensor


class Classifier(nn.Module, ABC):
    """Base of the classifiers: `forward(features (B, D)) -> logits (B, C)`.

    Attributes:
        fitted: Whether the classifier is only fitted: it has buffers and no parameters, and takes no gradient step.
        needs_fit: Whether `fit` is called when its stage starts.
    """

    fitted: ClassVar[bool] = False
    needs_fit: ClassVar[bool] = False

    @abstractmethod
    def begin(self, previous: "Classifier | None", *, generator: torch.Generator) -> None:
        """Starts the classifier when its stage starts.

        Args:
            previous: The classifier of the stage before; null in the first stage.
            generator: Draws the initial weights.

        Raises:
            TypeError: this classifier cannot build on `previous`.
        """

    def fit(self, held_out: HeldOut | None, centroids: Tensor, counts: Tensor) -> None:
        """Fits the classifier to the features at the start of its stage; called if `needs_fit`.

        Args:
            held_out: Features of the validation images; null under a protocol without them.
            centroids: Class means over the training set, (C, D).
            counts: Images behind each mean, (C,).

        Raises:
            SettingError: an argument is missing, and there are no held-out images to choose it on.
        """

    def check_source(self) -> None:
        """Reads the file that `fit` will take from, where there is one, so that a wrong one ends no trained run.

        Raises:
            SettingError: it cannot be used.
        """

    @property
    def measures(self) -> bool:
        """Whether `set_means` must be called after `fit`, with the class means of `measured` features."""
        return False

    def measured(self, features: Tensor) -> Tensor:
        """The features (B, D) as `set_means` wants their means."""
        return features

    def set_means(self, means: Tensor) -> None:
        """Takes the class means of `measured` features over the training set, (C, D)."""

    @property
    def wanting(self) -> str | None:
        """The argument that must be given if there are no held-out images; null if none must."""
        return None

    @property
    def chosen(self) -> dict[str, float]:
        """The values that `fit` chose, by argument."""
        return {}

    def linear_parts(self) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,), for classifiers that start from a linear one.

        Raises:
            TypeError: the classifier is not linear.
        """
        raise TypeError(f"previous must be a linear classifier, trained before this one, got {type(self).__name__}")

    def class_vectors(self) -> Tensor:
        """One vector per class, (C, D), for objectives that use them: rows of weights, or a memory of centroids.

        Raises:
            SettingError: the classifier has none.
        """
        demand = "must have a vector for each class, which the stage's objective uses"
        raise SettingError("classifier", demand, type(self).__name__)

    def expert_logits(self, features: Tensor) -> Tensor:
        """Logits of each of E experts, (B, E, C), of their features (B, E, D), for objectives that use them.

        Raises:
            SettingError: the classifier has no experts.
        """
        demand = "must have experts, which the stage's objective uses: classifier=experts"
        raise SettingError("classifier", demand, type(self).__name__)

    def routes(self, features: Tensor) -> Tensor:
        """By how much each expert but the last wants the next one asked, (B, E - 1); above 0 it is.

        Raises:
            SettingError: the classifier decides no such thing.
        """
        demand = "must decide which experts are asked, which the stage's objective trains: classifier=routed_experts"
        raise SettingError("classifier", demand, type(self).__name__)


def linear_parts(previous: Classifier | None) -> tuple[Tensor, Tensor]:
    """`previous.linear_parts()`; raises TypeError if there is no previous classifier."""
    if previous is None:
        raise TypeError("previous must be a linear classifier, trained before this one, got NoneType")
    return previous.linear_parts()


def unit_rows(rows: Tensor) -> Tensor:
    """Rows (N, D) divided by their norms; a row of zeros stays one, in float16 too, where 1e-12 is 0."""
    return F.normalize(rows, dim=1, eps=max(1e-12, torch.finfo(rows.dtype).tiny))


@torch.no_grad()
def draw_uniform(parameter: Tensor, generator: torch.Generator, *, bound: float) -> None:
    """Fills with U(-bound, bound), drawn on the generator's device: a GPU run starts as a CPU run does."""
    values = torch.empty(parameter.shape, device=generator.device).uniform_(-bound, bound, generator=generator)
    parameter.copy_(values)


@torch.no_grad()
def draw_normal(parameter: Tensor, generator: torch.Generator, *, std: float) -> None:
    """Fills with N(0, std^2), drawn on the generator's device."""
    parameter.copy_(torch.empty(parameter.shape, device=generator.device).normal_(0, std, generator=generator))
