"""`drolt evaluate`: how good a model is on labelled images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drolt_pl.cli.errors import one_sentence
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
from drolt_pl.cli.progress import progress
from drolt_pl.ranges import Inside

if TYPE_CHECKING:
    from drolt_pl.model import Model
    from drolt_pl.predict.files import Pace
    from drolt_pl.predict.labelled import Outputs, Progress

COVERAGE = 0.9
Calibrate = Annotated[
    Path | None, typer.Option(help="Other labelled images, as in --data: temperature and conformal sets.")
]
Coverage = Annotated[Inside, typer.Option(help="How often a conformal set should hold the class, in (0, 1).")]
Unknown = Annotated[Path | None, typer.Option(help="Images of no class: how well they are told from the others.")]


def evaluate(
    model: Source,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATASET]...", help="In place of --data: dataset=NAME dataset.root=..., as in training."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with a folder of images for each class.")] = None,
    calibrate: Calibrate = None,
    coverage: Coverage = COVERAGE,
    ood: Unknown = None,
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
    finds them without labels, after the run's validation images, or those of --calibrate, have calibrated the model.
    """
    share_cores()
    # Imported here: `drolt --help` should not wait for it.
    from rich.console import Console

    from drolt_pl.model import Model
    from drolt_pl.predict.evaluate import PriorWish, with_reliability, write
    from drolt_pl.predict.evaluate import evaluate as measured
    from drolt_pl.predict.files import Pace, automatic_device
    from drolt_pl.predict.labelled import outputs_of_strangers
    from drolt_pl.predict.ranks import Ranks
    from drolt_pl.predict.tables import evaluation_tables

    with one_sentence():
        _require_one(data, overrides)
        _require_out(out)
        _require_other(data, calibrate, ood)
        _require_used(calibrate, coverage, test_prior, model_prior)
        pace = Pace(batch_size=batch_size, workers=workers, device=automatic_device(device, Ranks()))
        loaded = Model.load(model, stage=stage, trust=trust)
        with progress("evaluating") as advance:
            found = _outputs(loaded, data, overrides or [], pace, advance)
            held_out = None if calibrate is None else _folders(loaded, calibrate, "--calibrate", pace, advance)
            unknown = None if ood is None else outputs_of_strangers(loaded, ood, pace, advance)
        own = held_out is None and test_prior == "estimate" and model_prior is None
        known = own_validation(loaded, model, pace, trust) if own else held_out
        evaluation = measured(loaded, found, PriorWish(test_prior, model_prior), known)
        evaluation = with_reliability(evaluation, loaded, found, held_out, unknown, level=coverage)
        Console().print(*evaluation_tables(evaluation))
        bad = found.unreadable
        tell_left_out(found.others, len(bad), evaluation.images + len(bad), bad[:20])
        if out is not None:
            write(out, evaluation)
            typer.echo(f"wrote {out}")


def _require_one(data: Path | None, overrides: list[str] | None) -> None:
    from drolt_pl.errors import SettingError

    if (data is None) == (not overrides):
        raise SettingError("--data", "must name a folder with a folder for each class, or dataset=NAME a data set")


def _require_out(out: Path | None) -> None:
    from drolt_pl.predict.evaluate import ENDINGS

    if out is not None:
        require_replaceable("-o", out, rb'\{\n "images"', b"class,group,", endings=ENDINGS)


def _require_other(data: Path | None, calibrate: Path | None, ood: Path | None) -> None:
    """Refuses to calibrate on the images that are measured, or to take them for images of no class."""
    from drolt_pl.errors import SettingError

    for option, other in (("--calibrate", calibrate), ("--ood", ood)):
        if data is not None and other is not None and data.exists() and other.exists() and other.samefile(data):
            raise SettingError(option, "must hold other images than --data", str(other))


def _require_used(calibrate: Path | None, coverage: float, test_prior: str | None, model_prior: str | None) -> None:
    """Refuses options that would change nothing."""
    from drolt_pl.errors import SettingError
    from drolt_pl.predict.priors import require_used

    require_used(test_prior, model_prior)
    if calibrate is None and coverage != COVERAGE:
        raise SettingError("--coverage", "must be left out without --calibrate: it is of conformal sets", coverage)


def _outputs(model: "Model", data: Path | None, overrides: list[str], pace: "Pace", advance: "Progress") -> "Outputs":
    """What the model gives for a folder of classes, or for the test images of a data set."""
    from drolt_pl.predict.labelled import outputs_of_batches

    if data is not None:
        return _folders(model, data, "--data", pace, advance)
    from drolt_pl.run.labelled import labelled_images

    return outputs_of_batches(model, labelled_images(model, overrides), pace, advance)


def _folders(model: "Model", root: Path, option: str, pace: "Pace", advance: "Progress") -> "Outputs":
    from drolt_pl.predict.labelled import class_folders, outputs_of_folders

    return outputs_of_folders(model, class_folders(root, model.class_names, option), pace, advance)
