"""Losses for long-tailed recognition: criteria of the classifier and the robust loss of the features."""

from drolt_pl.losses.classwise import classwise_loss
from drolt_pl.losses.contrastive import balanced_contrastive, supervised_contrastive
from drolt_pl.losses.criteria import (
    LDAM,
    Criterion,
    CrossEntropy,
    FrequencyWeighted,
    LabelAwareSmoothing,
    LogitAdjusted,
)
from drolt_pl.losses.dro_lt import DROLTLoss
from drolt_pl.losses.focal import Focal, SigmoidFocal, WeightedFocal
from drolt_pl.losses.functional import robust_loss
from drolt_pl.losses.layered import LayeredDROLTLoss
from drolt_pl.losses.measure import Measure

__all__ = [
    "LDAM",
    "Criterion",
    "CrossEntropy",
    "DROLTLoss",
    "Focal",
    "FrequencyWeighted",
    "LabelAwareSmoothing",
    "LayeredDROLTLoss",
    "LogitAdjusted",
    "Measure",
    "SigmoidFocal",
    "WeightedFocal",
    "balanced_contrastive",
    "classwise_loss",
    "robust_loss",
    "supervised_contrastive",
]
