"""What the page of findings shows of kept runs: paired differences, and what the joint stage measured."""

import statistics
from pathlib import Path

from drolt_pl import escape
from drolt_pl.errors import SettingError
from drolt_pl.kept import load_all
from drolt_pl.report.aggregate import KeptRun, Number, Spread, paired
from drolt_pl.report.paired import load_group

COLUMNS = (("test", "acc"), ("test_pool", "acc"), ("test_pool", "many"), ("test_pool", "medium"), ("test_pool", "few"))

JOINT = "joint"
MEASURED = (
    "train/own_mass",
    "train/grad_ratio",
    "train/grad_cosine",
    "train/loss_robust",
    "train/loss_ce",
    "coverage/many",
    "coverage/few",
)


def pair_view(root: str | Path, pair: str) -> dict[str, object]:
    """A row of the template `pairs.md.j2`.

    Args:
        root: The folder of the kept runs.
        pair: FOLDER/ROW:OTHER, two folders of root/FOLDER; OTHER may be another FOLDER/ROW.

    Raises:
        SettingError: a folder holds no kept run or runs that differ in more than their seeds, or the two share no seed.
    """
    folder, _, names = pair.partition("/")
    name, _, other = names.partition(":")
    if not (folder and name and other):
        raise SettingError("pairs", "must name two folders of kept runs, as in FOLDER/ROW:OTHER", pair)
    elsewhere, _, other = other.rpartition("/")
    ours = load_group(str(Path(root) / folder / name))
    theirs = load_group(str(Path(root) / (elsewhere or folder) / other))
    shared = {run.seeds for run in ours} & {run.seeds for run in theirs}
    if not shared:
        raise SettingError("pairs", "must name runs with a seed in common", pair)
    return {
        "name": f"{escape.code(name)} − {escape.code(other)}",
        "n": len(shared),
        "cells": [_difference(paired(ours, theirs, _measured(*column))) for column in COLUMNS],
    }


def joint_view(folder: Path) -> dict[str, object]:
    """A row of the template `joint.md.j2`: what the last joint epoch logged, as a mean over the runs of a folder.

    Raises:
        SettingError: there is no kept run, or none with a joint stage.
    """
    runs = [[row for row in kept.metric_rows() if row["stage_name"] == JOINT] for kept in load_all(folder).values()]
    last = [rows[-1] for rows in runs if rows]
    if not last:
        raise SettingError("joint", f"must name runs with a stage {JOINT}", str(folder))
    values = [[float(row[name]) for row in last if row.get(name)] for name in MEASURED]
    cells = [f"{statistics.fmean(found):.2f}" if found else "-" for found in values]
    return {"name": escape.code(folder.name), "n": len(last), "cells": cells}


def _measured(part: str, metric: str) -> Number:
    def number(run: KeptRun) -> float | None:
        return run.results.number(part, metric)

    return number


def _difference(found: Spread | None) -> str:
    """Points with the 95 % t interval of the mean; without one where there are fewer than three pairs."""
    if found is None:
        return "-"
    half = found.half_interval
    mean = 100 * found.mean
    return f"{mean:+.2f}" if half is None else f"{mean:+.2f} [{mean - 100 * half:+.2f}, {mean + 100 * half:+.2f}]"
