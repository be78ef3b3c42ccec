"""Compares classifiers on the cached features of a frozen backbone: the rows of the paper's Table 4."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from drolt_pl.analysis.accuracies import accuracies
from drolt_pl.centroids import ClassStatistics, class_statistics, dataset_features
from drolt_pl.classifiers import Classifier, HeldOut
from drolt_pl.comparison import Compared
from drolt_pl.data.plan import Sampling
from drolt_pl.data.samplers import stage_sampler
from drolt_pl.errors import SettingError
from drolt_pl.learning.curve import Curve
from drolt_pl.learning.protocols import Batches
from drolt_pl.losses import Criterion, CrossEntropy
from drolt_pl.metrics import ShotAccuracy
from drolt_pl.results import Accuracies, Groups

Features = tuple[Tensor, Tensor]  # (N, D) and targets (N,)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A classifier to compare.

    Attributes:
        build: (num_features, num_classes) -> the classifier.
        sampling: The sampling of an epoch; read where the classifier is trained.
        criterion: class_counts -> the loss; read where the classifier is trained.
    """

    build: Callable[[int, int], Classifier]
    sampling: str = "instance"
    criterion: Callable[[Sequence[int]], Criterion] = CrossEntropy


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The optimization of the classifiers that are trained; it is the same for all of them.

    Attributes:
        precision: Of their products, as Lightning names it: 32-true, or the run's own bf16-mixed.
    """

    epochs: int = 10
    lr: float = 0.1  # Kang et al. 2020: the rate of stage one, falling as half a cosine
    weight_decay: float = 5e-4
    batch_size: int = 128
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"


@dataclass(frozen=True, kw_only=True)
class CachedFeatures:
    """Features of one backbone: of augmented views of the training set, and of three sets without augmentation."""

    views: Sequence[Features]
    train: Features
    val: Features | None
    test: Features


@torch.no_grad()
def cache_features(
    backbone: nn.Module,
    *,
    views: Iterable[Batches],
    train: Batches,
    val: Batches | None,
    test: Batches,
    device: torch.device,
) -> CachedFeatures:
    """Runs loaders through a backbone in eval mode; each argument gives the field of its name."""
    backbone = backbone.eval().to(device)

    def features(loader: Batches) -> Features:
        return dataset_features(backbone, loader, device=device)

    return CachedFeatures(
        views=[features(loader) for loader in views],
        train=features(train),
        val=None if val is None else features(val),
        test=features(test),
    )


def compare(
    candidates: Mapping[str, Candidate],
    cached: CachedFeatures,
    previous: Classifier,
    class_counts: Sequence[int],
    *,
    groups: Groups,
    recipe: Recipe = Recipe(),
) -> dict[str, Compared]:
    """Trains or fits every candidate on the same features.

    Args:
        candidates: By label.
        cached: The features.
        previous: The classifier that the backbone was trained with.
        class_counts: Training images per class, (C,).
        groups: Limits of the shot groups.
        recipe: How candidates are trained.

    Returns:
        By label: accuracies, or why there are none.
    """
    statistics = class_statistics(*cached.train, len(class_counts))
    result: dict[str, Compared] = {}
    for label, candidate in candidates.items():
        classifier = candidate.build(cached.train[0].shape[1], len(class_counts)).to(cached.test[0].device)
        why = _begin(classifier, previous, cached, statistics, recipe.seed)
        if why is not None:
            result[label] = Compared(val=None, test=None, chosen={}, why=why)
            continue
        if not classifier.fitted:
            criterion = candidate.criterion(class_counts).to(cached.test[0].device)
            train(classifier, cached.views, criterion, sampling=candidate.sampling, recipe=recipe)
        result[label] = Compared(
            val=None if cached.val is None else _measure(classifier, cached.val, class_counts, groups),
            test=_measure(classifier, cached.test, class_counts, groups),
            chosen=classifier.chosen,
            why=None,
        )
    return result


def _begin(
    classifier: Classifier, previous: Classifier, cached: CachedFeatures, statistics: ClassStatistics, seed: int
) -> str | None:
    """Starts a classifier as a stage would; returns the reason if the run lacks something that the classifier needs."""
    held_out = None if cached.val is None else HeldOut(*cached.val)
    try:
        classifier.begin(previous, generator=torch.Generator().manual_seed(seed))
        if classifier.needs_fit:
            classifier.fit(held_out, statistics.centroids, statistics.counts)
        if classifier.measures:
            features, targets = cached.train
            means = class_statistics(classifier.measured(features), targets, len(statistics.counts)).centroids
            classifier.set_means(means)
    except (TypeError, SettingError) as error:
        return str(error)
    return None


def train(
    classifier: nn.Module, views: Sequence[Features], criterion: Criterion, *, sampling: str, recipe: Recipe
) -> None:
    """Trains a classifier by SGD with momentum; the epochs take the cached views in turn."""
    curve = Curve(shape="cosine")
    parameters = list(classifier.parameters())
    optimizer = torch.optim.SGD(parameters, lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = recipe.lr * curve(epoch, recipe.epochs)
        features, targets = views[epoch % len(views)]
        sampler = stage_sampler(Sampling(sampling), targets.cpu().numpy(), seed=recipe.seed, epoch=epoch)
        for rows in torch.split(torch.from_numpy(sampler.indices()).to(features.device), recipe.batch_size):
            optimizer.zero_grad()
            with torch.autocast(features.device.type, torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
                loss = criterion(classifier(features[rows]), targets[rows])
            torch.autograd.backward(loss)
            optimizer.step()


@torch.no_grad()
def _measure(classifier: nn.Module, found: Features, class_counts: Sequence[int], groups: Groups) -> Accuracies:
    metric = ShotAccuracy(class_counts, many=groups.many, few=groups.few).to(found[0].device)
    metric.update(classifier.eval()(found[0]), found[1])
    return accuracies(metric)
