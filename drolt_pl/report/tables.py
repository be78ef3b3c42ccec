"""Tables for the terminal: of a run at its end, of compared classifiers, and of a backbone's layers."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from drolt_pl import escape
from drolt_pl.comparison import Comparison
from drolt_pl.results import Accuracies, Results, Selection

BY_GROUP = {"All": "acc", "Many": "many", "Medium": "medium", "Few": "few"}
COLUMNS = {**BY_GROUP, "Nearest centroid": "acc_ncm"}


def stage_table(results: Results) -> Table:
    """Test accuracies in percent: a row for the final model of each stage, and one for the reported model."""
    rows = {stage: measured.test for stage, measured in results.stages.items()}
    table = _table(
        f"{results.dataset}, {results.method}: test accuracy in %, mean over classes", "Model", rows, COLUMNS
    )
    table.add_section()
    table.add_row(
        escape.markup(f"reported: {selected(results.selection)}"), *_cells(results.test, COLUMNS), style="bold"
    )
    return table


def classifier_table(found: Comparison) -> Table:
    """Test accuracies in percent, a row for each classifier."""
    rows = {name: compared.test for name, compared in found.classifiers.items()}
    title = f"{found.representation} after {found.stage}: test accuracy in %"
    return _table(title, "Classifier", rows, BY_GROUP)


def layer_table(title: str, layers: Mapping[str, Accuracies]) -> Table:
    """Test accuracies of the nearest class mean in percent, a row for each layer."""
    return _table(title, "Layer", layers, BY_GROUP)


def show(results: Results, run_dir: str | Path, console: Console | None = None) -> None:
    """Prints the table of a run and the line with its folder."""
    console = console or Console()
    console.print(stage_table(results))
    if results.protocol == "test_selected":
        console.print(
            "protocol=test_selected: epochs were chosen on the test set, so these accuracies are optimistic",
            style="bold red",
        )
    console.print(f"run folder: {run_dir}", highlight=False, markup=False, soft_wrap=True)


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal, ``-`` for none."""
    return "-" if value is None or value != value else f"{100 * value:.1f}"


def _table(title: str, first: str, rows: Mapping[str, Accuracies | None], columns: Mapping[str, str]) -> Table:
    table = Table(title=escape.markup(title))
    table.add_column(first, overflow="fold")
    for label in columns:
        table.add_column(label, justify="right")
    for name, measured in rows.items():
        table.add_row(escape.markup(name), *_cells(measured, columns))
    return table


def _cells(measured: Accuracies | None, columns: Mapping[str, str]) -> list[str]:
    numbers = {} if measured is None else measured.numbers()
    return [percent(numbers.get(metric)) for metric in columns.values()]


def selected(selection: Selection) -> str:
    """The reported model, its epoch counted from 1, as people do: `rebalance, epoch 125, best val/acc`."""
    if selection.stage is None or selection.epoch is None:
        return "final"
    chosen = f"best {selection.metric}" if selection.metric else "last"
    return f"{selection.stage}, epoch {selection.epoch + 1}, {chosen}"
