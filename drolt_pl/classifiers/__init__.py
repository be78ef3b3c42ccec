"""Classifiers: ``forward(features) -> logits``, ``begin`` when their stage starts, and for some ``fit`` right after."""

from drolt_pl.classifiers.base import Classifier, HeldOut
from drolt_pl.classifiers.experts import ExpertsClassifier, JoinedClassifier, RoutedExpertsClassifier
from drolt_pl.classifiers.fitted import (
    FittedClassifier,
    LogitAdjustedClassifier,
    NearestMeanClassifier,
    TauNormClassifier,
)
from drolt_pl.classifiers.linear import (
    ClassMeansClassifier,
    CosineClassifier,
    LinearClassifier,
    LWSClassifier,
    ScaledLinearClassifier,
)
from drolt_pl.classifiers.oltr import OLTRClassifier
from drolt_pl.classifiers.smdragon import SmDragonClassifier

__all__ = [
    "ClassMeansClassifier",
    "Classifier",
    "CosineClassifier",
    "ExpertsClassifier",
    "FittedClassifier",
    "HeldOut",
    "JoinedClassifier",
    "LWSClassifier",
    "LinearClassifier",
    "LogitAdjustedClassifier",
    "NearestMeanClassifier",
    "OLTRClassifier",
    "RoutedExpertsClassifier",
    "ScaledLinearClassifier",
    "SmDragonClassifier",
    "TauNormClassifier",
]
