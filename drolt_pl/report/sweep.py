"""The table of a sweep: settings in order of their validation accuracy, and the expected best of k of them."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drolt_pl import escape
from drolt_pl.records import write_atomically
from drolt_pl.report.aggregate import Spread
from drolt_pl.report.sweep_jobs import STATES, SweepJob, read_command, read_jobs, varying
from drolt_pl.report.tables import percent

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

    def spread(self, part: str, metric: str) -> Spread | None:
        """Spread of a metric of `val` or `test` over the finished jobs."""
        values = (job.results.number(part, metric) for job in self.jobs if job.results is not None)
        return Spread.of([value for value in values if value is not None])

    def mean(self, part: str, metric: str) -> float | None:
        """The mean of that spread."""
        spread = self.spread(part, metric)
        return None if spread is None else spread.mean


@dataclass(frozen=True)
class Sweep:
    """A sweep, finished or not.

    Attributes:
        jobs: All jobs.
        keys: The keys that vary, seeds left out.
        settings: Best validation first, then those without.
        metric: The validation metric that ranks settings: the one by which all runs selected, else acc.
        command: The command that began the sweep.
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
        SettingError: the folder is not a sweep's, or a file in it cannot be read.
    """
    jobs = read_jobs(sweep_dir)
    keys = varying(jobs)
    grouped: dict[tuple[str | None, ...], list[SweepJob]] = {}
    for job in jobs:
        grouped.setdefault(tuple(job.settings.get(key) for key in keys), []).append(job)
    selected = {job.results.selection.metric for job in jobs if job.results is not None}
    metric = (selected.pop() if len(selected) == 1 else None) or "acc"
    metric = metric.removeprefix("val/")
    settings = [
        Setting({key: value for key, value in zip(keys, values, strict=True) if value is not None}, found)
        for values, found in grouped.items()
    ]

    def rank(setting: Setting) -> float:
        value = setting.mean("val", metric)
        return float("inf") if value is None else -value

    return Sweep(jobs, keys, sorted(settings, key=rank), metric, read_command(sweep_dir))


def expected_best(sweep: Sweep) -> dict[str, list[tuple[float, float]]]:
    """The expected best of k settings drawn at random, for k = 1, 2, ...; a curve for each label (`name`) of the jobs.

    With validation values v_1 <= ... <= v_N, the best of k has mean sum_i v_i ((i/N)^k - ((i-1)/N)^k): Dodge et al.
    2019, "Show Your Work", Eq. 8. The test accuracy is the mean over the settings that are chosen in this way.

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
    """The rows of the table as text: keys, number of finished jobs, validation and test accuracy in percent."""
    found = []
    for setting in sweep.settings:
        row = {key: setting.values.get(key, "-") for key in sweep.keys}
        states = [job.state for job in setting.jobs]
        others = [f"{states.count(state)} {state}" for state in STATES[1:] if state in states]
        row["n"] = ", ".join([str(states.count("finished")), *others])
        row[f"val {sweep.metric}"] = _spread(setting.spread("val", sweep.metric))
        found.append(row | {f"test {name}": _spread(setting.spread("test", name)) for name in TEST})
    return found


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return percent(spread.mean) + ("" if spread.deviation is None else f" ± {percent(spread.deviation)}")


def write_tables(sweep: Sweep, out: str | Path) -> list[Path]:
    """Writes jobs.csv (a row per job, fractions) and expected_best.csv.

    Returns:
        The files.
    """
    out = Path(out)
    jobs = [_job_row(job, sweep) for job in sweep.jobs]
    curves: list[dict[str, object]] = [
        {"name": name, "k": k, f"val_{sweep.metric}": val, "test_acc": test}
        for name, curve in expected_best(sweep).items()
        for k, (val, test) in enumerate(curve, start=1)
    ]
    tables = {"jobs.csv": jobs, "expected_best.csv": curves}
    for name, table in tables.items():
        write_atomically(out / name, _csv(table))
    return [out / name for name in tables]


def _job_row(job: SweepJob, sweep: Sweep) -> dict[str, object]:
    results = job.results
    row: dict[str, object] = {"job": job.name, "state": job.state}
    row |= {key: job.settings.get(key) for key in sweep.keys}
    row["seed"] = job.settings.get("seed") if results is None else results.seed
    row[f"val_{sweep.metric}"] = None if results is None else results.number("val", sweep.metric)
    row |= {f"test_{name}": None if results is None else results.number("test", name) for name in TEST}
    row["epoch"] = None if results is None else results.selection.epoch
    row["train_s"] = None if results is None else results.timing.train_s
    row["exit_code"] = None if job.failure is None else job.failure.exit_code
    return row


def _csv(table: Sequence[Mapping[str, object]]) -> str:
    file = io.StringIO()
    columns = list(table[0]) if table else ["name"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([escape.cell(column) for column in columns])
    writer.writerows([escape.cell(row[column]) for column in columns] for row in table)
    return file.getvalue()
