"""What a stage minimises: a learner and a batch in, the terms of a loss out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from drolt_pl.classifiers import Classifier
from drolt_pl.losses import Criterion

if TYPE_CHECKING:
    from drolt_pl.objectives.robust import Robust


class Batch(NamedTuple):
    """What the training loader gives: images (B, ...), targets (B,), and for mixed images who was mixed in.

    With several views, the first of each image stands before the second of each.

    Attributes:
        images: What the network sees.
        targets: Class indices.
        partners: Targets of the images mixed in, (B,).
        shares: What each image kept of itself, (B,).
        others: Batches of the stage's other streams, for a stage with several samplers.
        views: Views of each image.
    """

    images: Tensor
    targets: Tensor
    partners: Tensor | None = None
    shares: Tensor | None = None
    others: tuple["Batch", ...] = ()
    views: int = 1

    @classmethod
    def of(cls, parts: Sequence[object], views: int = 1) -> "Batch":
        """The batch of a loader's plain tuple, whose fifth part holds the plain tuples of the other streams."""
        images, targets, partners, shares, others = [*parts, None, None, None][:5]
        assert isinstance(images, Tensor)
        assert isinstance(targets, Tensor)
        assert partners is None or isinstance(partners, Tensor)
        assert shares is None or isinstance(shares, Tensor)
        rest = others if isinstance(others, Sequence) else ()
        return cls(images, targets, partners, shares, tuple(cls.of(other, views) for other in rest), views)

    def part(self, rows: slice) -> "Batch":
        """These rows as a batch of one view, of the first stream alone."""
        partners, shares = (None if value is None else value[rows] for value in (self.partners, self.shares))
        return Batch(self.images[rows], self.targets[rows], partners, shares)

    def size(self) -> int:
        """Images of all streams."""
        return len(self.targets) + sum(other.size() for other in self.others)


class Learner(Protocol):
    """What an objective sees of the module that trains."""

    @property
    def classifier(self) -> Classifier:
        """Features (B, D) -> logits (B, C), of the stage in force."""

    def training_features(self, images: Tensor) -> Tensor:
        """Features (B, D), with gradient where the stage trains the backbone; (B, E, D) of E experts."""


class Objective(nn.Module, ABC):
    """Base of the objectives; a stage names one. Parameters that it has learn with the classifier's rates.

    Args:
        criterion: The classifier's loss.
        options: Facts of the run that a subclass may take by name: `num_classes`, `num_features`, `class_counts`, and
            what `Robust` takes.

    Attributes:
        uses_centroids: Whether a stage with it needs the class centroids (and trains the radii).
        needs_images: Whether it works on pixels, and not on stored features.
    """

    uses_centroids: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False

    def __init__(self, *, criterion: Criterion, **options: object) -> None:
        super().__init__()
        self.criterion = criterion

    def begin_epoch(self, progress: float) -> None:
        """Called at every epoch's start with the share of the stage that lies before it."""
        self.criterion.begin_epoch(progress)

    def robust(self) -> "Robust | None":
        """The objective itself where it owns a robust loss, else null."""
        return None

    def learned(self) -> Iterator[nn.Parameter]:
        """Parameters that learn with the classifier's rates."""
        return self.parameters()

    def with_backbone(self, classifier: Classifier) -> Iterable[nn.Parameter]:
        """Parameters of the stage's classifier that learn at the backbone's rates; none, as a rule."""
        return []

    @abstractmethod
    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        """0-d terms by name: `loss`, which is minimised, and what else is to be logged, `acc` among it."""

    def classify(self, learner: Learner, batch: Batch, features: Tensor) -> dict[str, Tensor]:
        """The criterion's terms, `loss_ce` and `acc` (of a mixed image's own label), of features (B, D)."""
        logits = learner.classifier(features)
        loss = self.criterion(logits, batch.targets, batch.partners, batch.shares)
        return {"loss_ce": loss, "acc": (logits.detach().argmax(1) == batch.targets).float().mean()}
