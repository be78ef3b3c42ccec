"""Objectives: what a stage minimises, one class each, chosen by `_target_` in `objectives.<name>`."""

from drolt_pl.objectives.base import Batch, Model, Objective
from drolt_pl.objectives.classification import Classification, Robust
from drolt_pl.objectives.contrastive import BalancedContrastive, SupCon
from drolt_pl.objectives.oltr import OLTR
from drolt_pl.objectives.rotation import Rotation

__all__ = [
    "OLTR",
    "BalancedContrastive",
    "Batch",
    "Classification",
    "Model",
    "Objective",
    "Robust",
    "Rotation",
    "SupCon",
]
