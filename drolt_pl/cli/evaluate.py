"""`drolt evaluate`: how good a model is on labelled images."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import one_sentence
from drolt_pl.cli.model import BatchSize, Device, ModelPrior, Source, Stage, TestPrior, Trust, Workers, tell_unreadable
from drolt_pl.cli.progress import progress


def evaluate(
    model: Source,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATASET]...", help="In place of --data: dataset=NAME dataset.root=..., as in training."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with a folder of images for each class.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write it: .json all, .csv by class.")] = None,
    test_prior: TestPrior = None,
    model_prior: ModelPrior = None,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    device: Device = "auto",
    stage: Stage = None,
    trust: Trust = False,
) -> None:
    """Show accuracy overall, by shot group and by class, calibration, and what is confused.

    With --test-prior the probabilities are re-weighted to the class frequencies of where the model is used; `estimate`
    finds these frequencies on the images alone, without their labels.
    """
    # Imported here: `drolt --help` should not wait for it.
    from rich.console import Console

    from drolt_pl.errors import SettingError
    from drolt_pl.model import Model
    from drolt_pl.predict.evaluate import PriorWish, check_suffix, write
    from drolt_pl.predict.evaluate import evaluate as measured
    from drolt_pl.predict.files import Pace, automatic_device
    from drolt_pl.predict.labelled import class_folders, outputs_of_batches, outputs_of_folders
    from drolt_pl.predict.ranks import Ranks
    from drolt_pl.predict.tables import evaluation_tables

    with one_sentence():
        if (data is None) == (not overrides):
            raise SettingError("--data", "must name a folder with a folder for each class, or dataset=NAME a data set")
        if out is not None:
            check_suffix(out)
        pace = Pace(batch_size=batch_size, workers=workers, device=automatic_device(device, Ranks()))
        loaded = Model.load(model, stage=stage, trust=trust)
        with progress("evaluating") as advance:
            if data is not None:
                folders = class_folders(data, loaded.class_names)
                found = outputs_of_folders(loaded, folders, pace, advance)
            else:
                from drolt_pl.run.labelled import labelled_images

                found = outputs_of_batches(loaded, labelled_images(loaded, overrides or []), pace, advance)
        evaluation = measured(loaded, found, PriorWish(test_prior, model_prior))
        console = Console()
        for table in evaluation_tables(evaluation):
            console.print(table)
        tell_unreadable(len(found.unreadable), evaluation.images + len(found.unreadable), found.unreadable[:20])
        if out is not None:
            write(out, evaluation)
            typer.echo(f"wrote {out}")
