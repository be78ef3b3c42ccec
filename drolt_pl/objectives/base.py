"""The interface of objectives: a learner and a batch in, the terms of a loss out. A stage minimises one of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from drolt_pl.classifiers import Classifier
from drolt_pl.losses import Criterion

if TYPE_CHECKING:
    from drolt_pl.objectives.group_experts import GroupExperts
    from drolt_pl.objectives.robust import Robust


class Batch(NamedTuple):
    """A batch of the training loader.

    With several views of each image, the first views of all images come before the second views.

    Attributes:
        images: Input of the network, (B, ...).
        targets: Class indices, (B,).
        partners: Targets of the images that were mixed in, (B,); null for a batch that is not mixed.
        shares: Share that each image kept of itself, (B,); null for a batch that is not mixed.
        others: Batches of the stage's other streams, for a stage with several samplers.
        views: Number of views of each image.
    """

    images: Tensor
    targets: Tensor
    partners: Tensor | None = None
    shares: Tensor | None = None
    others: tuple["Batch", ...] = ()
    views: int = 1

    @classmethod
    def of(cls, parts: Sequence[object], views: int = 1) -> "Batch":
        """Makes a batch of a loader's plain tuple; its fifth part holds the tuples of the other streams."""
        images, targets, partners, shares, others = [*parts, None, None, None][:5]
        assert isinstance(images, Tensor)
        assert isinstance(targets, Tensor)
        assert partners is None or isinstance(partners, Tensor)
        assert shares is None or isinstance(shares, Tensor)
        rest = others if isinstance(others, Sequence) else ()
        return cls(images, targets, partners, shares, tuple(cls.of(other, views) for other in rest), views)

    def part(self, rows: slice) -> "Batch":
        """Some rows as a batch of one view, without the other streams."""
        partners, shares = (None if value is None else value[rows] for value in (self.partners, self.shares))
        return Batch(self.images[rows], self.targets[rows], partners, shares)

    def size(self) -> int:
        """Number of images in all streams."""
        return len(self.targets) + sum(other.size() for other in self.others)


class Learner(Protocol):
    """The part of the training module that objectives see."""

    @property
    def backbone(self) -> nn.Module:
        """The network, images -> features."""

    @property
    def classifier(self) -> Classifier:
        """The current stage's classifier, features (B, D) -> logits (B, C)."""

    def training_features(self, images: Tensor) -> Tensor:
        """Features (B, D), or (B, E, D) of E experts; with gradient if the stage trains the backbone."""


class Objective(nn.Module, ABC):
    """Base of the objectives; a stage names one. An objective's parameters learn with the classifier's rates.

    Args:
        criterion: The classifier's loss.
        options: Facts of the run that a subclass may take by name: `num_classes`, `num_features`, `class_counts`, the
            `backbone`, and the arguments of `Robust`.

    Attributes:
        uses_centroids: Whether stages with this objective need the class centroids (and train the radii).
        needs_images: Whether it works on pixels, which stored features do not have.
        needs_validation: Whether it follows accuracies on validation images.
        passes: How often it sends each image forward in a step; an epoch draws that many times fewer images.
    """

    uses_centroids: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    needs_validation: ClassVar[bool] = False
    passes: ClassVar[int] = 1

    def __init__(self, *, criterion: Criterion, **options: object) -> None:
        super().__init__()
        self.criterion = criterion

    def begin_epoch(self, progress: float) -> None:
        """Runs at the start of every epoch; `progress` is the share of the stage that has passed."""
        self.criterion.begin_epoch(progress)

    def prior(self, sampled: str) -> str:
        """Class frequencies that the classifier's softmax assumes, see `Criterion.prior`."""
        return self.criterion.prior(sampled)

    def robust(self) -> "Robust | None":
        """The objective itself if it owns a robust loss, else null."""
        return None

    def experts(self) -> "GroupExperts | None":
        """The objective itself if it trains experts of shot groups, else null."""
        return None

    def validate(self, images: Tensor, targets: Tensor) -> None:
        """Sees a batch of validation images, in eval mode and without gradient; does nothing by default."""

    def validated(self, accuracies: Mapping[str, Tensor]) -> None:
        """Takes the network's metrics when a validation has ended, by name; does nothing by default."""

    def learned(self) -> Iterator[nn.Parameter]:
        """Parameters that learn with the classifier's rates."""
        return self.parameters()

    def with_backbone(self, classifier: Classifier) -> Iterable[nn.Parameter]:
        """Parameters of the stage's classifier that learn at the backbone's rates; none by default."""
        return []

    @abstractmethod
    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        """Computes 0-d terms by name: `loss` is minimised, and all of them are logged, `acc` among them."""

    def classify(self, learner: Learner, batch: Batch, features: Tensor) -> dict[str, Tensor]:
        """Classifies features (B, D): the terms `loss_ce` and `acc`; a mixed image counts by its own label in `acc`."""
        logits = learner.classifier(features)
        loss = self.criterion(logits, batch.targets, batch.partners, batch.shares)
        return {"loss_ce": loss, "acc": (logits.detach().argmax(1) == batch.targets).float().mean()}
