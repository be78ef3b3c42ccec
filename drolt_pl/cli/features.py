"""`drolt features`: describes the layers and the features of a run's backbone."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import MOVED, TRUST, one_sentence
from drolt_pl.ranges import Count


def features(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run.")],
    stage: Annotated[
        str | None, typer.Option(help="The stage whose backbone is taken.", show_default="ce_warmup, or train")
    ] = None,
    layer: Annotated[list[str] | None, typer.Option(help="A part of the backbone; repeat it. [its blocks]")] = None,
    classes: Annotated[Count, typer.Option(min=2, help="Classes that the figure shows.")] = 10,
    data: Annotated[Path | None, typer.Option(help=MOVED)] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
) -> None:
    """Accuracy of the nearest class mean at every layer, and test features by t-SNE: the paper's Figures 3 and 5."""
    # Imported here: `drolt --help` should not wait for it.
    from rich.console import Console

    from drolt_pl.report.tables import layer_table
    from drolt_pl.run.describe import describe_run

    with one_sentence():
        path, found = describe_run(
            run_dir, stage=stage, layers=layer or [], classes=classes, moved_to=data, trust=trust
        )
    title = f"{found.method} after {found.stage}: nearest class mean, test accuracy in %"
    Console().print(layer_table(title, found.layers))
    typer.echo(f"wrote {path} and {path.with_suffix('.png').name}")
