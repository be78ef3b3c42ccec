"""Losses for long-tailed recognition: one file per loss."""

from drolt_pl.losses.dro_lt import DROLTLoss
from drolt_pl.losses.functional import robust_loss

__all__ = ["DROLTLoss", "robust_loss"]
