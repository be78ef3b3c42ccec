"""The table of a sweep: best by validation, mean and spread over seeds, and what the best of k tries would be."""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drolt_pl.report.sweep_jobs import STATES, SweepJob, read_command, read_jobs, varying
from drolt_pl.report.tables import percent
from drolt_pl.results import write_atomically

TEST = ("acc", "many", "medium", "few", "acc_ncm")


@dataclass(frozen=True)
class Setting:
    """The jobs that differ only in their seeds.

    Attributes:
        values: Its values of the keys that vary in the sweep.
        jobs: One for each seed, finished or not.
    """

    values: Mapping[str, str]
    jobs: Sequence[SweepJob]

    def spread(self, part: str, metric: str) -> tuple[float, float | None, int] | None:
        """Mean, sample standard deviation and number of a metric of `val` or `test` over the finished jobs."""
        measured = [(job.results or {}).get(part) or {} for job in self.jobs]
        values = [found[metric] for found in measured if found.get(metric) is not None]
        if not values:
            return None
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)

    def mean(self, part: str, metric: str) -> float | None:
        """The mean alone."""
        spread = self.spread(part, metric)
        return None if spread is None else spread[0]


@dataclass(frozen=True)
class Sweep:
    """A sweep as far as it has come.

    Attributes:
        jobs: All jobs.
        keys: The keys that vary, seeds left out.
        settings: Best validation first, then those without.
        metric: The validation metric that ranks: the one that all runs selected by, else acc.
        command: What began it.
    """

    jobs: Sequence[SweepJob]
    keys: Sequence[str]
    settings: Sequence[Setting]
    metric: str
    command: str | None = None

    def count(self, state: str) -> int:
        """How many jobs are in a state."""
        return sum(job.state == state for job in self.jobs)

    @property
    def progress(self) -> str:
        """How many jobs are in each state, in words."""
        counts = [f"{self.count(state)} {state}" for state in STATES if self.count(state)]
        return f"{len(self.jobs)} jobs: {', '.join(counts)}"


def load_sweep(sweep_dir: str | Path) -> Sweep:
    """Reads a sweep's folder.

    Raises:
        ValueError: the folder is not a sweep's, or a results.json in it cannot be read.
    """
    jobs = read_jobs(sweep_dir)
    keys = varying(jobs)
    grouped: dict[tuple[str | None, ...], list[SweepJob]] = {}
    for job in jobs:
        grouped.setdefault(tuple(job.settings.get(key) for key in keys), []).append(job)
    selected = {((job.results or {}).get("selection") or {}).get("metric") for job in jobs if job.results}
    metric = str(selected.pop()).removeprefix("val/") if len(selected) == 1 and None not in selected else "acc"
    settings = [
        Setting({key: value for key, value in zip(keys, values, strict=True) if value is not None}, found)
        for values, found in grouped.items()
    ]

    def rank(setting: Setting) -> float:
        value = setting.mean("val", metric)
        return float("inf") if value is None else -value

    return Sweep(jobs, keys, sorted(settings, key=rank), metric, read_command(sweep_dir))


def expected_best(sweep: Sweep) -> dict[str, list[tuple[float, float]]]:
    """Expected best of k settings drawn at random, for k = 1, 2, ...: by label of the jobs (`name`), if they have one.

    With validation values v_1 <= ... <= v_N, the best of k has mean sum_i v_i ((i/N)^k - ((i-1)/N)^k): Dodge et al.
    2019, "Show Your Work", Eq. 8. The test accuracy is that of the settings so chosen.

    Returns:
        (validation, test) for each k up to N.
    """
    curves = {}
    for name in dict.fromkeys(setting.values.get("name", "") for setting in reversed(sweep.settings)):
        found = [setting for setting in reversed(sweep.settings) if setting.values.get("name", "") == name]
        measured = [(setting.mean("val", sweep.metric), setting.mean("test", "acc")) for setting in found]
        pairs = [(val, test) for val, test in measured if val is not None and test is not None]
        curves[name] = [_best_of(pairs, k) for k in range(1, len(pairs) + 1)]
    return {name: curve for name, curve in sorted(curves.items()) if curve}


def _best_of(ascending: Sequence[tuple[float, float]], k: int) -> tuple[float, float]:
    n = len(ascending)
    weights = [((i + 1) / n) ** k - (i / n) ** k for i in range(n)]
    val, test = (sum(w * pair[part] for w, pair in zip(weights, ascending, strict=True)) for part in (0, 1))
    return val, test


def rows(sweep: Sweep) -> list[dict[str, str]]:
    """The table's rows as text: the keys, how many jobs have finished, validation and test in percent."""
    found = []
    for setting in sweep.settings:
        row = {key: setting.values.get(key, "-") for key in sweep.keys}
        states = [job.state for job in setting.jobs]
        others = [f"{states.count(state)} {state}" for state in STATES[1:] if state in states]
        row["n"] = ", ".join([str(states.count("finished")), *others])
        row[f"val {sweep.metric}"] = _spread(setting.spread("val", sweep.metric))
        found.append(row | {f"test {name}": _spread(setting.spread("test", name)) for name in TEST})
    return found


def _spread(spread: tuple[float, float | None, int] | None) -> str:
    if spread is None:
        return "-"
    return percent(spread[0]) + ("" if spread[1] is None else f" ± {percent(spread[1])}")


def write_tables(sweep: Sweep, out: str | Path) -> list[Path]:
    """Writes jobs.csv (a row per job, fractions) and expected_best.csv.

    Returns:
        The files.
    """
    out = Path(out)
    jobs = [_job_row(job, sweep) for job in sweep.jobs]
    curves = [
        {"name": name, "k": k, f"val_{sweep.metric}": val, "test_acc": test}
        for name, curve in expected_best(sweep).items()
        for k, (val, test) in enumerate(curve, start=1)
    ]
    tables = {"jobs.csv": jobs, "expected_best.csv": curves}
    for name, table in tables.items():
        write_atomically(out / name, _csv(table))
    return [out / name for name in tables]


def _job_row(job: SweepJob, sweep: Sweep) -> dict[str, Any]:
    results = job.results or {}
    val, test, selection = (results.get(part) or {} for part in ("val", "test", "selection"))
    return {
        "job": job.name,
        "state": job.state,
        **{key: job.settings.get(key) for key in sweep.keys},
        "seed": results.get("seed", job.settings.get("seed")),
        f"val_{sweep.metric}": val.get(sweep.metric),
        **{f"test_{name}": test.get(name) for name in TEST},
        "epoch": selection.get("epoch"),
        "train_s": (results.get("timing") or {}).get("train_s"),
        "exit_code": (job.failure or {}).get("exit_code"),
    }


def _csv(table: Iterable[Mapping[str, Any]]) -> str:
    table = list(table)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(table[0]) if table else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return file.getvalue()
