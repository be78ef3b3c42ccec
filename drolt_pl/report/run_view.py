"""What the page of `drolt report` shows of a run."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drolt_pl import escape, folders
from drolt_pl.errors import SettingError
from drolt_pl.report import charts, matrices
from drolt_pl.report.tables import COLUMNS, percent, selected
from drolt_pl.report.tail import tail_view
from drolt_pl.results import Results

ACCURACY = {"train": "train/acc", "validation": "val/acc"}
GROUPS = {group: f"val/{group}" for group in ("many", "medium", "few")}
DRIFT = {group: f"drift/{group}" for group in ("many", "medium", "few")}
COVERED = {group: f"coverage_held_out/{group}" for group in ("many", "medium", "few")}
PER_CLASS = {
    "name": folders.TEXT,
    "train_images": folders.WHOLE,
    "group": folders.TEXT,
    "acc": folders.SHARE_OR_EMPTY,
}
CONFUSION = {"name": folders.TEXT, "predicted": folders.TEXT, "images": folders.COUNT}
CALIBRATION = {"images": folders.COUNT, "accuracy": folders.SHARE, "confidence": folders.SHARE}
CAPTIONS = {
    "Calibration on the test set": "On the dashed line the network is right as often as it is confident; "
    "below it, less often.",
    "Radii": "The radius of each class's ball, in the units of its features.",
    "Drift of the centroids in an epoch": "How far the centroid of a class has moved since the epoch before, "
    "in the mean over the classes of a group.",
    "Held-out class means in the ball": "The share of classes whose mean of validation images lies in their ball.",
}
NONE_COVERED = (
    "0 % in every epoch, so no chart: the mean of a class's validation images never lay in the class's ball. Each "
    "radius is smaller than the distance from the centroid to that mean."
)
PROTOCOLS = {
    "holdout": "epochs are chosen on validation images, which do not train",
    "published": "all images train, and the last epoch counts",
    "test_selected": "epochs are chosen on the test set, so its accuracy is optimistic",
}
LOSSES = {"loss": "train/loss", "cross-entropy": "train/loss_ce", "robust": "train/loss_robust"}


def run_view(folder: Path) -> dict[str, Any]:
    """What the page shows of a run."""
    if not (folder / "results.json").exists():
        raise SettingError(str(folder), "is no finished run and no sweep: it has no results.json and no multirun.yaml")
    results = Results.load(folder / "results.json")
    rows, classes = folders.metric_rows(folder / "metrics.csv"), folders.table(folder / "per_class.csv", PER_CLASS)
    calibrated = folders.table(folder / "calibration.csv", CALIBRATION)
    confused = folders.table(folder / "confusion.csv", CONFUSION)
    title = f"{results.label} on {results.dataset}"
    covered: charts.Spec | str | None = charts.curves(rows, COVERED, "share, %", factor=100)
    if covered is not None and not any(float(row.get(key) or 0) for row in rows for key in COVERED.values()):
        covered = NONE_COVERED
    shown: dict[str, charts.Spec | str | None] = {
        "Test accuracy by stage and group": charts.by_group({results.label: results}),
        "Loss": charts.curves(rows, _losses(rows), "training loss"),
        "Accuracy while training": charts.curves(rows, ACCURACY, "accuracy, %", factor=100),
        "Validation accuracy by group": charts.curves(rows, GROUPS, "accuracy, %", factor=100),
        "Accuracy by class": charts.by_class(classes),
        "Confusion on the test set": matrices.confusion(confused) or _no_matrix(results, confused),
        "Calibration on the test set": matrices.calibration(calibrated),
        "Radii": charts.radii(classes),
        "Drift of the centroids in an epoch": charts.curves(rows, DRIFT, "distance"),
        "Held-out class means in the ball": covered,
    }
    return {
        "title": escape.plain(title),
        "about": _about(results),
        "warning": None if results.warning is None else escape.plain(results.warning),
        "stages": _stages(results),
        "of_stages": "Each row is a stage's last epoch; reported is the model that the run keeps. Many: more than "
        f"{results.groups.many} training images a class, few: fewer than {results.groups.few}. Nearest centroid: "
        "without the classifier. Calibration error: how far confidence and accuracy lie apart.",
        "charts": {name: charts.embedded(spec) for name, spec in shown.items() if isinstance(spec, dict)},
        "captions": CAPTIONS
        | {"Loss": _of_curves(rows)}
        | {name: text for name, text in shown.items() if isinstance(text, str)},
        "shown": [name for name, spec in shown.items() if spec is not None],
        "worst": _worst(classes),
        "tail": tail_view(folder),
        "pairs": matrices.worst_pairs(confused),
        "facts": {name: escape.plain(str(value)) for name, value in _facts(results).items()},
        "versions": {name: escape.plain(version) for name, version in results.versions.items()},
        "commands": _commands(folder, results),
        "results": results,
        "folder": folder,
    }


def _losses(rows: Sequence[charts.Row]) -> dict[str, str]:
    """The columns of the losses; without the cross-entropy where that is the whole loss in every epoch."""
    same = all(row.get(LOSSES["loss"]) == row.get(LOSSES["cross-entropy"]) for row in rows)
    return {name: key for name, key in LOSSES.items() if not (same and name == "cross-entropy")}


def _no_matrix(results: Results, confused: Sequence[charts.Row]) -> str:
    """Why no matrix is drawn, and what stands in its place."""
    if confused:
        return (
            f"A matrix is drawn of up to {matrices.MOST_CELLS} classes, and here are {len(results.class_counts):,}. "
            "The pairs that are confused most are in a table below."
        )
    return (
        "Left out, as is the table of what is taken for what: the run's folder has no confusion.csv. A run of more "
        "than 1,000 classes records none."
    )


def _of_curves(rows: Sequence[charts.Row]) -> str:
    """What the curves over epochs have in common."""
    passes = len(charts.with_pass(rows))
    marked = "the one epoch" if passes == 1 else f"each of the {passes:,} epochs"
    ticks = f" A tick below marks {marked} with a pass for the class centroids." if passes else ""
    return (
        "In all curves over epochs, dashed lines mark where a stage begins. Epochs count from 1, as where the run "
        f"prints; metrics.csv counts them from 0.{ticks}"
    )


def _about(results: Results) -> list[str]:
    counts = results.class_counts
    test = results.test.numbers()
    chosen = f": {PROTOCOLS[results.protocol]}" if results.protocol in PROTOCOLS else ""
    first = (
        f"{len(counts):,} classes, {sum(counts):,} training images, {max(counts, default=0):,} to "
        f"{min(counts, default=0):,} a class; seed {results.seed}, protocol {results.protocol}{chosen}."
    )
    groups = ", ".join(f"{group} {percent(test.get(group))}" for group in ("many", "medium", "few"))
    second = f"Test accuracy {percent(test.get('acc'))} % in the mean over classes: {groups}."
    return [escape.plain(first), second]


def _stages(results: Results) -> list[list[str]]:
    rows = {stage: part.test for stage, part in results.stages.items()} | {"reported": results.test}
    numbers = {name: {} if found is None else found.numbers() for name, found in rows.items()}
    rows_ = [[name, *(percent(own.get(key)) for key in (*COLUMNS.values(), "ece"))] for name, own in numbers.items()]
    return [["Model", *COLUMNS, "Calibration error"], *([escape.plain(cell) for cell in row] for row in rows_)]


def _worst(classes: Sequence[Mapping[str, str]], most: int = 12) -> list[list[str]]:
    """The classes with the least accuracy: name, group, images, accuracy."""
    measured = [row for row in classes if row.get("acc")]
    measured.sort(key=lambda row: (float(row["acc"]), int(row["train_images"])))
    return [
        [escape.plain(row["name"]), row["group"], row["train_images"], percent(float(row["acc"]))]
        for row in measured[:most]
    ]


def _facts(results: Results) -> dict[str, object]:
    timing = results.timing
    seconds = (timing.train_s or 0.0) + (timing.centroid_s or 0.0)
    return {
        "Parameters": f"{results.num_parameters or 0:,}",
        "Images seen": f"{results.images_seen or 0:,}",
        "Training": f"{seconds:,.0f} s, of it {timing.centroid_s or 0:,.1f} s of centroid passes",
        "Hardware": results.hardware or "not recorded",
        "Reported model": selected(results.selection),
        "Split": f"seed {results.split_seed}, {(results.split_sha256 or '')[:12]}",
        "Code": results.git or "not recorded",
    }


def _commands(folder: Path, results: Results) -> dict[str, str]:
    place = shlex.quote(str(folder))
    commands = {
        "This run": results.command or "",
        "Predict": f"drolt predict {place} PHOTOGRAPHS -o predictions.csv",
        "Evaluate": f"drolt evaluate {place} --data FOLDER",
        "Export": f"drolt export {place} --format onnx",
        "Measure again": f"drolt train {shlex.quote(f'resume={folder}')}",
    }
    return {name: escape.plain(command) for name, command in commands.items() if command}
