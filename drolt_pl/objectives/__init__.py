"""Objectives, which stages minimise: one class each, chosen by `_target_` in `objectives.<name>`."""

from drolt_pl.objectives.base import Batch, Learner, Objective
from drolt_pl.objectives.classification import Classification
from drolt_pl.objectives.contrastive import BalancedContrastive, SupCon
from drolt_pl.objectives.experts import DiverseExperts, Routing, SkilledExperts, TwoBranches
from drolt_pl.objectives.group_experts import GroupExperts, SelfPaced
from drolt_pl.objectives.oltr import OLTR
from drolt_pl.objectives.prototypes import ParametricContrast, ProbabilisticContrast
from drolt_pl.objectives.robust import Robust
from drolt_pl.objectives.rotation import Rotation
from drolt_pl.objectives.sharpness import SharpnessAware

__all__ = [
    "OLTR",
    "BalancedContrastive",
    "Batch",
    "Classification",
    "DiverseExperts",
    "GroupExperts",
    "Learner",
    "Objective",
    "ParametricContrast",
    "ProbabilisticContrast",
    "Robust",
    "Rotation",
    "Routing",
    "SelfPaced",
    "SharpnessAware",
    "SkilledExperts",
    "SupCon",
    "TwoBranches",
]
