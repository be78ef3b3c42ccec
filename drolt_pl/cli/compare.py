"""`drolt compare`: two runs, or two groups of runs, beside each other."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import one_sentence

HELP = "The folder of a run, of several or of a sweep, or kept runs (a file or a folder); PATH:OVERRIDE takes some."


def compare(
    a: Annotated[str, typer.Argument(help=HELP, show_default=False)],
    b: Annotated[str, typer.Argument(help="What A is compared with.", show_default=False)],
    test_images: Annotated[
        int | None,
        typer.Option(min=1, max=100_000_000, help="Test images of every class, for runs that do not record them."),
    ] = None,
) -> None:
    """Compare runs, paired by seed and split: the difference with its intervals, and what a paper would print of it."""
    from rich.console import Console

    from drolt_pl.report.paired import comparison_table, differences, load_group, sentences

    with one_sentence():
        found = differences(load_group(a), load_group(b), test_images)
        stems = Path(a).stem, Path(b).stem
        names = stems if stems[0] != stems[1] else (a, b)
        Console().print(comparison_table(names, found))
        for line in sentences(names, found):
            typer.echo(line)
