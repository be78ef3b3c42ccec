"""`drolt compare`: two runs, or two groups of runs, beside each other."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import one_sentence

HELP = "A run's folder, a folder of runs or a sweep's, or kept runs (a file or a folder)."


def compare(
    a: Annotated[Path, typer.Argument(help=HELP, show_default=False)],
    b: Annotated[Path, typer.Argument(help="What A is compared with.", show_default=False)],
) -> None:
    """Compare runs, paired by seed and split: the difference with its intervals, and what a paper would print of it."""
    from rich.console import Console

    from drolt_pl.report.paired import comparison_table, differences, load_group, sentences

    with one_sentence():
        found = differences(load_group(a), load_group(b))
        names = (a.stem, b.stem) if a.stem != b.stem else (str(a), str(b))
        Console().print(comparison_table(names, found))
        for line in sentences(names, found):
            typer.echo(line)
