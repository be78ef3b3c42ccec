"""Trained models load, predict, embed and save, without Lightning, Hydra or a configuration."""

from drolt_pl.model.description import Description, Groups
from drolt_pl.model.model import Model, load_model
from drolt_pl.model.predictions import Prediction, Predictions, Unreadable

__all__ = ["Description", "Groups", "Model", "Prediction", "Predictions", "Unreadable", "load_model"]
