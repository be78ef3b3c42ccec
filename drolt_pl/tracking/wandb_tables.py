"""The tables that W&B shows of a run."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from drolt_pl import escape
from drolt_pl.results import Accuracies, Results

if TYPE_CHECKING:
    import wandb

MAX_CHART = 200  # classes up to which a confusion matrix is sent
METRICS = ("acc", "many", "medium", "few", "acc_ncm", "acc_ncm_cosine", "ece")


def accuracy_rows(results: Results) -> list[list[str | float | None]]:
    """A row for each model and each set of images on which it was measured."""
    measured: list[tuple[str, str, Accuracies | None]] = []
    for name, stage in results.stages.items():
        measured += [(f"{escape.plain(name)}, final", part, found) for part, found in stage.sets().items()]
    measured += [("reported", part, found) for part, found in results.sets().items()]
    return [
        [name, part, *(found.numbers().get(metric) for metric in METRICS)]
        for name, part, found in measured
        if found is not None
    ]


def csv_table(path: Path, updates: Sequence[int] | None) -> "wandb.Table":
    """The table of a CSV file, with a column of the updates of each class's radius where they were counted."""
    import wandb

    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    typed: list[list[float | str | None]] = [[_number(cell) for cell in row] for row in rows]
    if updates is not None:
        head.append("updates")
        for row, count in zip(typed, updates, strict=True):
            row.append(count)
    return wandb.Table(columns=head, data=typed, allow_mixed_types=True)


def confusion_chart(counts: Tensor, names: Sequence[str]) -> "wandb.plot.CustomChart":
    """A chart of test images by class and predicted class, (C, C)."""
    import wandb

    labels = [escape.plain(name) for name in names] or [str(index) for index in range(len(counts))]
    data = [[labels[i], labels[j], int(count)] for i, row in enumerate(counts) for j, count in enumerate(row)]
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=data),
        {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"},
        {"title": "Test images"},
    )


def _number(cell: str) -> float | str | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell
