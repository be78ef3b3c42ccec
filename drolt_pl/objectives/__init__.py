"""Objectives: what a stage minimises, one class each, chosen by `_target_` in `objectives.<name>`."""

from drolt_pl.objectives.base import Batch, Model, Objective
from drolt_pl.objectives.classification import Classification, Robust

__all__ = ["Batch", "Classification", "Model", "Objective", "Robust"]
