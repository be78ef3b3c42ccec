"""The terms of the training loss: their means over an epoch, and a stop at a value that is not finite."""

from collections.abc import Mapping

import torch
from torch import Tensor

from drolt_pl.errors import SettingError


class NonFiniteLossError(SettingError):
    """A term of the loss became infinite or not a number."""


class TermMeans:
    """Sums up an epoch's terms; Lightning's `log` would take a millisecond of every step.

    A term that only some steps have is averaged over those steps.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor | float, int]] = {}

    def add(self, terms: Mapping[str, Tensor], size: int) -> None:
        """Adds the 0-d terms of a batch of `size` images."""
        for name, value in terms.items():
            total, seen = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + size * value.detach(), seen + size

    def means(self) -> dict[str, Tensor]:
        """Returns the epoch's mean of every term, `train/<term>`, and starts anew."""
        found = {f"train/{name}": torch.as_tensor(total / seen) for name, (total, seen) in self._sums.items()}
        self._sums = {}
        return found

    def require_finite(self, terms: Mapping[str, Tensor], where: str, *, look: bool) -> None:
        """Stops the run at a loss that is not finite.

        Args:
            terms: The step's terms.
            where: Epoch, stage and step, for the message.
            look: Whether to look at the value; reading it back makes the host wait for an accelerator.

        Raises:
            NonFiniteLossError: a term is not finite; the error names the first one.
        """
        if not look or bool(terms["loss"].isfinite()):
            return
        name, value = next((name, value) for name, value in terms.items() if not bool(value.isfinite()))
        remedy = "lower optimizer.lr or the stage's lr, or set loss.feature_norm=l2"
        raise NonFiniteLossError(f"train/{name}", f"is {value.item()} {where}: {remedy}")
