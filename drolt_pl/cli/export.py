"""`drolt export`, `adapt` and `info`: a model as a file for other programs or images, and what a file holds."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import one_sentence
from drolt_pl.cli.model import BatchSize, Source, Stage, Trust, Workers
from drolt_pl.cli.outputs import require_replaceable

# How the files of a model begin: of `drolt` itself, of ONNX by its producer, and the facts beside a .pt2.
SAVED, ONNX, FACTS = rb'.{8}\{"__metadata__":\{"drolt_pl":', b".{,4}drolt_pl", rb'\{\n "input": "images: '


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
    from drolt_pl.predict.export import beside, require_format
    from drolt_pl.predict.export import export as write

    with one_sentence():
        require_format(form, out)
        facts = beside(form, out)
        if facts is not None:
            require_replaceable("-o", facts, FACTS)
        # What is in a .pt2 shows deep inside it: the facts beside it tell whose it is.
        ours = b"PK" if facts is not None and facts.is_file() else SAVED if form == "safetensors" else ONNX
        require_replaceable("-o", out, ours)
        found = write(Model.load(model, stage=stage, trust=trust), form, out, check)
    also = "" if found.beside is None else f" and {found.beside}"
    compared = f"{found.images} images {'of noise' if check is None else f'of {check}'}"
    typer.echo(f"wrote {found.path}{also}: logits within {found.difference:.1e} of the model's on {compared}")


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


def adapt(
    model: Source,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help="As for `drolt predict`; no label is read.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model's file, .safetensors.")],
    flip: Annotated[bool, typer.Option(help="Whether views may be mirrored.")] = True,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    stage: Stage = None,
    trust: Trust = False,
) -> None:
    """Weigh the experts of a model by the images it is used on, and write the model (method=sade)."""
    from drolt_pl.errors import require
    from drolt_pl.model import Model
    from drolt_pl.model.adapt import adapt_experts
    from drolt_pl.predict.names import Names

    with one_sentence():
        require("-o", str(out), out.suffix == ".safetensors", "must end in .safetensors")
        require_replaceable("-o", out, SAVED)
        loaded = Model.load(model, stage=stage, trust=trust)
        shares = adapt_experts(loaded, Names(images), flip=flip, batch_size=batch_size, workers=workers)
        loaded.save(out)
    typer.echo(f"wrote {out}: weights of the experts {', '.join(f'{share:.3f}' for share in shares)}")
