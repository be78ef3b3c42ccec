"""`drolt classifiers`: compares classifiers on the backbone of a run."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import MOVED, TRUST, one_sentence
from drolt_pl.ranges import Count, Rate


def classifiers(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run.")],
    stage: Annotated[
        str | None, typer.Option(help="The stage whose backbone is taken.", show_default="ce_warmup, or train")
    ] = None,
    views: Annotated[Count, typer.Option(help="Augmented views of the training set, held in memory.")] = 4,
    epochs: Annotated[Count, typer.Option(help="Epochs of the classifiers that are trained.")] = 10,
    lr: Annotated[Rate, typer.Option(help="Their learning rate at the start.")] = 0.1,
    weight_decay: Annotated[Rate, typer.Option(help="Their weight decay.")] = 5e-4,
    data: Annotated[Path | None, typer.Option(help=MOVED)] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
) -> None:
    """Train every classifier on the frozen backbone of a run: a row of the paper's Table 4.

    Numbers such as tau are chosen on the validation images. Without such images, the classifiers that need a number are
    left out.
    """
    # Imported here: `drolt --help` should not wait for it.
    from rich.console import Console

    from drolt_pl.report.tables import classifier_table
    from drolt_pl.run.compare import compare_run
    from drolt_pl.run.conf import CONF

    with one_sentence():
        path, found = compare_run(
            run_dir,
            CONF,
            stage=stage,
            views=views,
            epochs=epochs,
            lr=lr,
            weight_decay=weight_decay,
            moved_to=data,
            trust=trust,
        )
    console = Console()
    console.print(classifier_table(found))
    for name, compared in found.classifiers.items():
        if compared.why is not None:
            console.print(f"{name}: {compared.why}", markup=False, highlight=False, soft_wrap=True)
    typer.echo(f"wrote {path}")
