"""`drolt figure`: the paper's figures, and those beyond it, of trained runs."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import TRUST, one_sentence
from drolt_pl.cli.outputs import require_replaceable


def figure(
    name: Annotated[str | None, typer.Argument(help="The figure; without a name, all of them are listed.")] = None,
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...", help="[LABEL=]FOLDER[:STAGE], a kept run, a folder of its seeds, or the CSV."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write to.")] = Path("figures"),
    stem: Annotated[str | None, typer.Option("--as", help="Name of the files.", show_default="NAME")] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
) -> None:
    """Measure a figure on runs, and write it as PNG and SVG with its numbers as CSV.

    The CSV of a figure draws it again: drolt figure fig2 figures/fig2.csv.
    """
    # Imported here: `drolt --help` should not wait for it.
    from drolt_pl.run.figures.names import FIGURES, IMAGES, make

    if name is None:
        for known, about in FIGURES.items():
            typer.echo(f"{known:<12} {about.about}")
        return
    with one_sentence():
        table = out / f"{stem or name}.csv"
        require_replaceable("--as", table, b'"')
        for image in (table.with_suffix(ending) for ending in IMAGES if not table.exists()):
            require_replaceable("--as", image)  # without its numbers it is no figure's
        for path in make(name, runs or [], out, stem=stem, trust=trust):
            typer.echo(f"wrote {path}")
