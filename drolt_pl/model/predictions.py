"""A model's predictions: one row per image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one image.

    Attributes:
        name: The most probable class.
        index: Index of that class.
        probability: Its softmax probability.
        top: The most probable classes and their probabilities, best first.
        nearest: The class of the nearest centroid; None if the model has no centroids.
        distance_over_radius: Distance to that centroid over its radius; None if the model has no radii.
    """

    name: str
    index: int
    probability: float
    top: tuple[tuple[str, float], ...]
    nearest: str | None
    distance_over_radius: float | None


@dataclass(frozen=True)
class Unreadable:
    """What stands in the place of an image that cannot be read, with the sentence that says why."""

    reason: str


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for N images; indexing and iteration give a `Prediction` for each.

    Attributes:
        class_names: C names.
        probabilities: Softmax probabilities of the k most probable classes, (N, k), best first.
        classes: Indices of these classes, (N, k).
        nearest: Index of the nearest centroid's class, (N,).
        distance_over_radius: Distance to that centroid over its radius, (N,).
    """

    class_names: tuple[str, ...]
    probabilities: Tensor
    classes: Tensor
    nearest: Tensor | None
    distance_over_radius: Tensor | None

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, row: int) -> Prediction:
        classes, probabilities = self.classes[row].tolist(), self.probabilities[row].tolist()
        names = [self.class_names[index] for index in classes]
        return Prediction(
            name=names[0],
            index=classes[0],
            probability=probabilities[0],
            top=tuple(zip(names, probabilities, strict=True)),
            nearest=None if self.nearest is None else self.class_names[int(self.nearest[row])],
            distance_over_radius=None if self.distance_over_radius is None else float(self.distance_over_radius[row]),
        )

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The predictions of several batches of one model, at least one, as one."""
        nearest = [part.nearest for part in parts if part.nearest is not None]
        ratios = [part.distance_over_radius for part in parts if part.distance_over_radius is not None]
        return cls(
            parts[0].class_names,
            torch.cat([part.probabilities for part in parts]),
            torch.cat([part.classes for part in parts]),
            torch.cat(nearest) if nearest else None,
            torch.cat(ratios) if ratios else None,
        )

    def __iter__(self) -> Iterator[Prediction]:
        return (self[row] for row in range(len(self)))
