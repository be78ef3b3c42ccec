"""The terms of the training loss over an epoch, and their means."""

from collections.abc import Mapping

import torch
from torch import Tensor


class TermMeans:
    """Sums up an epoch's terms; Lightning's `log` would take a millisecond of every step.

    A term that some steps lack is the mean over those that have it.

    Attributes:
        last: The terms of the last step.
    """

    def __init__(self) -> None:
        self.last: dict[str, Tensor] = {}
        self._size = 0  # images of the last step; 0 once it is among the sums
        self._sums: dict[str, tuple[Tensor | float, int]] = {}

    def add(self, terms: Mapping[str, Tensor], size: int) -> None:
        """Adds the terms, 0-d, of a batch of `size` images."""
        self._sum_up()
        self.last, self._size = {name: value.detach() for name, value in terms.items()}, size

    def forget_last(self) -> None:
        """Leaves the last step out."""
        self._size = 0

    def means(self) -> dict[str, Tensor]:
        """The epoch's mean of every term, `train/<term>`; starts anew."""
        self._sum_up()
        found = {f"train/{name}": torch.as_tensor(total / seen) for name, (total, seen) in self._sums.items()}
        self._sums = {}
        return found

    def _sum_up(self) -> None:
        for name, value in self.last.items() if self._size else ():
            total, seen = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + self._size * value, seen + self._size
        self._size = 0
