"""What the figures share: their size, their panels, and a mark for each shot group."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drolt_pl import escape
from drolt_pl.report.colours import GROUP_COLOURS, GROUP_MARKERS
from drolt_pl.rows import Rows, column, where

WIDTH = 8.2  # inches: at 110 dots an inch the width of a column of text on a screen
NAMES = {"all": "all", "many": "many", "medium": "medium", "few": "few"}


def panels(number: int, height: float = 3.6, *, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with panels beside each other, three at most in a line."""
    across = min(number, 3)
    down = -(-number // across)
    figure = Figure(figsize=(WIDTH, height * down), layout="constrained", facecolor="white")
    axes = figure.subplots(down, across, squeeze=False, sharey=share_y).ravel().tolist()
    for axis in axes[number:]:
        axis.set_axis_off()
    for axis in axes[:number]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#d9d9d9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=9)
    return figure, axes[:number]


def group_points(axis: Axes, rows: Rows, x: str, y: str, *, size: float = 22, alpha: float = 0.85) -> None:
    """A point for each row, coloured and marked by its group."""
    for group in GROUP_MARKERS:
        found = where(rows, group=group)
        if found:
            style = {"color": GROUP_COLOURS[group], "marker": GROUP_MARKERS[group], "s": size, "alpha": alpha}
            axis.scatter(column(found, x), column(found, y), linewidths=0, label=group, **style)


def group_lines(axis: Axes, rows: Rows, x: str, y: str, *, line: str = "-", marks: bool = True) -> None:
    """A line for each group through its rows."""
    for group in GROUP_MARKERS:
        found = where(rows, group=group)
        if found:
            marker = GROUP_MARKERS[group] if marks else None
            style = {"color": GROUP_COLOURS[group], "linestyle": line, "marker": marker, "markersize": 4.5}
            axis.plot(column(found, x), column(found, y), label=group, **style)


def legend_of_groups(axis: Axes, rows: Rows, **place: object) -> None:
    """A legend of the groups that rows name."""
    present = {row.get("group") for row in rows}
    handles = [
        Line2D([], [], color=GROUP_COLOURS[group], marker=GROUP_MARKERS[group], linestyle="", label=group)
        for group in GROUP_MARKERS
        if group in present
    ]
    axis.legend(handles=handles, fontsize=8, frameon=False, **place)


def half_interval(deviations: Sequence[float], numbers: Sequence[float]) -> np.ndarray:
    """Half of a 95 % interval of a mean over classes, normal; 0 where there is one class."""
    half: np.ndarray = np.nan_to_num(1.96 * np.asarray(deviations) / np.sqrt(np.maximum(np.asarray(numbers), 1.0)))
    return half


def short(text: str, length: int = 40) -> str:
    """A label of strangers, harmless and of a bearable length."""
    return escape.label(text, length)
