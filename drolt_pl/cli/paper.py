"""`drolt paper`: makes the figures of a page."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import fail, one_sentence


def paper(
    page: Annotated[Path, typer.Argument(help="A page with commands `drolt figure ...`.")] = Path("docs/paper.md"),
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs that commands call $RUNS; without it their figures are drawn from CSV."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Draw nothing; exit 1 if a table is not up to date.")] = False,
) -> None:
    """Make the figures of a page by the commands below them, and fill its tables from their numbers."""
    # Imported here: `drolt --help` should not wait for it.
    from drolt_pl.errors import require
    from drolt_pl.records import write_atomically
    from drolt_pl.regular import read_text
    from drolt_pl.run.figures.page import TABLE, commands, filled

    with one_sentence():
        text = read_text(page, "Markdown")
        made = list(commands(text, Path.cwd()))
        require("PAGE", str(page), bool(made or TABLE.search(text)), "must hold commands `drolt figure ...`, or tables")
        for command in [] if check else made:
            typer.echo(f"wrote {', '.join(str(path) for path in command.run(runs))}")
        folder = page.parent if not made else made[0].out
        renewed = filled(text, folder)
        if renewed != text and check:
            fail(f"{page} is not up to date: run `drolt paper {page}`")
        if renewed != text:
            write_atomically(page, renewed)
            typer.echo(f"wrote {page}")
