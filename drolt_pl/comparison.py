"""The typed record of classifiers_<stage>.json, which `drolt classifiers` writes into a run's folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field

from drolt_pl.records import Record, read_record, write_atomically
from drolt_pl.results import Accuracies


class Compared(Record):
    """One classifier on the features of a run.

    Attributes:
        val: Its accuracies on validation images; null if there are none. So are those on test images (`test`).
        chosen: The values that it chose on validation images, by argument.
        why: The reason why the classifier could not be compared.
    """

    val: Accuracies | None = None
    test: Accuracies | None = None
    chosen: Mapping[str, float] = Field(default_factory=dict)
    why: str | None = None


class Comparison(Record):
    """Every classifier on the frozen features of one stage of a run.

    Attributes:
        representation: The method that trained the features.
        views: Number of augmented views of the training set whose features were held in memory.
        epochs: Epochs of the classifiers that are trained; `lr`, `weight_decay`, `batch_size`, `seed` and
            `precision` are theirs too.
        classifiers: The comparisons by name, in the order of the table.
    """

    run: str | None = None
    stage: str
    representation: str | None = None
    protocol: str | None = None
    views: int
    epochs: int
    lr: float
    weight_decay: float | None = None
    batch_size: int | None = None
    seed: int | None = None
    precision: str | None = None
    classifiers: Mapping[str, Compared]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file.

        Raises:
            SettingError: the file cannot be read, or `drolt classifiers` did not write it.
        """
        return read_record(path, cls.model_validate_json)

    def write(self, path: Path) -> None:
        """Writes the file in one step."""
        write_atomically(path, json.dumps(self.plain(), indent=2) + "\n")
