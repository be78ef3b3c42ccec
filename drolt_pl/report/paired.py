"""Two groups of runs beside each other: the table of `drolt compare`, and the sentences below it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from drolt_pl import escape, folders
from drolt_pl.errors import SettingError
from drolt_pl.groups import group_of
from drolt_pl.kept import OF_A_RUN, Kept
from drolt_pl.report.aggregate import KeptRun, Spread, defining, load_runs, paired
from drolt_pl.report.intervals import POWER, bootstrap_difference, seeds_needed
from drolt_pl.report.keep import setting_of
from drolt_pl.results import Results

SETS = {"test": "test set", "test_pool": "test pool"}
PARTS = {"acc": "all", "many": "many", "medium": "medium", "few": "few"}
HALF_A_POINT = 0.005


class Difference(NamedTuple):
    """A difference on the classes of a group.

    Attributes:
        ours, theirs: Means over the runs that are paired.
        over_seeds: The differences; its interval is there from two pairs on.
        over_images: The interval over test images; null where their numbers by class are not known.
    """

    part: str
    group: str
    ours: float
    theirs: float
    over_seeds: Spread
    over_images: tuple[float, float] | None


def load_group(source: str) -> list[KeptRun]:
    """The runs of PATH or PATH:OVERRIDE.

    Args:
        source: A run's folder, a folder of runs or a sweep's, or kept runs (a file or a folder). With overrides behind
            it, `multirun/DAY/TIME:method=ce:loss.eps=2`, the runs that have all of them.

    Raises:
        SettingError: there is none, two of them have the same seeds, or they differ in more than their seeds.
    """
    if not source:
        raise SettingError("A and B", "must name runs, and one of them is empty")
    path, *wanted = [source] if Path(source).exists() else source.split(":")
    runs = [run for run in _load(Path(path)) if set(wanted) <= set(run.results.overrides)]
    if not runs:
        raise SettingError(source, f"must name runs with {' and '.join(wanted)} among their overrides")
    by_seeds: dict[tuple[int, int | None], str] = {}
    for run in runs:
        apart = sorted(set(defining(run.results)) ^ set(defining(runs[0].results)))
        if apart:
            demand = f"must name runs that differ only in their seeds, and these differ in {', '.join(apart[:4])}"
            raise SettingError(source, demand, remedy="name one folder of them, or PATH:OVERRIDE")
        if run.seeds in by_seeds:
            seeds = f"seed {run.seeds[0]} and split seed {run.seeds[1]}"
            demand = f"holds two runs with {seeds}, {by_seeds[run.seeds]} and {run.path}"
            raise SettingError(source, demand, remedy="name the runs of one configuration alone")
        by_seeds[run.seeds] = run.path
    return runs


def differences(ours: Sequence[KeptRun], theirs: Sequence[KeptRun], test_images: int | None = None) -> list[Difference]:
    """Ours less theirs by set and shot group, paired by the seeds of training and of the split.

    Args:
        ours: Runs that differ only in their seeds.
        theirs: The runs to subtract.
        test_images: Test images of every class, for runs that do not record them.

    Raises:
        SettingError: no seeds are shared, or a pair has other test images or other classes.
    """
    others = {run.seeds: run for run in theirs}
    pairs = [(run, others[run.seeds]) for run in ours if run.seeds in others]
    if not pairs:
        demand = "must have a seed and a split seed in common with the other runs"
        raise SettingError("the runs", demand, remedy="train both with the same seed and dataset.split_seed")
    for our, their in pairs:
        _require_comparable(our, their)
    found = [_difference(pairs, part, group, test_images) for part in SETS for group in PARTS]
    return [difference for difference in found if difference is not None]


def comparison_table(names: tuple[str, str], found: Sequence[Difference]) -> Table:
    """The table of the terminal, in percent and points."""
    title = escape.markup(f"A: {names[0]}, B: {names[1]}; mean class accuracy in %, 95 % intervals in points")
    table = Table(title=title, box=SIMPLE)
    table.add_column("")
    for head in ("A", "B", "A - B", "over seeds", "over images", "pairs"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in found:
        table.add_row(
            f"{SETS[row.part].split()[row.part != 'test']}, {PARTS[row.group]}",
            f"{100 * row.ours:.1f}",
            f"{100 * row.theirs:.1f}",
            f"{100 * row.over_seeds.mean:+.2f}",
            _interval(_over_seeds(row.over_seeds)),
            _interval(row.over_images),
            str(row.over_seeds.n),
        )
    return table


def sentences(names: tuple[str, str], found: Sequence[Difference]) -> list[str]:
    """What a paper would print of the whole test set and pool, and how many seeds half a point would need."""
    lines = [line for row in found if row.group == "acc" for line in _told(names, row)]
    if any(row.over_images is None for row in found):
        lines.append(
            "Over images: unknown where a run does not record its images and its accuracies by class; --test-images "
            "says how many test images every class has."
        )
    return lines


def _told(names: tuple[str, str], row: Difference) -> list[str]:
    spread, interval, where = row.over_seeds, _over_seeds(row.over_seeds), f"on the {SETS[row.part]}"
    points = f"{abs(100 * spread.mean):.2f} points {'above' if spread.mean >= 0 else 'below'}"
    told = f"{names[0]} is {points} {names[1]} {where}"
    if interval is None or spread.deviation is None:
        return [f"{told}, with one pair of runs: how far this carries over seeds is not known."]
    over_images = "" if row.over_images is None else f"; bootstrap over test images: {_interval(row.over_images)}"
    shown = "" if interval[0] > 0 or interval[1] < 0 else ", so no difference is shown"
    needed = seeds_needed(HALF_A_POINT, spread.deviation) or "over 10,000"
    return [
        f"{told} (95 % t interval over {spread.n} pairs of seeds: {_interval(interval)}{over_images}){shown}.",
        f"To find a difference of 0.5 points {where} would take {needed} seeds (power {POWER:g}; standard deviation of "
        f"the paired differences {100 * spread.deviation:.2f}).",
    ]


def _load(source: Path) -> list[KeptRun]:
    if source.is_file():
        return [KeptRun(Kept.load(source).results, str(source))]
    if (source / OF_A_RUN).exists():
        return [KeptRun(_results(source), str(source))]
    if found := sorted(source.rglob(OF_A_RUN)):
        return [KeptRun(_results(path.parent), str(path.parent)) for path in found]
    if (source / folders.JOBS).exists():
        raise SettingError(str(source), "is a sweep of which no job has finished")
    return load_runs(source)


def _results(run_dir: Path) -> Results:
    """The results of a run with their setting, which says which folder of images a data set is."""
    results = Results.load(run_dir / OF_A_RUN)
    return results if results.setting else results.model_copy(update={"setting": setting_of(run_dir)})


def _require_comparable(ours: KeptRun, theirs: KeptRun) -> None:
    a, b = ours.results, theirs.results
    same = {
        "dataset": a.dataset == b.dataset and _folder(a) == _folder(b),
        "protocol": a.protocol == b.protocol,
        "class counts": list(a.class_counts) == list(b.class_counts),
        "groups": a.groups == b.groups,
        "split": a.split_sha256 == b.split_sha256,
    }
    other = [name for name, is_same in same.items() if not is_same]
    if other:
        demand = f"must have the same images: they differ in {other[0]}"
        raise SettingError(f"{ours.path} and {theirs.path}", demand, remedy="compare runs of one data set and split")


def _folder(results: Results) -> str | None:
    return None if results.setting is None else results.setting.folder


def _difference(
    pairs: Sequence[tuple[KeptRun, KeptRun]], part: str, group: str, every: int | None
) -> Difference | None:
    def number(run: KeptRun) -> float | None:
        return run.results.number(part, group)

    known = [(our, their) for our, their in pairs if number(our) is not None and number(their) is not None]
    ours, theirs = [our for our, _ in known], [their for _, their in known]
    spread = paired(ours, theirs, number)
    if spread is None:
        return None
    means = [Spread.of([value for value in map(number, runs) if value is not None]) for runs in (ours, theirs)]
    assert means[0] is not None
    assert means[1] is not None
    return Difference(part, group, means[0].mean, means[1].mean, spread, _over_images(ours, theirs, part, group, every))


def _over_images(
    ours: Sequence[KeptRun], theirs: Sequence[KeptRun], part: str, group: str, every: int | None
) -> tuple[float, float] | None:
    accuracies = [[run.results.sets()[part] for run in runs] for runs in (ours, theirs)]
    by_class = [[None if found is None else found.per_class for found in side] for side in accuracies]
    images = [_images(run.results, part, every) for run in ours]
    if not all(images) or not all(all(side) for side in by_class):
        return None
    a, b = (np.array([[np.nan if x is None else x for x in values or ()] for values in side]) for side in by_class)
    return bootstrap_difference(a, b, np.array(images), np.array([_members(run.results, group) for run in ours]))


def _images(results: Results, part: str, every: int | None) -> Sequence[int]:
    """Images by class of a set; none where they are not known."""
    return results.images.get(part) or ([every] * len(results.class_counts) if every and part == "test" else [])


def _members(results: Results, group: str) -> list[bool]:
    limits = results.groups.many, results.groups.few
    return [group in ("acc", group_of(count, *limits)) for count in results.class_counts]


def _over_seeds(spread: Spread) -> tuple[float, float] | None:
    half = spread.t_half
    return None if half is None else (spread.mean - half, spread.mean + half)


def _interval(found: tuple[float, float] | None) -> str:
    return "-" if found is None else f"[{100 * found[0]:+.2f}, {100 * found[1]:+.2f}]"
