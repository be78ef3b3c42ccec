"""The table that a run prints at its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = {"All": "acc", "Many": "many", "Medium": "medium", "Few": "few", "Nearest centroid": "acc_ncm"}


def stage_table(results: Mapping[str, Any]) -> Table:
    """Test accuracies in percent, a row for each stage's final model and one for the model that the run reports.

    Args:
        results: As `load_results` gives them.
    """
    table = Table(title=f"{results['dataset']}, {results['method']}: test accuracy in %, mean over classes")
    table.add_column("Model", overflow="fold")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for stage, measured in (results.get("stages") or {}).items():
        table.add_row(stage, *_cells(measured.get("test")))
    table.add_section()
    table.add_row(_selected(results), *_cells(results["test"]), style="bold")
    return table


def show(results: Mapping[str, Any], run_dir: str | Path, console: Console | None = None) -> None:
    """Prints the table of a run and the line with its folder."""
    console = console or Console()
    console.print(stage_table(results))
    if results["protocol"] == "test_selected":
        console.print(
            "protocol=test_selected: epochs were chosen on the test set, so these accuracies are optimistic",
            style="bold red",
        )
    console.print(f"run folder: {run_dir}", highlight=False, markup=False, soft_wrap=True)


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal, ``-`` for none."""
    return "-" if value is None or value != value else f"{100 * value:.1f}"


def _cells(metrics: Mapping[str, Any] | None) -> list[str]:
    return [percent((metrics or {}).get(key)) for key in COLUMNS.values()]


def _selected(results: Mapping[str, Any]) -> str:
    selection = results.get("selection") or {}
    stage, epoch, metric = (selection.get(key) for key in ("stage", "epoch", "metric"))
    where = f"{stage}, epoch {epoch}" if stage is not None else "final"
    return f"reported: {where}, best {metric}" if metric else f"reported: {where}, last"
