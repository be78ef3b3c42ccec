"""What a stage minimises: a model and a batch in, the terms of a loss out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from drolt_pl.losses import Criterion, DROLTLoss, LayeredDROLTLoss


class Batch(NamedTuple):
    """What the training loader gives: images (B, C, H, W), targets (B,), and for mixed images who was mixed in.

    With several views, the first of each image stands before the second of each.
    """

    images: Tensor
    targets: Tensor
    partners: Tensor | None = None  # targets of the images mixed in, (B,)
    shares: Tensor | None = None  # what each image kept of itself, (B,)
    views: int = 1  # of each image

    def part(self, rows: slice) -> "Batch":
        """These rows as a batch of one view."""
        partners, shares = (None if value is None else value[rows] for value in (self.partners, self.shares))
        return Batch(self.images[rows], self.targets[rows], partners, shares)


class Model(Protocol):
    """What an objective sees of the module that trains."""

    loss: DROLTLoss | LayeredDROLTLoss

    @property
    def classifier(self) -> Any:
        """Features (B, D) -> logits (B, C), of the stage in force."""

    def training_features(self, images: Tensor) -> Tensor:
        """Features (B, D), with gradient where the stage trains the backbone."""

    def loss_features(self, features: Tensor) -> Tensor:
        """What the robust loss is of, for features that `training_features` has just given."""

    def step_centroids(self, features: Tensor, targets: Tensor) -> Tensor:
        """The centroids that this step measures against, (C, D)."""


class Objective(nn.Module, ABC):
    """Base of the objectives; a stage names one. Parameters that it has learn with the classifier's rates.

    Args:
        criterion: The classifier's loss.
        options: Facts of the run for subclasses to take: `num_classes`, `num_features`, `class_counts`.

    Attributes:
        uses_centroids: Whether a stage with it needs the class centroids (and trains the radii).
    """

    uses_centroids: ClassVar[bool] = False

    def __init__(self, *, criterion: Criterion, **options: Any) -> None:
        super().__init__()
        self.criterion = criterion

    def begin_epoch(self, progress: float) -> None:
        """Called at every epoch's start with the share of the stage that lies before it."""
        self.criterion.begin_epoch(progress)

    def with_backbone(self, classifier: Any) -> Iterable[nn.Parameter]:
        """Parameters of the stage's classifier that learn at the backbone's rates; none, as a rule."""
        return []

    @abstractmethod
    def forward(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        """0-d terms by name: `loss`, which is minimised, and what else is to be logged, `acc` among it."""

    def classify(self, model: Model, batch: Batch, features: Tensor) -> dict[str, Tensor]:
        """The criterion's terms, `loss_ce` and `acc` (of a mixed image's own label), of features (B, D)."""
        logits = model.classifier(features)
        loss = self.criterion(logits, batch.targets, batch.partners, batch.shares)
        return {"loss_ce": loss, "acc": (logits.detach().argmax(1) == batch.targets).float().mean()}
