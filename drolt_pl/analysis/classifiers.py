"""Classifiers of every kind on one frozen backbone: the rows of the paper's Table 4, from cached features."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drolt_pl.centroids import class_statistics, dataset_features
from drolt_pl.classifiers import (
    CosineClassifier,
    FittedClassifier,
    HeldOut,
    LinearClassifier,
    LogitAdjustedClassifier,
    LWSClassifier,
    NearestMeanClassifier,
    SmDragonClassifier,
    TauNormClassifier,
)
from drolt_pl.data.plan import Sampling
from drolt_pl.data.samplers import stage_sampler
from drolt_pl.learning.schedule import Curve
from drolt_pl.losses import Criterion, CrossEntropy, LogitAdjusted
from drolt_pl.metrics import ShotAccuracy

Features = tuple[Tensor, Tensor]  # (N, D) and targets (N,)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A classifier to compare; sampling and criterion are read by those that are trained."""

    build: Callable[[int, int], nn.Module]
    sampling: str = "class_balanced"
    criterion: Callable[[Sequence[int]], Criterion] = CrossEntropy


CANDIDATES: dict[str, Candidate] = {
    "CE": Candidate(build=LinearClassifier, sampling="instance"),
    "cRT": Candidate(build=LinearClassifier),
    "LWS": Candidate(build=LWSClassifier),
    "tau-norm": Candidate(build=TauNormClassifier),
    "NCM": Candidate(build=NearestMeanClassifier),
    "LA post-hoc": Candidate(build=LogitAdjustedClassifier),
    "balanced softmax": Candidate(build=LinearClassifier, sampling="instance", criterion=LogitAdjusted),
    "cosine": Candidate(build=CosineClassifier),
    "smDRAGON": Candidate(build=SmDragonClassifier),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How those that are trained are trained, all of them alike."""

    epochs: int = 10
    lr: float = 0.1  # Kang et al. 2020: the rate of stage one, falling as half a cosine
    weight_decay: float = 5e-4
    batch_size: int = 128
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CachedFeatures:
    """Features of one backbone: of augmented views of the training set, and of three sets of images as they are."""

    views: Sequence[Features]
    train: Features
    val: Features | None
    test: Features


@torch.no_grad()
def cache_features(
    backbone: nn.Module,
    *,
    views: Iterable[Any],
    train: Iterable[Any],
    val: Iterable[Any] | None,
    test: Iterable[Any],
    device: torch.device,
) -> CachedFeatures:
    """Runs loaders of (images, targets) through a backbone in eval mode; the arguments are named as the result."""
    backbone = backbone.eval().to(device)

    def features(loader: Iterable[Any]) -> Features:
        return dataset_features(backbone, loader, device=device)

    return CachedFeatures(
        views=[features(loader) for loader in views],
        train=features(train),
        val=None if val is None else features(val),
        test=features(test),
    )


def compare(
    cached: CachedFeatures,
    previous: nn.Module,
    class_counts: Sequence[int],
    *,
    recipe: Recipe = Recipe(),
    many: int = 100,
    few: int = 20,
) -> dict[str, dict[str, Any]]:
    """Trains or fits every candidate on the same features.

    Args:
        cached: The features.
        previous: The classifier that the backbone was trained with.
        class_counts: Training images per class, (C,).
        recipe: Of those that are trained.
        many: Classes with more training images are "many".
        few: Classes with fewer are "few".

    Returns:
        By candidate: accuracies on `val` and `test`, null where there are none, what was `chosen`, and for one that
        cannot be had, `why`.
    """
    statistics = class_statistics(*cached.train, len(class_counts))
    held_out = None if cached.val is None else HeldOut(*cached.val)
    device = cached.test[0].device
    result: dict[str, dict[str, Any]] = {}
    for name, candidate in CANDIDATES.items():
        classifier: Any = candidate.build(cached.train[0].shape[1], len(class_counts)).to(device)
        try:
            classifier.begin(previous, generator=torch.Generator().manual_seed(recipe.seed))
            if isinstance(classifier, FittedClassifier):
                classifier.fit(held_out, statistics.centroids, statistics.counts)
                if classifier.measures:
                    features, targets = classifier.measured(cached.train[0]), cached.train[1]
                    classifier.set_means(class_statistics(features, targets, len(class_counts)).centroids)
            else:
                criterion = candidate.criterion(class_counts).to(device)
                train(classifier, cached.views, criterion, sampling=candidate.sampling, recipe=recipe)
        except (TypeError, ValueError) as error:
            result[name] = {"val": None, "test": None, "chosen": {}, "why": str(error)}
            continue
        measured = {
            part: None if found is None else _measure(classifier, found, class_counts, many, few)
            for part, found in (("val", cached.val), ("test", cached.test))
        }
        result[name] = {**measured, "chosen": getattr(classifier, "chosen", {}), "why": None}
    return result


def train(
    classifier: nn.Module, views: Sequence[Features], criterion: Criterion, *, sampling: str, recipe: Recipe
) -> None:
    """Trains a classifier on cached views, epoch after epoch another one, by SGD with momentum."""
    curve = Curve(shape="cosine")
    parameters = list(classifier.parameters())
    optimizer = torch.optim.SGD(parameters, lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = recipe.lr * curve(epoch, recipe.epochs)
        features, targets = views[epoch % len(views)]
        sampler = stage_sampler(Sampling(sampling), targets.cpu().numpy(), seed=recipe.seed, epoch=epoch)
        for rows in torch.split(torch.from_numpy(sampler.indices()).to(features.device), recipe.batch_size):
            optimizer.zero_grad()
            loss = criterion(classifier(features[rows]), targets[rows])
            torch.autograd.backward(loss)
            optimizer.step()


@torch.no_grad()
def _measure(
    classifier: nn.Module, found: Features, class_counts: Sequence[int], many: int, few: int
) -> dict[str, float | None]:
    metric = ShotAccuracy(class_counts, many=many, few=few).to(found[0].device)
    metric.update(classifier.eval()(found[0]), found[1])
    values = {name: value.item() for name, value in metric.compute().items() if not value.ndim}
    return {name: None if value != value else value for name, value in values.items()}
