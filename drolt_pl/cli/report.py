"""`drolt report`: one page about runs and sweeps."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import one_sentence
from drolt_pl.cli.outputs import require_replaceable


def report(
    sources: Annotated[list[Path], typer.Argument(help="Folders of finished runs, or of sweeps.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page.", show_default="report.html in the first folder")
    ] = None,
) -> None:
    """Write one HTML page about runs and sweeps; it needs no network and no other file."""
    from drolt_pl.report.html import NAME, write_report

    with one_sentence():
        page = out or sources[0] / NAME
        if out is not None or page.parent.is_dir():  # else the source is at fault
            require_replaceable("-o", page, b"<!doctype html>", endings=(".html", ".htm"))
        typer.echo(f"wrote {write_report(sources, page)}")
