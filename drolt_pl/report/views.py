"""What the templates of RESULTS.md and of its pages show of tables and rows: texts, escaped for Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from drolt_pl import escape
from drolt_pl.comparison import Comparison
from drolt_pl.report.aggregate import CONTROL, METRICS, PLAIN, KeptRun, Number, Row, Table
from drolt_pl.report.tables import percent

NOTE = "note.md"
REFERENCES = (PLAIN, CONTROL)
PROFILES = {"exp": "exponential profile", "step": "step profile"}
PROTOCOLS = {
    "holdout": "Epochs are selected on validation images; the test set is read once, after training.",
    "published": "The full training pool, no validation: the last epoch.",
    "test_selected": "**Epochs are selected on the test set: optimistic, for comparison with such numbers only.**",
}


def table_view(table: Table) -> dict[str, object]:
    """What the templates show of a table."""
    folder = table.setting.folder
    rows = [_row(row, table.references) for row in table.rows]
    made = list(dict.fromkeys(f"{row['hardware']}; {row['versions']}" for row in rows))
    for row in rows:
        row["made"] = made.index(f"{row['hardware']}; {row['versions']}") + 1
    return {
        "dataset": escape.markdown(f"{table.dataset} ({folder})" if folder else table.dataset),
        "classes": _classes(table.class_counts),
        "groups": table.groups,
        "setting": escape.markdown(_setting(table)),
        "protocol": PROTOCOLS.get(table.protocol, f"Protocol {escape.markdown(table.protocol)}."),
        "rows": rows,
        "made": made,
        "classifiers": _classifiers(table.rows),
        "notes": _notes(table),
    }


def _notes(table: Table) -> list[str]:
    """What `note.md`, beside the folders of a table's rows, says of its numbers."""
    paths = [Path(run.path) for row in table.rows for run in row.runs]
    files = dict.fromkeys(path.parents[1] / NOTE for path in paths if len(path.parents) > 1)
    return [file.read_text(encoding="utf-8").strip() for file in files if file.is_file()]


def _classifiers(rows: Sequence[Row]) -> dict[str, object] | None:
    """The table of the classifiers that `drolt classifiers` compared on the rows' representations."""
    compared = [(row, found) for row in rows for found in (row.runs[0].comparisons or {}).values()]
    if not compared:
        return None
    names = list(dict.fromkeys(name for _, found in compared for name in found.classifiers))
    return {
        "names": [escape.markdown(name) for name in names],
        "recipe": " / ".join(sorted({_recipe(found) for _, found in compared})),
        "rows": [
            {
                "name": _name(row),
                "stage": escape.markdown(found.stage),
                "n": len(row.runs),
                "cells": [_spread(row, _compared(found.stage, name)) for name in names],
            }
            for row, found in compared
        ],
    }


def _recipe(found: Comparison) -> str:
    return f"{found.views} augmented views cached, {found.epochs} epochs at rate {found.lr:g}"


def _compared(stage: str, name: str) -> Number:
    """The test accuracy of a classifier on the features of a stage."""

    def number(run: KeptRun) -> float | None:
        comparison = (run.comparisons or {}).get(stage)
        found = None if comparison is None else comparison.classifiers.get(name)
        return None if found is None or found.test is None else found.test.acc

    return number


def _name(row: Row) -> str:
    config, label = _config(row), escape.markdown(row.label)
    if row.kept_as:
        return f"{escape.markdown(row.kept_as)}: {label}, {config}"
    return f"{label}: {config}" if config else label


def _config(row: Row) -> str:
    return ", ".join(escape.code(override) for override in row.config)


def _classes(counts: Sequence[int]) -> str:
    if not counts:
        return ""
    return f"{len(counts)} classes, {sum(counts):,} training images, {max(counts):,} to {min(counts):,} a class"


def _setting(table: Table) -> str:
    setting = table.setting
    profile = PROFILES.get(setting.profile or "", "cut")
    cut = f"{profile}, ratio {setting.imbalance_ratio:g}" if setting.imbalance_ratio else None
    names = {"backbone": setting.backbone, "schedule": setting.schedule}
    parts = [
        cut or "as it comes",
        f"protocol {table.protocol}",
        *(f"{key} {name}" for key, name in names.items() if name),
    ]
    return ", ".join(parts)


def _row(row: Row, references: Mapping[str, Row]) -> dict[str, object]:
    return {
        "label": escape.markdown(row.label),
        "config": _config(row) or "-",
        "name": _name(row),
        "n": len(row.runs),
        **{metric: _spread(row, _measured("test", metric)) for metric in METRICS},
        "minus": [_difference(row, references.get(name), ".1f") for name in REFERENCES],
        "differences": {name: _difference(row, other) for name, other in references.items() if other is not row},
        "by_seed": ", ".join(percent(run.results.test.acc) for run in row.runs) if len(row.runs) > 1 else "",
        "val": _spread(row, _measured("val", "acc")),
        "pool": _spread(row, _measured("test_pool", "acc")),
        "parameters": _whole(row.mean(lambda run: run.results.num_parameters)),
        "images": _whole(row.mean(lambda run: run.results.images_seen)),
        "time": _time(row),
        "command": escape.code(_one(row.runs[0].results.command)),
        "seeds": _seeds(row),
        "stages": escape.markdown(_stages(row)),
        "hardware": escape.markdown(_joined(row.values(lambda results: results.hardware))),
        "versions": escape.markdown(_versions(row)),
        "git": escape.markdown(_joined(row.values(lambda results: results.git))),
    }


def _measured(part: str, metric: str) -> Number:
    return lambda run: run.results.number(part, metric)


def _spread(row: Row, number: Number) -> str:
    spread = row.spread(number)
    if spread is None:
        return "-"
    mean, deviation, n = spread
    text = percent(mean) if deviation is None else f"{percent(mean)} ± {percent(deviation)}"
    return text if n == len(row.runs) else f"{text} (n={n})"


def _difference(row: Row, other: Row | None, form: str = ".2f") -> str:
    """Points above another row, paired by seed: mean ± standard error (number of pairs)."""
    found = None if other is None or other is row else row.minus(other)
    if found is None:
        return "-"
    error = "" if found.error is None else f" ± {100 * found.error:{form}}"
    return f"{100 * found.mean:+{form}}{error} ({found.n})"


def _stages(row: Row) -> str:
    """Accuracy of each stage's own final model on test images, and on training images where measured."""

    def accuracy(name: str, part: str) -> Number:
        def number(run: KeptRun) -> float | None:
            stage = run.results.stages.get(name)
            found = None if stage is None else stage.sets()[part]
            return None if found is None else found.acc

        return number

    def stage(name: str) -> str:
        test, train = (row.mean(accuracy(name, part)) for part in ("test", "train"))
        return f"{name} {percent(test)}" + ("" if train is None else f" (train {percent(train)})")

    return ", ".join(stage(name) for name in row.runs[0].results.stages)


def _seeds(row: Row) -> str:
    seeds, splits = row.values(lambda results: results.seed), row.values(lambda results: results.split_seed)
    text = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    if splits:
        text += f", split {'seed' if len(splits) == 1 else 'seeds'} {', '.join(map(str, splits))}"
    return text


def _versions(row: Row) -> str:
    merged: dict[str, dict[str, None]] = {}
    for run in row.runs:
        for package, version in run.results.versions.items():
            merged.setdefault(package, {})[version] = None
    return ", ".join(f"{package} {'/'.join(versions)}" for package, versions in merged.items()) or "not recorded"


def _joined(values: Sequence[str]) -> str:
    return " / ".join(values) or "not recorded"


def _one(text: str | None) -> str:
    return " ".join(text.split()) if text else "not recorded"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _time(row: Row) -> str:
    """Training time with the stages that `init_from` takes; `+` where nobody knows the time of these."""
    text = _duration(row.mean(lambda run: run.results.timing.whole_s))
    takes = any(override.startswith("init_from=") for run in row.runs for override in run.results.overrides)
    known = all(run.results.timing.taken_s for run in row.runs)
    return f"{text} +" if takes and not known else text


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
