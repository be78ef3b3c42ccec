"""The rows of the figures beyond the paper, measured on runs."""

from collections.abc import Sequence
from functools import partial
from math import nan

import torch
from torch import Tensor

from drolt_pl.analysis.collapse import agreement, collapse
from drolt_pl.analysis.probes import balanced_subset, probe_layers
from drolt_pl.analysis.reliability import frontier, reliability
from drolt_pl.analysis.representation import layer_features
from drolt_pl.classifiers import Classifier
from drolt_pl.errors import SettingError
from drolt_pl.rows import Row
from drolt_pl.run.figures.sources import CPU, Source, longest_tail, opened, recorded

METRICS = ("acc", "many", "medium", "few")


def probes(sources: Sequence[Source]) -> list[Row]:
    """Balanced probes on every layer."""
    runs = opened(sources)
    counts = longest_tail(runs)
    rows: list[Row] = []
    for found in runs:
        data, names = found.run.datamodule, found.layers
        layers_of = partial(layer_features, found.run.backbone, names, image_shape=data.sample_shape, device=CPU)
        loaders = found.held_out_loaders()[:1]  # validation images are balanced already
        held_out = (batch for loader in loaders for batch in loader)
        seen, labels = layers_of(held_out)
        kept = balanced_subset(labels, found.num_classes, seed=found.run.seed)
        shown, targets = layers_of(data.test_dataloader())
        train = {layer: features[kept] for layer, features in seen.items()}
        rows += found.rows(probe_layers(train, labels[kept], shown, targets, counts, found.groups))
    return rows


def collapses(sources: Sequence[Source]) -> list[Row]:
    """Neural collapse by group, of training features."""
    rows: list[Row] = []
    for found in opened(sources):
        statistics = found.statistics(found.train)
        measured = collapse(statistics, _class_vectors(found.run.classifier), found.groups, found.counts)
        with torch.no_grad():
            predicted = found.run.classifier(found.train[0]).argmax(1)
        measured += agreement(predicted, *found.train, statistics, found.groups, found.counts)
        rows += found.rows(measured)
    return rows


def reliabilities(sources: Sequence[Source]) -> list[Row]:
    """Reliability by group, on test images."""
    return [
        row for found in opened(sources) for row in found.rows(reliability(*found.logits(), found.counts, found.groups))
    ]


def frontiers(sources: Sequence[Source]) -> list[Row]:
    """The Many-Few frontier by post-hoc logit adjustment, on test images."""
    return [
        row for found in opened(sources) for row in found.rows(frontier(*found.logits(), found.counts, found.groups))
    ]


def tradeoffs(sources: Sequence[Source]) -> list[Row]:
    """Test accuracy by group, of the records of runs over their seeds."""
    return [
        {
            "run": source.label_of(results),
            "seed": results.seed,
            **{name: nan if (found := results.number("test", name)) is None else found for name in METRICS},
        }
        for source, results in recorded(sources)
    ]


def _class_vectors(classifier: Classifier) -> Tensor | None:
    try:
        return classifier.class_vectors().detach()
    except SettingError:  # the classifier has none
        return None
