"""Classifiers: ``forward(features) -> logits``, and ``begin``, which a stage calls once when it starts.

Those of `fitted` and `oltr` also have ``fit``, which is called then with what the data says of the features.
"""

from drolt_pl.classifiers.fitted import (
    FittedClassifier,
    HeldOut,
    LogitAdjustedClassifier,
    NearestMeanClassifier,
    TauNormClassifier,
)
from drolt_pl.classifiers.linear import CosineClassifier, LinearClassifier, LWSClassifier, ScaledLinearClassifier
from drolt_pl.classifiers.oltr import OLTRClassifier
from drolt_pl.classifiers.smdragon import SmDragonClassifier

__all__ = [
    "CosineClassifier",
    "FittedClassifier",
    "HeldOut",
    "LWSClassifier",
    "LinearClassifier",
    "LogitAdjustedClassifier",
    "NearestMeanClassifier",
    "OLTRClassifier",
    "ScaledLinearClassifier",
    "SmDragonClassifier",
    "TauNormClassifier",
]
