"""Figure 4 and Appendix D: errors by class of several runs, and accuracy against the settings of the loss."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from drolt_pl.report.aggregate import Spread
from drolt_pl.report.colours import of_run
from drolt_pl.report.paper.panels import panels, short
from drolt_pl.rows import Rows, by_seed, column, distinct, where

WINDOW = 0.1  # share of the classes over which the line is a running mean


def draw_errors(rows: Rows) -> Figure:
    """Figure 4: train and test error of each class by its rank, a colour for each run; lines are running means.

    Of several seeds, dots and lines are means over them; from three on, bands are 95 % t intervals of the lines.
    """
    figure, axes = panels(2, height=3.9)
    for place, run in enumerate(distinct(rows, "run")):
        seeds = by_seed(where(rows, run=run))
        classes = min(map(len, seeds))  # of each rank, where a seed lacks a class
        ranks, label = np.arange(1, classes + 1), short(run) + (f" ({len(seeds)} seeds)" if len(seeds) > 1 else "")
        for axis, part in zip(axes, ("train", "test"), strict=True):
            values = 100 * np.array([column(found, f"{part}_error")[:classes] for found in seeds])  # (seeds, ranks)
            smooth = np.array([running_mean(of_seed) for of_seed in values])
            middle, half = smooth.mean(0), np.array([_half_interval(of_rank) for of_rank in smooth.T])
            axis.plot(ranks, values.mean(0), ".", color=of_run(place), markersize=4, alpha=0.6)
            axis.plot(ranks, middle, color=of_run(place), linewidth=2, label=label)
            axis.fill_between(ranks, middle - half, middle + half, color=of_run(place), alpha=0.25, linewidth=0)
    for axis, part in zip(axes, ("Train", "Test"), strict=True):
        axis.set(
            xlabel="class, the largest first",
            ylabel=f"{part.lower()} error (%)",
            ylim=(-3, 112),
            yticks=range(0, 101, 20),
        )
        axis.set_title(f"{part} error", fontsize=10)
    groups = [str(row["group"]) for row in by_seed(where(rows, run=distinct(rows, "run")[0]))[0]]
    for axis in axes:
        for border in [place for place in range(1, len(groups)) if groups[place] != groups[place - 1]]:
            axis.axvline(border + 0.5, color="#888888", linewidth=0.8, linestyle=":")
        for group in dict.fromkeys(groups):
            middle = np.mean([place + 1 for place, name in enumerate(groups) if name == group])
            axis.text(middle, 111, group, ha="center", va="top", fontsize=8, color="#555555")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=len(handles))
    return figure


def draw_sensitivity(rows: Rows) -> Figure:
    """Appendix D: accuracy against each key; dots are runs, lines their means."""
    keys = distinct(rows, "key")
    figure, axes = panels(len(keys), height=3.4)
    for axis, key in zip(axes, keys, strict=True):
        found = where(rows, key=key)
        values = sorted(set(column(found, "value")))
        for place, part in enumerate(("val", "test")):
            xs, ys = np.array(column(found, "value")), 100 * np.array(column(found, part))
            axis.plot(xs, ys, ".", color=of_run(place), markersize=5, alpha=0.5)
            means = [ys[xs == value].mean() for value in values]
            axis.plot(values, means, "o-", color=of_run(place), markersize=4, label=f"{part} accuracy")
        if values[0] > 0 and values[-1] >= 10 * values[0]:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.minorticks_off()
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.set(xlabel=short(key), ylabel="accuracy (%)")
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def _half_interval(values: np.ndarray) -> float:
    spread = Spread.of(values.tolist())
    return 0.0 if spread is None else spread.half_interval or 0.0


def running_mean(values: np.ndarray) -> np.ndarray:
    """Means over a window of a tenth of the values around each, shorter at the ends."""
    half = max(int(len(values) * WINDOW) // 2, 1)
    return np.array([values[max(place - half, 0) : place + half + 1].mean() for place in range(len(values))])
