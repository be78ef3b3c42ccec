"""`drolt sweep` and `drolt wandb-dashboard`: pages about many runs."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl import folders
from drolt_pl.cli.errors import fail, one_sentence
from drolt_pl.ranges import Count


def sweep(
    sweep_dir: Annotated[Path, typer.Argument(help="The folder of a sweep, finished or not.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the page, the tables and the figures.", show_default="SWEEP_DIR/report"),
    ] = None,
    x: Annotated[str, typer.Option(help="Key of the heat maps' x axis.")] = "loss.eps",
    y: Annotated[str, typer.Option(help="Key of their y axis.")] = "loss.ce_weight",
    panel: Annotated[str, typer.Option(help="Key of their panels.")] = "optimizer.lr",
    top: Annotated[Count, typer.Option(help="Settings to print.")] = 20,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Sweep",
) -> None:
    """Print a sweep's best settings by validation, and write its page, tables (CSV) and figures (PNG)."""
    # Imported here: `drolt --help` should not wait for it.
    from rich.console import Console

    from drolt_pl.report.sweep import load_sweep, write_tables
    from drolt_pl.report.sweep_page import sweep_table, write_page
    from drolt_pl.report.sweep_plots import write_figures

    with one_sentence():
        found = load_sweep(sweep_dir)
        folder = out or sweep_dir / "report"
        if out is None and folder.exists():
            folders.require_own(sweep_dir, folder.name)
        tables = write_tables(found, folder)
        figures = write_figures(found, folder, (x, y, panel))
        page = write_page(found, folder, figures, title)
        Console().print(sweep_table(found, top))
        for path in (page, *tables, *figures):
            typer.echo(f"wrote {path}")


def wandb_dashboard(
    project: Annotated[str, typer.Option(help="W&B project of the runs.")] = "drolt_pl",
    entity: Annotated[str | None, typer.Option(help="W&B user or team.", show_default="your default one")] = None,
    name: Annotated[str, typer.Option(help="Name of the view.")] = "DRO-LT",
    x: Annotated[str, typer.Option(help="Axis of the line plots: epoch or images_seen.")] = "epoch",
) -> None:
    """Make a W&B workspace with a panel for everything that a run logs, and print its address."""
    import wandb

    from drolt_pl.tracking.dashboard import build_workspace

    with one_sentence():
        try:
            workspace = build_workspace(entity or wandb.Api().default_entity, project, name=name, x=x)
            workspace.save()
        except wandb.Error as error:
            fail(f"W&B: {error}")
        typer.echo(workspace.url)
