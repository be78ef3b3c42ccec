"""Groups kept runs into tables and rows, and takes the mean and the spread of each row."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from drolt_pl.comparison import Comparison
from drolt_pl.errors import SettingError
from drolt_pl.kept import load_all
from drolt_pl.results import Groups, Results, Setting

METRICS = ("acc", "many", "medium", "few", "acc_ncm", "ece")
# These overrides do not change the experiment, or a row averages over them.
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
    "report",
)
PLAIN = "method=ce"
CONTROL = "loss.ce_weight=1"  # DRO-LT's stages without the robust loss

Key = tuple[object, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class KeptRun:
    """A run under `results/`.

    Attributes:
        path: Its file.
        comparisons: The comparisons of `drolt classifiers`, by stage.
    """

    results: Results
    path: str = ""
    comparisons: Mapping[str, Comparison] | None = None

    @property
    def seeds(self) -> tuple[int, int | None]:
        """The seed of training and the seed of the split."""
        return self.results.seed, self.results.split_seed


Number = Callable[[KeptRun], float | None]


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1; null for one value) of n values."""

    mean: float
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """The spread of values; null for no value."""
        if not values:
            return None
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    @property
    def error(self) -> float | None:
        """Standard error of the mean; null for one value."""
        return None if self.deviation is None else self.deviation / self.n**0.5

    @property
    def half_interval(self) -> float | None:
        """As `t_half`; null below three values, where it would fill the page."""
        return None if self.n < 3 else self.t_half

    @property
    def t_half(self) -> float | None:
        """Half the width of the 95 % t interval of the mean; null for one value."""
        if self.deviation is None:
            return None
        from scipy.stats import t  # most commands need no scipy

        quantile: float = t.ppf(0.975, self.n - 1)
        return float(quantile * self.deviation / self.n**0.5)


def paired(ours: Iterable[KeptRun], theirs: Iterable[KeptRun], number: Number) -> Spread | None:
    """The differences in a number, ours less theirs, paired by seeds; null where no seeds are shared."""
    others = {run.seeds: number(run) for run in theirs}
    pairs = [(number(run), others.get(run.seeds)) for run in ours]
    return Spread.of([our - their for our, their in pairs if our is not None and their is not None])


@dataclass(frozen=True)
class Row:
    """Runs that differ only in their seeds, in order of the seeds.

    Attributes:
        label: The runs' name, or their method.
        config: The overrides that set this row apart from the others of its table.
        kept_as: The folder of these runs alone, where it says more than their method; or null.
    """

    label: str
    config: tuple[str, ...]
    runs: Sequence[KeptRun]
    kept_as: str | None = None

    def spread(self, number: Number) -> Spread | None:
        """Spread of a number over the runs that have it; null for no run."""
        return Spread.of([value for value in map(number, self.runs) if value is not None])

    def mean(self, number: Number) -> float | None:
        """Mean of a number over the runs that have it."""
        spread = self.spread(number)
        return None if spread is None else spread.mean

    def minus(self, other: "Row") -> Spread | None:
        """The differences in test accuracy to another row, paired by seeds; null where no seeds are shared."""
        return paired(self.runs, other.runs, lambda run: run.results.test.acc)

    def values(self, value: Callable[[Results], T | None]) -> list[T]:
        """Distinct values of a field, in order of the runs; null is left out."""
        found = (value(run.results) for run in self.runs)
        return list(dict.fromkeys(each for each in found if each is not None))


@dataclass(frozen=True)
class Table:
    """Rows that may be compared: one data set, cut, protocol, backbone and schedule."""

    dataset: str
    protocol: str
    setting: Setting
    groups: Groups
    class_counts: Sequence[int]
    rows: Sequence[Row]

    @property
    def references(self) -> dict[str, Row]:
        """Rows to compare the others with, by override: cross-entropy, and DRO-LT's stages without the robust loss."""
        plain = [row for row in self.rows if row.runs[0].results.method == "ce" and not row.config]
        control = [row for row in self.rows if CONTROL in row.config]
        return {override: rows[0] for override, rows in {PLAIN: plain, CONTROL: control}.items() if rows}


def load_runs(root: str | Path) -> list[KeptRun]:
    """Loads all kept runs under a folder, in the order of their paths.

    Raises:
        SettingError: there is none, or one cannot be read.
    """
    return [KeptRun(kept.results, path, kept.classifiers) for path, kept in load_all(root).items()]


def tables(runs: Iterable[KeptRun]) -> list[Table]:
    """Groups runs into tables and rows.

    A row holds the runs that agree in method, name, number of parameters, images seen and in every override but
    seeds, `init_from`, `resume` and the logger.

    Raises:
        SettingError: two runs of a row have the same seeds.
    """
    grouped: dict[Key, list[KeptRun]] = {}
    for run in runs:
        grouped.setdefault(_table_key(run.results), []).append(run)
    return [_table(grouped[key]) for key in sorted(grouped, key=_sortable)]


def _table_key(run: Results) -> Key:
    setting = run.setting or Setting()
    cut = (setting.folder, setting.profile, setting.imbalance_ratio)
    return run.dataset, run.protocol, *cut, setting.backbone, setting.schedule, run.groups.many, run.groups.few


def _table(runs: Sequence[KeptRun]) -> Table:
    rows: dict[Key, list[KeptRun]] = {}
    for run in runs:
        results, overrides = run.results, defining(run.results)
        # The fewest overrides first: the plain run, then its variants.
        key = (results.label, results.method, len(overrides), overrides, results.num_parameters, results.images_seen)
        rows.setdefault(key, []).append(run)
    shared = set.intersection(*(set(defining(run.results)) for run in runs))
    holds = Counter(folder for row in rows.values() for folder in {Path(run.path).parent for run in row})
    own = {folder for folder, number in holds.items() if number == 1}
    first = runs[0].results
    return Table(
        dataset=first.dataset,
        protocol=first.protocol,
        groups=first.groups,
        setting=first.setting or Setting(),
        class_counts=first.class_counts,
        rows=[_row(rows[key], shared, own) for key in sorted(rows, key=_sortable)],
    )


def _row(runs: Sequence[KeptRun], shared: set[str], own: Set[Path]) -> Row:
    by_seed: dict[tuple[int, int | None], KeptRun] = {}
    for run in runs:
        if run.seeds in by_seed:
            seed, split_seed = run.seeds
            raise SettingError(
                f"{by_seed[run.seeds].path} and {run.path}",
                f"are one experiment with the same seeds (seed {seed}, split seed {split_seed}): keep one of them",
            )
        by_seed[run.seeds] = run
    first = runs[0].results
    config = tuple(
        override for override in defining(first) if override not in shared and _key(override) not in ("name", "method")
    )
    folders = {Path(run.path).parent for run in runs}
    named = config and not first.name and len(folders) == 1 and folders <= own
    kept_as = folders.pop().name if named else first.label
    ordered = [by_seed[seeds] for seeds in sorted(by_seed, key=_sortable)]
    return Row(first.label, config, ordered, kept_as if kept_as != first.label else None)


def defining(run: Results) -> tuple[str, ...]:
    """The overrides that define a run's experiment, in alphabetical order."""

    def counts(key: str) -> bool:
        return key not in NOT_IN_KEY and not key.startswith(("logger.", "hydra"))

    return tuple(sorted(override for override in run.overrides if counts(_key(override))))


def _key(override: str) -> str:
    return override.lstrip("+~").split("=")[0]


def _sortable(key: Key) -> tuple[tuple[bool, float, str], ...]:
    """Sorts numbers first, then text, then null: the parts of a key may have different types."""

    def part(value: object) -> tuple[bool, float, str]:
        if isinstance(value, int | float):
            return False, float(value), ""
        return value is None, math.inf, str(value)

    return tuple(part(value) for value in key)
