"""`drolt export` and `drolt info`: a model as a file for other programs, and what a file holds."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import one_sentence
from drolt_pl.cli.model import Source, Stage, Trust


def export(
    model: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file.")],
    form: Annotated[
        str, typer.Option("--format", help="safetensors (for drolt itself), onnx or torch-export.")
    ] = "safetensors",
    check: Annotated[
        str | None,
        typer.Option(help="Images to compare on: a folder, a pattern or a list file.", show_default="images of noise"),
    ] = None,
    stage: Stage = None,
    trust: Trust = False,
) -> None:
    """Write a model with its preprocessing and class names, after comparing the file with the model on images."""
    # Imported here: `drolt --help` should not wait for it.
    from drolt_pl.model import Model
    from drolt_pl.predict.export import export as write

    with one_sentence():
        found = write(Model.load(model, stage=stage, trust=trust), form, out, check)
    beside = "" if found.beside is None else f" and {found.beside}"
    compared = f"{found.images} images {'of noise' if check is None else f'of {check}'}"
    typer.echo(f"wrote {found.path}{beside}: logits within {found.difference:.1e} of the model's on {compared}")


def info(model: Source, stage: Stage = None, trust: Trust = False) -> None:
    """Show what a model is: network, classes and groups, preprocessing, stage, and where it was trained."""
    from rich.console import Console

    from drolt_pl.model import Model
    from drolt_pl.predict.info import info as facts
    from drolt_pl.predict.tables import info_tables

    with one_sentence():
        found = facts(Model.load(model, stage=stage, trust=trust), model)
    console = Console()
    for table in info_tables(found):
        console.print(table)
