"""Turns a metric into recorded accuracies."""

import math

from torch import Tensor

from drolt_pl.groups import group_masks
from drolt_pl.metrics import ShotAccuracy
from drolt_pl.results import Accuracies, Groups
from drolt_pl.rows import Row


def accuracies(metric: ShotAccuracy) -> Accuracies:
    """The accuracies that a metric has counted, without the values by class."""
    return Accuracies.of({name: value.item() for name, value in metric.compute().items() if not value.ndim})


def by_group(per_class: Tensor, counts: Tensor, groups: Groups) -> list[Row]:
    """Means of an accuracy per class, (C,), over the classes of each group, with the deviation over classes.

    Returns:
        Rows `group, accuracy, classes, deviation`; classes with nan and empty groups are left out.
    """
    known = ~per_class.isnan()
    rows: list[Row] = []
    for name, mask in {"all": known, **group_masks(counts.to(known.device), groups.many, groups.few)}.items():
        values = per_class[mask & known].double()
        if len(values):
            spread = values.std().item() if len(values) > 1 else math.nan
            rows.append({"group": name, "accuracy": values.mean().item(), "classes": len(values), "deviation": spread})
    return rows
