"""Turns a metric into recorded accuracies."""

from drolt_pl.metrics import ShotAccuracy
from drolt_pl.results import Accuracies


def accuracies(metric: ShotAccuracy) -> Accuracies:
    """The accuracies that a metric has counted, without the values by class."""
    return Accuracies.of({name: value.item() for name, value in metric.compute().items() if not value.ndim})
