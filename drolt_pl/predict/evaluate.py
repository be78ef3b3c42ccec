"""How good a model is on labelled images: overall, by group and class, its calibration, and what it confuses."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from drolt_pl import prior
from drolt_pl.errors import require
from drolt_pl.groups import group_of
from drolt_pl.metrics import CalibrationError, ShotAccuracy
from drolt_pl.model import Model
from drolt_pl.predict import priors, reliability
from drolt_pl.predict.labelled import Outputs
from drolt_pl.predict.reliability import Sets, Strangers, Temperature
from drolt_pl.predict.table import safe
from drolt_pl.records import Record, finite, write_atomically
from drolt_pl.results import Accuracies

ENDINGS = (".json", ".csv")  # of the file that `write` makes


class ClassResult(Record):
    """A class: its images in training and here, its shot group, and its accuracies; null where it has no images."""

    name: str
    group: str | None
    train_images: int | None
    images: int
    acc: float | None
    acc_ncm: float | None = None


class Evaluation(Record):
    """What `drolt evaluate` found.

    Attributes:
        accuracies: Of the probabilities as they are reported: re-weighted where there is a `test_prior`.
        as_trained: Of the model's own; null where they are the same.
        confusion: Images by class (rows) and prediction (columns), (C, C).
        model_prior: Class frequencies that the model's probabilities assume: `train` or `uniform`, or `held out` where
            they were calibrated on held-out images before frequencies were estimated.
        test_prior_source: What these frequencies are: `uniform`, `train`, `estimate` or a file. An estimate that the
            images hardly support becomes one of the first two.
        test_prior: Class frequencies that they were re-weighted to, by class name.
        test_prior_error: Total variation between these and the frequencies of the labels.
        unreadable: Why files were left out.
        temperature: Fitted on held-out images; null without them, as `sets`.
        sets: Conformal sets with a threshold for each class, and with one for all.
        strangers: How images of no class are told from these; null without such images.
    """

    images: int
    accuracies: Accuracies
    as_trained: Accuracies | None
    classes: Sequence[ClassResult]
    confusion: Sequence[Sequence[int]]
    model_prior: str
    test_prior_source: str | None
    test_prior: Mapping[str, float] | None
    test_prior_error: float | None
    unreadable: Sequence[str]
    temperature: Temperature | None = None
    sets: Sequence[Sets] | None = None
    strangers: Sequence[Strangers] | None = None


@dataclass(frozen=True)
class PriorWish:
    """What a user wants of class frequencies.

    Attributes:
        test: `uniform`, `train`, `estimate` or a file; None leaves the probabilities as they are.
        model: `train` or `uniform`; None takes what the model's file says.
    """

    test: str | None = None
    model: str | None = None


def evaluate(model: Model, found: Outputs, wish: PriorWish, held_out: Outputs | None = None) -> Evaluation:
    """Measures what a model gave for labelled images.

    Args:
        model: The model.
        found: What it gives for the images.
        wish: Class frequencies.
        held_out: What it gives for images of its classes beside these. With them, probabilities are calibrated before
            class frequencies are estimated.
    """
    name, assumed = priors.model_prior(model, wish.model)
    probabilities = found.logits.double().softmax(1)
    own = measure(model, probabilities, found)
    source, frequencies = wish.test, None
    if wish.test == priors.ESTIMATE and held_out is not None:
        calibration = prior.calibrated(held_out.logits, held_out.targets)
        name, assumed = "held out", calibration.prior
        probabilities = calibration.logits(found.logits).softmax(1)
    if wish.test == priors.ESTIMATE:
        source, frequencies = priors.estimated_prior(model, probabilities, assumed, held_out and len(held_out.targets))
    elif wish.test is not None:
        frequencies = priors.named_prior(model, wish.test)
    reported = own
    if frequencies is not None:
        probabilities = prior.reweight(probabilities, assumed, frequencies)
        reported = measure(model, probabilities, found)
    num_classes = len(model.class_names)
    totals = torch.bincount(found.targets, minlength=num_classes)
    cells = torch.bincount(found.targets * num_classes + probabilities.argmax(1), minlength=num_classes**2)
    return Evaluation(
        images=len(found.targets),
        accuracies=reported,
        as_trained=None if frequencies is None else own,
        classes=_classes(model, totals, reported),
        confusion=cells.view(num_classes, num_classes).tolist(),
        model_prior=name,
        test_prior_source=source,
        test_prior=None if frequencies is None else dict(zip(model.class_names, frequencies.tolist(), strict=True)),
        test_prior_error=None if frequencies is None else prior.total_variation(frequencies, prior.frequencies(totals)),
        unreadable=list(found.unreadable),
    )


def with_reliability(
    evaluation: Evaluation,
    model: Model,
    found: Outputs,
    held_out: Outputs | None = None,
    unknown: Outputs | None = None,
    *,
    level: float = 0.9,
) -> Evaluation:
    """Adds what held-out images and images of no class tell of the model's own probabilities.

    Args:
        evaluation: What `evaluate` found.
        model: The model.
        found: What it gives for the images.
        held_out: What it gives for images of its classes beside these.
        unknown: What it gives for images of no class; their targets are not read.
        level: Coverage of the conformal sets, in (0, 1).
    """
    if held_out is not None:
        pair = [reliability.sets(model, held_out, found, level, by_class=by_class) for by_class in (True, False)]
        fitted = reliability.temperature(held_out, found)
        evaluation = evaluation.model_copy(update={"temperature": fitted, "sets": pair})
    if unknown is not None:
        told = reliability.strangers(model, found, unknown.logits)
        evaluation = evaluation.model_copy(update={"strangers": told})
    return evaluation


def measure(model: Model, probabilities: Tensor, found: Outputs) -> Accuracies:
    """Accuracies and calibration of probabilities (N, C); groups are null where the model has no class counts."""
    counts = model.class_counts or (1,) * len(model.class_names)
    limits = {"many": model.groups.many, "few": model.groups.few}
    accuracy, calibration = ShotAccuracy(counts, **limits), CalibrationError()
    # Their softmax is the probabilities again; log 0 stays finite.
    logits = probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()
    accuracy.update(logits, found.targets)
    calibration.update(logits, found.targets)
    measured: dict[str, Tensor] = {**accuracy.compute(), "ece": calibration.compute()}
    if found.nearest is not None:
        ncm = ShotAccuracy(counts, **limits)
        ncm.update(found.nearest, found.targets)
        nearest = ncm.compute()
        measured |= {"acc_ncm": nearest["acc"], "per_class_ncm": nearest["per_class"]}
        measured |= {f"{group}_ncm": nearest[group] for group in ("many", "medium", "few")}
    if model.class_counts is None:
        measured = {key: value for key, value in measured.items() if not key.startswith(("many", "medium", "few"))}
    return Accuracies.of({key: value.tolist() for key, value in measured.items()})


def write(path: Path, evaluation: Evaluation) -> None:
    """Writes everything as JSON, or a row for each class as CSV: the suffix decides.

    Raises:
        SettingError: another suffix.
    """
    require("-o", str(path), path.suffix.lower() in ENDINGS, f"must end in {' or '.join(ENDINGS)}")
    if path.suffix.lower() == ".json":
        write_atomically(path, evaluation.model_dump_json(indent=1) + "\n")
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "group", "train_images", "images", "acc", "acc_ncm", "test_prior"])
    shares = evaluation.test_prior or {}
    for row in evaluation.classes:
        cells = [row.group, row.train_images, row.images, row.acc, row.acc_ncm, shares.get(row.name)]
        writer.writerow([safe(row.name), *(finite(cell) for cell in cells)])
    write_atomically(path, text.getvalue())


def _classes(model: Model, totals: Tensor, measured: Accuracies) -> list[ClassResult]:
    empty: list[float | None] = [None] * len(model.class_names)
    counts: Sequence[int | None] = model.class_counts or [None] * len(empty)
    limits = (model.groups.many, model.groups.few)
    rows = zip(
        model.class_names,
        counts,
        totals.tolist(),
        measured.per_class or empty,
        measured.per_class_ncm or empty,
        strict=True,
    )
    return [
        ClassResult(
            name=name,
            group=None if count is None else group_of(count, *limits),
            train_images=count,
            images=images,
            acc=acc,
            acc_ncm=acc_ncm,
        )
        for name, count, images, acc, acc_ncm in rows
    ]
