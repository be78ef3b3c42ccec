"""Balanced probes: simple classifiers trained on equally many held-out images of each class, on every layer.

A probe's training is balanced, so a gap between groups that it shows is one of the representation; a gap that it closes
was one of the classifier.
"""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from drolt_pl.analysis.accuracies import by_group
from drolt_pl.errors import SettingError
from drolt_pl.metrics import ShotAccuracy
from drolt_pl.results import Groups
from drolt_pl.rows import Row

NEIGHBOURS = 5
LEAST = 4  # held-out images of a class, below which there is nothing to learn from


def balanced_subset(targets: Tensor, num_classes: int, *, seed: int = 0) -> Tensor:
    """Rows of equally many samples of each class, as many as the class with the fewest has, (M,) in class order.

    Args:
        targets: (N,).
        num_classes: C.
        seed: Decides which samples are taken.

    Raises:
        SettingError: a class has fewer than 4.
    """
    targets = targets.cpu()
    fewest = int(targets.bincount(minlength=num_classes).min())
    if fewest < LEAST:
        raise SettingError(
            "probes", f"need at least {LEAST} held-out images of every class: set dataset.val_per_class", fewest
        )
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    return torch.cat([order[targets[order] == label][:fewest] for label in range(num_classes)])


def probe(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], counts: Tensor, groups: Groups, *, iterations: int = 200
) -> list[Row]:
    """Test accuracies by group of a linear classifier and of the nearest neighbours on one kind of features.

    Features are standardised by the training ones. The linear classifier is multinomial logistic regression with an
    L2 penalty of strength 1; the neighbours are 5, by cosine.

    Args:
        train: Features (M, D) and targets (M,) of balanced held-out images.
        test: Features (N, D) and targets (N,).
        counts: Training images of the backbone by class, (C,).
        groups: Limits of the shot groups.
        iterations: Steps of the optimizer at most.

    Returns:
        Rows `probe, group, accuracy, classes, deviation`: the mean over a group's classes and its sample deviation.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    center, scale = train[0].mean(0), train[0].std(0).clamp(min=1e-6)
    seen, shown = (((features - center) / scale).cpu().numpy() for features in (train[0], test[0]))
    probes = {
        "linear": LogisticRegression(max_iter=iterations, tol=1e-3),
        "nearest neighbours": KNeighborsClassifier(NEIGHBOURS, metric="cosine", algorithm="brute"),
    }
    rows: list[Row] = []
    for name, classifier in probes.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is the caller's choice
            predicted = torch.from_numpy(classifier.fit(seen, train[1].cpu().numpy()).predict(shown))
        metric = ShotAccuracy(counts, many=groups.many, few=groups.few)
        metric.update(predicted, test[1].cpu())
        rows += [{"probe": name, **row} for row in by_group(metric.compute()["per_class"], counts, groups)]
    return rows


def probe_layers(
    train: Mapping[str, Tensor],
    train_targets: Tensor,
    test: Mapping[str, Tensor],
    test_targets: Tensor,
    counts: Tensor,
    groups: Groups,
) -> list[Row]:
    """As `probe`, for the features of several layers, with a first column `layer`."""
    return [
        {"layer": layer, **row}
        for layer, features in train.items()
        for row in probe((features, train_targets), (test[layer], test_targets), counts, groups)
    ]
