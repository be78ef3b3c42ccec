"""`drolt reference`: the page of every key and every choice of the configuration."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import one_sentence


def reference(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/configuration.md"),
) -> None:
    """Write a page with a line for every key and every choice of the configuration."""
    # Imported here: `drolt --help` should not wait for it.
    from drolt_pl.records import write_atomically
    from drolt_pl.run.conf import CONF
    from drolt_pl.run.reference_page import render_page

    with one_sentence():
        write_atomically(out, render_page(CONF))
        typer.echo(f"wrote {out}")
