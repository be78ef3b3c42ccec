"""`drolt predict`: the classes of any number of images, as a CSV file."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import fail, one_sentence
from drolt_pl.cli.held_out import own_validation
from drolt_pl.cli.model import (
    BatchSize,
    Device,
    ModelPrior,
    Source,
    Stage,
    TestPrior,
    Trust,
    Workers,
    share_cores,
    tell_left_out,
)
from drolt_pl.cli.outputs import require_replaceable
from drolt_pl.cli.progress import progress, shown
from drolt_pl.ranges import Count


def predict(
    model: Source,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...", help="Images, folders, patterns, list files (@FILE or .txt); - reads names."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV file.")] = Path("predictions.csv"),
    top: Annotated[Count, typer.Option(help="Classes that a row names.")] = 5,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if a file cannot be read.")] = False,
    test_prior: TestPrior = None,
    model_prior: ModelPrior = None,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    device: Device = "auto",
    stage: Stage = None,
    trust: Trust = False,
) -> None:
    """Write a row for each image, in order: its classes, their probabilities, and the nearest class centroid.

    A file that cannot be read has a row with the reason; such files are listed at the end. Under torchrun the processes
    share the images and write the same file as one would.
    """
    share_cores()
    # Imported here: `drolt --help` should not wait for it.
    from drolt_pl.data.sets.layout import counted
    from drolt_pl.model import Model
    from drolt_pl.predict.files import Pace, automatic_device, predict_files
    from drolt_pl.predict.names import Names
    from drolt_pl.predict.ranks import Ranks
    from drolt_pl.predict.shift import shift_for

    with one_sentence():
        require_replaceable("-o", out, b"file,label,probability", endings=(".csv",))
        ranks, names = Ranks.of_environment(), Names(images)
        ranks.require_shareable(names)
        pace = Pace(batch_size=batch_size, workers=workers, device=automatic_device(device, ranks))
        loaded = Model.load(model, stage=stage, trust=trust)
        held_out = partial(own_validation, loaded, model, pace, trust)
        shift = shift_for(loaded, names, pace, test=test_prior, assumed=model_prior, held_out=held_out)
        total = names.count() if ranks.first and shown() else None
        with progress("predicting") as advance:
            found = predict_files(
                loaded,
                names,
                out,
                top=top,
                prior_shift=None if shift is None else shift.values,
                scale=1.0 if shift is None else shift.scale,
                pace=pace,
                ranks=ranks,
                progress=(lambda done: advance(done, total)) if ranks.first else (lambda done: None),
            )
        if ranks.first:
            tell_left_out(names.others, found.unreadable, found.files, found.examples)
            reweighted = "" if shift is None else f", re-weighted to class frequencies: {shift.source}"
            typer.echo(f"wrote {out}: {counted(found.files, 'file')}{reweighted}")
        if strict and found.unreadable:
            fail(f"{found.unreadable:,} of {counted(found.files, 'file')} cannot be read")
