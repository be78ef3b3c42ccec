"""RESULTS.md and the tables of README.md, rendered from kept runs; nothing in them is typed by hand."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from drolt_pl.report.aggregate import METRICS, Row, Table, load_runs, tables
from drolt_pl.report.tables import percent

MARKED = re.compile(r"(<!-- ([\w-]+):begin -->\n).*?(<!-- \2:end -->)", re.DOTALL)
PROTOCOLS = {
    "holdout": "Epochs are selected on validation images; the test set is read once, after training.",
    "published": "The full training pool, no validation: the last epoch.",
    "test_selected": "**Epochs are selected on the test set: optimistic, for comparison with such numbers only.**",
}


def render_results(root: str | Path) -> str:
    """The text of RESULTS.md, from every results.json under a folder; the same files give the same text.

    Raises:
        ValueError: no results, results that cannot be read, or one experiment kept twice with the same seeds.
    """
    pages = [_view(table) for table in tables(load_runs(root))]
    return template("results.md.j2").render(tables=pages, root=Path(root).name)


def render_readme(text: str, root: str | Path) -> str:
    """Replaces what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` by the tables of root/NAME.

    Raises:
        ValueError: there is no such pair of markers, or a folder without results.
    """
    if not MARKED.search(text):
        raise ValueError("readme must hold a line <!-- NAME:begin --> and, below it, <!-- NAME:end -->")

    def fragment(match: re.Match[str]) -> str:
        pages = [_view(table) for table in tables(load_runs(Path(root) / match[2]))]
        return match[1] + template("fragment.md.j2").render(tables=pages) + match[3]

    return MARKED.sub(fragment, text)


def template(name: str) -> jinja2.Template:
    """A template of this package."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    ).get_template(name)


def _view(table: Table) -> dict[str, Any]:
    folder = table.setting["folder"]
    return {
        "dataset": f"{table.dataset} ({folder})" if folder else table.dataset,
        "classes": _classes(table.class_counts),
        "groups": table.groups,
        "setting": _setting(table),
        "protocol": PROTOCOLS.get(table.protocol, f"Protocol {table.protocol}."),
        "rows": [_row(row, table.references) for row in table.rows],
        "classifiers": _classifiers(table.rows),
    }


def _classifiers(rows: Sequence[Row]) -> dict[str, Any] | None:
    """The classifiers that `drolt classifiers` trained on the rows' representations, side by side."""
    compared = [(row, stage) for row in rows for stage in row.runs[0].get("classifiers") or {}]
    if not compared:
        return None
    names = list(dict.fromkeys(name for row, stage in compared for name in _comparison(row, stage)["classifiers"]))
    recipes = {
        "{views} augmented views cached, {epochs} epochs at rate {lr:g}".format(**_comparison(*one)) for one in compared
    }
    return {
        "names": names,
        "recipe": " / ".join(sorted(recipes)),
        "rows": [
            {
                "name": _name(row),
                "stage": stage,
                "n": len(row.runs),
                "cells": [_spread(row, "classifiers", stage, "classifiers", name, "test", "acc") for name in names],
            }
            for row, stage in compared
        ],
    }


def _comparison(row: Row, stage: str) -> Mapping[str, Any]:
    comparison: Mapping[str, Any] = row.runs[0]["classifiers"][stage]
    return comparison


def _name(row: Row) -> str:
    config = _config(row)
    return f"{row.label}: {config}" if config else row.label


def _config(row: Row) -> str:
    return ", ".join(f"`{override}`" for override in row.config).replace("|", "\\|")


def _classes(counts: Sequence[int]) -> str:
    if not counts:
        return ""
    return f"{len(counts)} classes, {sum(counts):,} training images, {max(counts):,} to {min(counts):,} a class"


def _setting(table: Table) -> str:
    setting = table.setting
    cut = f"{setting['profile'] or 'cut'}, ratio {setting['imbalance_ratio']:g}" if setting["imbalance_ratio"] else None
    parts = [
        cut or "as it comes",
        f"protocol {table.protocol}",
        *(f"{name} {setting[name]}" for name in ("backbone", "schedule") if setting[name]),
    ]
    return ", ".join(parts)


def _row(row: Row, references: Mapping[str, Row]) -> dict[str, Any]:
    return {
        "label": row.label,
        "config": _config(row) or "-",
        "name": _name(row),
        "n": len(row.runs),
        **{metric: _spread(row, "test", metric) for metric in METRICS},
        "differences": {name: _difference(row, other) for name, other in references.items() if other is not row},
        "by_seed": ", ".join(percent(run["test"]["acc"]) for run in row.runs) if len(row.runs) > 1 else "",
        "val": _spread(row, "val", "acc"),
        "pool": _spread(row, "test_pool", "acc"),
        "parameters": _whole(row.mean("num_parameters")),
        "images": _whole(row.mean("images_seen")),
        "time": _duration(row.mean("timing", "train_s")),
        "command": _one(row.runs[0].get("command")),
        "seeds": _seeds(row),
        "stages": _stages(row),
        "hardware": _joined(row.values("hardware")),
        "versions": _versions(row),
        "git": _joined(row.values("git")),
    }


def _spread(row: Row, *keys: str) -> str:
    spread = row.spread(*keys)
    if spread is None:
        return "-"
    mean, deviation, n = spread
    text = percent(mean) if deviation is None else f"{percent(mean)} ± {percent(deviation)}"
    return text if n == len(row.runs) else f"{text} (n={n})"


def _difference(row: Row, other: Row) -> str:
    found = row.minus(other)
    if found is None:
        return "-"
    mean, error, n = found
    return f"{100 * mean:+.2f} ± {100 * error:.2f} (standard error, n = {n})"


def _stages(row: Row) -> str:
    """Accuracy of each stage's own final model, test and where measured training."""

    def stage(name: str) -> str:
        test, train = (row.mean("stages", name, part, "acc") for part in ("test", "train"))
        return f"{name} {percent(test)}" + ("" if train is None else f" (train {percent(train)})")

    return ", ".join(stage(name) for name in row.runs[0].get("stages") or {})


def _seeds(row: Row) -> str:
    seeds, splits = row.values("seed"), row.values("split_seed")
    text = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    if splits:
        text += f", split {'seed' if len(splits) == 1 else 'seeds'} {', '.join(map(str, splits))}"
    return text


def _versions(row: Row) -> str:
    merged: dict[str, dict[str, None]] = {}
    for run in row.runs:
        versions: Mapping[str, str] = run.get("versions") or {}
        for package, version in versions.items():
            merged.setdefault(package, {})[version] = None
    return ", ".join(f"{package} {'/'.join(versions)}" for package, versions in merged.items()) or "not recorded"


def _joined(values: Sequence[Any]) -> str:
    return " / ".join(map(str, values)) or "not recorded"


def _one(text: Any) -> str:
    return " ".join(str(text).split()) if text else "not recorded"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
