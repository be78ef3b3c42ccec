"""How a learning rate moves over the epochs of a stage."""

import math
from dataclasses import dataclass
from typing import Literal

from drolt_pl.checked import checked
from drolt_pl.ranges import Fraction, Milestones, Positive, Whole


@checked
@dataclass(frozen=True, kw_only=True)
class Curve:
    """Factor of the learning rate over the epochs of a stage.

    Args:
        shape: `constant`; `multistep` multiplies by `gamma` at every milestone (LDAM-DRW: by 0.01 at 160 and 180 of 200
            epochs); `cosine` falls from 1 to `final` over half a period, once an epoch (Kang et al. 2020).
        milestones: Fractions of the stage, rising.
        gamma: Factor of each milestone.
        final: The last value of the cosine.
        warmup_epochs: Over these first epochs the factor also rises linearly: 1/w, 2/w, ..., 1.
    """

    shape: Literal["constant", "multistep", "cosine"] = "constant"
    milestones: Milestones = (0.8, 0.9)
    gamma: Positive = 0.01
    final: Fraction = 0.0
    warmup_epochs: Whole = 0

    def __call__(self, epoch: int, epochs: int) -> float:
        warmup = min(1.0, (epoch + 1) / self.warmup_epochs) if self.warmup_epochs else 1.0
        if self.shape == "multistep":
            passed = sum(epoch >= round(milestone * epochs) for milestone in self.milestones)
            return float(warmup * self.gamma**passed)
        if self.shape == "cosine":
            cosine = 0.5 * (1 + math.cos(math.pi * epoch / max(epochs, 1)))
            return warmup * (self.final + (1 - self.final) * cosine)
        return warmup
