"""Figures of a sweep: heat maps, sensitivity to each key, expected best of k."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drolt_pl import escape
from drolt_pl.report.aggregate import Spread
from drolt_pl.report.figures import save_figure
from drolt_pl.report.sweep import Setting, Sweep, expected_best
from drolt_pl.report.sweep_jobs import STATES

AXES = ("loss.eps", "loss.ce_weight", "optimizer.lr")  # x, y and panel of the heat maps
MAX_TICKS = 20  # a key with more values was drawn from an interval: the figure shows points, not a grid


def write_figures(sweep: Sweep, out: str | Path, axes: Sequence[str] = AXES) -> list[Path]:
    """Writes the figures of a sweep; a figure without values is left out.

    Args:
        sweep: The sweep; cells without a finished job stay blank.
        out: The folder.
        axes: Keys of the heat maps' x, y and panels.

    Returns:
        The files.
    """
    figures = {**heat_maps(sweep, *axes), "sensitivity.png": sensitivity(sweep), "expected_best.png": best_of_k(sweep)}
    Path(out).mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        if figure is not None:
            save_figure(figure, Path(out) / name)
            written.append(Path(out) / name)
    return written


def heat_maps(sweep: Sweep, x: str, y: str, panel: str) -> dict[str, Figure]:
    """Draws accuracy over x and y: validation above test, and a column for each value of `panel`.

    Each combination of the other keys has a figure. A setting without a key counts for all values of that key, since
    the key changes nothing there.
    """
    if not {x, y} <= set(sweep.keys) or max(len(values_of(sweep, key)) for key in (x, y)) > MAX_TICKS:
        return {}
    others = [key for key in sweep.keys if key not in (x, y, panel)]
    figures = {}
    for values in itertools.product(*(values_of(sweep, key) for key in others)):
        fixed = dict(zip(others, values, strict=True))
        found = [setting for setting in sweep.settings if _agrees(setting, fixed)]
        name = "-".join(["heatmap", *(f"{key}={value}" for key, value in fixed.items())])
        title = ", ".join(f"{key}={value}" for key, value in fixed.items())
        if any(x in setting.values for setting in found):
            figures[f"{escape.file_name(name)}.png"] = _heat_map(sweep, found, (x, y, panel), title)
    return figures


def _heat_map(sweep: Sweep, settings: Sequence[Setting], axes: tuple[str, str, str], title: str) -> Figure:
    x, y, panel = axes
    columns, lines, panels = values_of(sweep, x), values_of(sweep, y), values_of(sweep, panel) or [""]
    figure = Figure(figsize=(1.0 + 0.52 * len(columns) * len(panels), 1.6 + 0.75 * len(lines)), layout="constrained")
    figure.suptitle(escape.label(title))
    grid = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey=True)
    for row, (part, metric) in enumerate((("val", sweep.metric), ("test", "acc"))):
        measured = [value for setting in settings if (value := setting.mean(part, metric)) is not None]
        low, high = (min(measured), max(measured)) if measured else (0.0, 1.0)
        for column, shown in enumerate(panels):
            axis = grid[row][column]
            axis.set_title(escape.label(f"{part} {metric} (%)" + (f", {panel}={shown}" if shown else "")), fontsize=8)
            cells = [
                [_cell(settings, {x: a, y: b, **({panel: shown} if shown else {})}, part, metric) for a in columns]
                for b in lines
            ]
            shades = [[cell[0] for cell in line] for line in cells]
            axis.set_facecolor("0.92")  # shows through where no job has finished
            axis.imshow(shades, cmap="viridis", vmin=low, vmax=high, aspect="auto")
            for i, j in itertools.product(range(len(lines)), range(len(columns))):
                shade = cells[i][j][0]
                dark = not math.isnan(shade) and shade < (low + high) / 2
                axis.text(
                    j, i, cells[i][j][1], ha="center", va="center", fontsize=7, color="white" if dark else "black"
                )
            axis.set_xticks(range(len(columns)), [escape.label(value) for value in columns], fontsize=7)
            axis.set_yticks(range(len(lines)), [escape.label(value) for value in lines], fontsize=7)
        grid[row][0].set_ylabel(escape.label(y), fontsize=8)
    for axis in grid[1]:
        axis.set_xlabel(escape.label(x), fontsize=8)
    return figure


def _cell(settings: Sequence[Setting], fixed: dict[str, str], part: str, metric: str) -> tuple[float, str]:
    """The value of a cell, which gives its colour, and its text."""
    found = [setting for setting in settings if _agrees(setting, fixed)]
    means = [value for setting in found if (value := setting.mean(part, metric)) is not None]
    if means:
        return max(means), f"{100 * max(means):.1f}"
    states = [job.state for setting in found for job in setting.jobs if job.state in STATES[1:]]
    return math.nan, states[0] if states == ["failed"] else ""


def sensitivity(sweep: Sweep) -> Figure | None:
    """Draws accuracy against each numeric key; the other keys keep the values of the best setting."""
    keys = [key for key in sweep.keys if sum(_number(value) is not None for value in values_of(sweep, key)) > 1]
    measured = [setting for setting in sweep.settings if setting.mean("val", sweep.metric) is not None]
    if not keys or not measured:
        return None
    figure = Figure(figsize=(4.2 * len(keys), 3.4), layout="constrained")
    for axis, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        is_grid = len(values_of(sweep, key)) <= MAX_TICKS
        best = next((setting for setting in measured if key in setting.values), measured[0])
        # The best setting may lack a key; the key then has its value in the next best setting that has it.
        others = {other: value for found in (*reversed(measured), best) for other, value in found.values.items()}
        del others[key]
        chosen = [
            setting
            for setting in measured
            if _number(setting.values.get(key)) is not None and (not is_grid or _agrees(setting, others))
        ]
        chosen.sort(key=lambda setting: _number(setting.values[key]) or 0.0)
        xs = [_number(setting.values[key]) or 0.0 for setting in chosen]
        for part, metric in (("val", sweep.metric), ("test", "acc")):
            _points(axis, xs, [setting.spread(part, metric) for setting in chosen], f"{part} {metric}", is_grid)
        if xs and min(xs) > 0 and max(xs) / min(xs) >= 10:
            axis.set_xscale("log")
        if is_grid:
            axis.set_xticks(xs, [escape.label(setting.values[key]) for setting in chosen])
            axis.set_xticks([], minor=True)
        axis.set_xlabel(escape.label(key))
        axis.set_ylabel("accuracy (%)")
        axis.set_title(escape.label(_caption(others)) if is_grid else "all settings", fontsize=7)
        axis.legend()
    return figure


def _points(axis: Axes, xs: Sequence[float], spreads: Sequence[Spread | None], label: str, joined: bool) -> None:
    known = [(x, spread) for x, spread in zip(xs, spreads, strict=True) if spread is not None]
    has_spread = any(spread.deviation is not None for _, spread in known)
    axis.errorbar(
        [x for x, _ in known],
        [100 * spread.mean for _, spread in known],
        yerr=[100 * (spread.deviation or 0.0) for _, spread in known] if has_spread else None,
        fmt="o-" if joined else "o",
        markersize=4,
        capsize=2,
        label=label,
    )


def best_of_k(sweep: Sweep) -> Figure | None:
    """Draws the expected best of k settings: validation accuracy solid, its test accuracy dashed."""
    curves = expected_best(sweep)
    if not curves:
        return None
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axis = figure.subplots()
    for index, (name, curve) in enumerate(curves.items()):
        ks, label = range(1, len(curve) + 1), escape.label(f"{name} ") if name else ""
        axis.plot(ks, [100 * val for val, _ in curve], color=f"C{index}", label=f"{label}val {sweep.metric}")
        axis.plot(ks, [100 * test for _, test in curve], color=f"C{index}", linestyle="--", label=f"{label}test acc")
    axis.set_xlabel("settings tried, k")
    axis.set_ylabel("expected accuracy (%) of the best")
    axis.legend(fontsize=7)
    return figure


def _agrees(setting: Setting, fixed: dict[str, str]) -> bool:
    return all(setting.values.get(key, value) == value for key, value in fixed.items())


def values_of(sweep: Sweep, key: str) -> list[str]:
    """The values of a key; numbers are sorted as numbers."""
    values = {setting.values[key] for setting in sweep.settings if key in setting.values}
    return sorted(values, key=lambda value: ((number := _number(value)) is None, number or 0.0, value))


def _caption(values: dict[str, str]) -> str:
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
