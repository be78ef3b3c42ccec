"""`report.html`: one page about a run, a sweep or several of them, which needs no network and no other file."""

import functools
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from drolt_pl import escape, folders
from drolt_pl.disk import write_whole
from drolt_pl.errors import SettingError
from drolt_pl.report import charts, matrices
from drolt_pl.report.optuna_plots import optuna_pictures
from drolt_pl.report.page import template
from drolt_pl.report.sweep import load_sweep
from drolt_pl.report.sweep import rows as sweep_rows
from drolt_pl.report.sweep_jobs import Failure, SweepJob
from drolt_pl.report.tables import COLUMNS, percent
from drolt_pl.report.tail import tail_view
from drolt_pl.results import Results

NAME = "report.html"
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
LOSSES = {"loss": "train/loss", "cross-entropy": "train/loss_ce", "robust": "train/loss_robust"}


def write_report(sources: Sequence[Path], out: Path) -> Path:
    """Writes the page of runs and sweeps.

    Args:
        sources: Folders of runs and sweeps.
        out: The file.

    Raises:
        SettingError: a folder is neither, or a file in it cannot be read.
    """
    runs, sweeps = [], []
    for source in sources:
        if (source / folders.SWEEP).exists() or (source / folders.JOBS).exists():
            sweeps.append(_sweep(source))
        else:
            runs.append(_run(source))
    together = _together(sources, runs) if len(runs) > 1 else None
    names = [part["title"] for part in (*runs, *sweeps)]
    page = template("report.html.j2").render(
        title=" · ".join(names[:3]), runs=runs, sweeps=sweeps, together=together, script=javascript()
    )
    write_whole(out, page.encode())
    return out


def leave_report(folder: Path) -> None:
    """Writes the page of a run or a sweep into its folder; whatever goes wrong there, the results stand."""
    try:
        print(f"report: {write_report([folder], folder / NAME)}", flush=True)
    except Exception as error:
        print(f"warning: {NAME} could not be written ({type(error).__name__}: {error})", flush=True)


def _run(folder: Path) -> dict[str, Any]:
    """What the page shows of a run."""
    if not (folder / "results.json").exists():
        raise SettingError(str(folder), "is no finished run and no sweep: it has no results.json and no multirun.yaml")
    results = Results.load(folder / "results.json")
    rows, classes = folders.metric_rows(folder / "metrics.csv"), folders.table(folder / "per_class.csv", PER_CLASS)
    calibrated = folders.table(folder / "calibration.csv", CALIBRATION)
    confused = folders.table(folder / "confusion.csv", CONFUSION)
    title = f"{results.label} on {results.dataset}"
    shown = {
        "Test accuracy by stage and group": charts.by_group({results.label: results}),
        "Loss": charts.curves(rows, LOSSES, "training loss"),
        "Accuracy while training": charts.curves(rows, ACCURACY, "accuracy, %", factor=100),
        "Validation accuracy by group": charts.curves(rows, GROUPS, "accuracy, %", factor=100),
        "Accuracy by class": charts.by_class(classes),
        "Confusion on the test set": matrices.confusion(confused),
        "Calibration on the test set": matrices.calibration(calibrated),
        "Radii": charts.radii(classes),
        "Drift of the centroids in an epoch": charts.curves(rows, DRIFT, "distance"),
        "Held-out class means in the ball": charts.curves(rows, COVERED, "share, %", factor=100),
    }
    return {
        "title": escape.plain(title),
        "about": _about(results),
        "warning": None if results.warning is None else escape.plain(results.warning),
        "stages": _stages(results),
        "charts": {name: _embedded(spec) for name, spec in shown.items() if spec is not None},
        "worst": _worst(classes),
        "tail": tail_view(folder),
        "pairs": matrices.worst_pairs(confused),
        "facts": {name: escape.plain(str(value)) for name, value in _facts(results).items()},
        "versions": {name: escape.plain(version) for name, version in results.versions.items()},
        "commands": _commands(folder, results),
        "results": results,
        "folder": folder,
    }


def _about(results: Results) -> list[str]:
    counts = results.class_counts
    test = results.test.numbers()
    first = (
        f"{len(counts):,} classes, {sum(counts):,} training images, {max(counts, default=0):,} to "
        f"{min(counts, default=0):,} a class; protocol {results.protocol}, seed {results.seed}."
    )
    groups = ", ".join(f"{group} {percent(test.get(group))}" for group in ("many", "medium", "few"))
    second = f"Test accuracy {percent(test.get('acc'))} % in the mean over classes: {groups}."
    if results.protocol == "test_selected":
        second += " Epochs were chosen on the test set, so it is optimistic."
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
    timing, selection = results.timing, results.selection
    seconds = (timing.train_s or 0.0) + (timing.centroid_s or 0.0)
    chosen = f"best {selection.metric}" if selection.metric else "last epoch"
    return {
        "Parameters": f"{results.num_parameters or 0:,}",
        "Images seen": f"{results.images_seen or 0:,}",
        "Training": f"{seconds:,.0f} s, of it {timing.centroid_s or 0:,.1f} s of centroid passes",
        "Hardware": results.hardware or "not recorded",
        "Reported model": f"stage {selection.stage}, epoch {selection.epoch}, {chosen}",
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


def _sweep(folder: Path) -> dict[str, Any]:
    sweep = load_sweep(folder)
    table = sweep_rows(sweep)
    points = []
    for setting in sweep.settings:
        val, test = setting.mean("val", sweep.metric), setting.mean("test", "acc")
        if val is not None and test is not None:
            label = ", ".join(f"{key}={value}" for key, value in setting.values.items()) or "one setting"
            points.append({"label": escape.plain(label), "val": 100 * val, "test": 100 * test})
    spec = charts.settings(points)
    first = {} if spec is None else {"Settings: validation against test": spec}
    return {
        "title": escape.plain(f"Sweep {folder.name}"),
        "progress": sweep.progress,
        "command": None if sweep.command is None else escape.plain(sweep.command),
        "columns": [escape.plain(column) for column in table[0]] if table else [],
        "rows": [[escape.plain(str(value)) for value in row.values()] for row in table],
        "failures": [_failed(job, job.failure) for job in sweep.jobs if job.failure is not None],
        "charts": {name: _embedded(chart) for name, chart in (first | matrices.heat_maps(sweep)).items()},
        "pictures": optuna_pictures(folder),
    }


def _failed(job: SweepJob, failure: Failure) -> dict[str, object]:
    last = next((line for line in reversed(failure.last_lines) if line.strip()), "")
    return {"name": escape.plain(job.name), "exit_code": failure.exit_code, "last_line": escape.plain(last.strip())}


def _together(sources: Sequence[Path], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several runs beside each other, and where their configurations differ."""
    labels = [f"{place}. {run['title']}" for place, run in enumerate(runs, start=1)]
    spec = charts.by_group(dict(zip(labels, (run["results"] for run in runs), strict=True)))
    texts = [_flat(folders.config(run["folder"])) for run in runs]
    keys = sorted(set().union(*texts))
    differ = [key for key in keys if len({text.get(key) for text in texts}) > 1]
    rows = [[escape.plain(key), *(escape.plain(text.get(key, "-")) for text in texts)] for key in differ]
    return {"charts": {"Test accuracy by group": _embedded(spec)}, "labels": labels, "differences": rows}


def _flat(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            values |= _flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = str(value)
    return values


def _embedded(spec: charts.Spec) -> str:
    """A chart as JSON for a script element: no text in it can end the element."""
    text = json.dumps(spec, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@functools.cache
def javascript() -> str:
    """Vega-Lite's JavaScript; making it takes seconds, so it is kept in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kept = Path(home) / "drolt_pl" / f"vega-{metadata.version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    import vl_convert

    text: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks the default
    with suppress(OSError):
        write_whole(kept, text.encode())
    return text
