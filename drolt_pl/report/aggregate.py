"""From runs to the rows of result tables: which runs share a table, which share a row, and their mean and spread."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drolt_pl.results import DEFAULT_GROUPS, load_results

METRICS = ("acc", "many", "medium", "few", "acc_ncm", "ece")
# Overrides that leave the experiment as it is, or that a row averages over.
NOT_IN_KEY = (
    "seed",
    "split_seed",
    "dataset.split_seed",
    "init_from",
    "resume",
    "sweep",
    "logger",
    "trainer.enable_progress_bar",
    "num_threads",
    "compile",
)
CONTROL = "loss.ce_weight=1"
SETTING = ("folder", "profile", "imbalance_ratio", "backbone", "schedule")

Run = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """Runs that differ only in their seeds, in order of the seeds."""

    label: str
    config: tuple[str, ...]  # the overrides that set this row apart from the others of its table
    runs: Sequence[Run]

    def spread(self, *keys: str) -> tuple[float, float | None, int] | None:
        """Mean and sample standard deviation (n - 1) of a number over the n runs that have it; None for no run."""
        values = [value for value in (_nested(run, keys) for run in self.runs) if value is not None]
        if not values:
            return None
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)

    def minus(self, other: "Row") -> tuple[float, float, int] | None:
        """Mean and standard error of the difference in test accuracy to another row, paired by seeds; None below 2."""
        theirs = {_seeds(run): run["test"]["acc"] for run in other.runs}
        pairs = [run["test"]["acc"] - theirs[_seeds(run)] for run in self.runs if _seeds(run) in theirs]
        if len(pairs) < 2:
            return None
        return statistics.fmean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5, len(pairs)

    def values(self, *keys: str) -> list[Any]:
        """Distinct values under nested keys, in order of the runs; null is left out."""
        found = (_nested(run, keys) for run in self.runs)
        return list(dict.fromkeys(value for value in found if value is not None))

    def mean(self, *keys: str) -> float | None:
        """Mean of a number under nested keys over the runs that have it."""
        numbers = [value for value in (_nested(run, keys) for run in self.runs) if value is not None]
        return statistics.fmean(numbers) if numbers else None


@dataclass(frozen=True)
class Table:
    """Rows that may be compared: one data set, cut, protocol, backbone and schedule."""

    dataset: str
    protocol: str
    setting: Mapping[str, Any]
    groups: Mapping[str, int]  # limits of the shot groups
    class_counts: Sequence[int]
    rows: Sequence[Row]

    @property
    def references(self) -> dict[str, Row]:
        """What the others are set against, by override: cross-entropy, and DRO-LT's stages without the robust loss."""
        plain = [row for row in self.rows if row.runs[0]["method"] == "ce" and not row.config]
        control = [row for row in self.rows if CONTROL in row.config]
        return {override: rows[0] for override, rows in {"method=ce": plain, CONTROL: control}.items() if rows}


def load_runs(root: str | Path) -> list[Run]:
    """All runs whose results.json lies under a folder, in the order of their paths.

    Under ``classifiers`` they have, by stage, what `drolt classifiers` found for them.

    Raises:
        ValueError: there is none, or one cannot be read.
    """
    paths = sorted(Path(root).rglob("results.json"), key=lambda path: path.as_posix())
    if not paths:
        raise ValueError(f"root {root} holds no results.json: put runs there by `drolt keep RUN_DIR`")
    return [
        {**load_results(path), "path": path.parent.as_posix(), "classifiers": _compared(path.parent)} for path in paths
    ]


def _compared(run_dir: Path) -> dict[str, Any]:
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(run_dir.glob("classifiers_*.json")))
    return {comparison["stage"]: comparison for comparison in found}


def tables(runs: Iterable[Run]) -> list[Table]:
    """Groups runs into tables and rows.

    A row holds the runs that agree in method, name, number of parameters, images seen and in every override but
    seeds, `init_from`, `resume` and the logger.

    Raises:
        ValueError: two runs of a row have the same seeds.
    """
    grouped: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        setting = run.get("setting") or {}
        key = (
            run["dataset"],
            run["protocol"],
            *(setting.get(name) for name in SETTING),
            *(_groups(run)[name] for name in ("many", "few")),
        )
        grouped.setdefault(key, []).append(run)
    return [_table(grouped[key]) for key in sorted(grouped, key=_sortable)]


def _table(runs: Sequence[Run]) -> Table:
    rows: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        overrides = _overrides(run)
        # The fewest overrides first: the plain run, then its variants.
        key = (_label(run), run["method"], len(overrides), overrides, run.get("num_parameters"), run.get("images_seen"))
        rows.setdefault(key, []).append(run)
    shared = set.intersection(*(set(_overrides(run)) for run in runs))
    first = runs[0]
    return Table(
        dataset=first["dataset"],
        protocol=first["protocol"],
        groups=_groups(first),
        setting={name: (first.get("setting") or {}).get(name) for name in SETTING},
        class_counts=first.get("class_counts") or (),
        rows=[_row(rows[key], shared) for key in sorted(rows, key=_sortable)],
    )


def _row(runs: Sequence[Run], shared: set[str]) -> Row:
    by_seed: dict[tuple[Any, Any], Run] = {}
    for run in runs:
        seeds = _seeds(run)
        if seeds in by_seed:
            raise ValueError(
                f"{by_seed[seeds]['path']} and {run['path']} are one experiment with the same seeds "
                f"(seed {seeds[0]}, split seed {seeds[1]}): keep one of them"
            )
        by_seed[seeds] = run
    config = tuple(
        override
        for override in _overrides(runs[0])
        if override not in shared and _key(override) not in ("name", "method")
    )
    return Row(label=_label(runs[0]), config=config, runs=[by_seed[seeds] for seeds in sorted(by_seed, key=_sortable)])


def _seeds(run: Run) -> tuple[Any, Any]:
    return run["seed"], run.get("split_seed")


def _groups(run: Run) -> Mapping[str, int]:
    groups: Mapping[str, int] = run.get("groups") or DEFAULT_GROUPS
    return groups


def _label(run: Run) -> str:
    return str(run.get("name") or run["method"])


def _overrides(run: Run) -> tuple[str, ...]:
    """The run's overrides that define its experiment, in alphabetical order."""

    def counts(key: str) -> bool:
        return key not in NOT_IN_KEY and not key.startswith(("logger.", "hydra"))

    return tuple(sorted(override for override in run.get("overrides") or () if counts(_key(override))))


def _key(override: str) -> str:
    return override.lstrip("+~").split("=")[0]


def _nested(run: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value: Any = run
    for key in keys:
        value = (value or {}).get(key)
    return value


def _sortable(key: tuple[Any, ...]) -> tuple[tuple[bool, float, str], ...]:
    """Numbers in their order, then text, then null: keys of one place need not be of one type."""

    def part(value: Any) -> tuple[bool, float, str]:
        is_number = isinstance(value, (int, float))
        return value is None, float(value) if is_number else math.inf, "" if is_number else str(value)

    return tuple(part(value) for value in key)
