"""Beyond the paper: reliability by group, the frontier of the classifier's bias, neural collapse."""

import numpy as np
from matplotlib.figure import Figure

from drolt_pl.report.colours import GREY, GROUP_COLOURS, GROUP_MARKERS, of_run
from drolt_pl.report.paper.panels import panels, short
from drolt_pl.rows import Rows, column, distinct, number, where

LEAST = 10  # images of a bin that is shown


def draw_reliability(rows: Rows) -> Figure:
    """Accuracy against confidence, a panel for each run; the legend has each group's expected calibration error.

    Bins of fewer than 10 images are not shown; the error counts them.
    """
    runs = distinct(rows, "run")
    figure, axes = panels(len(runs), height=4.0)
    for axis, run in zip(axes, runs, strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        for group in GROUP_COLOURS:
            found = where(rows, run=run, group=group)
            if not found:
                continue
            style = {"color": GROUP_COLOURS[group], "marker": GROUP_MARKERS[group], "markersize": 5}
            label = f"{group}: ECE {100 * number(found[0], 'ece'):.1f} %"
            seen = [row for row in found if number(row, "images") >= LEAST]
            axis.plot(column(seen, "confidence"), column(seen, "accuracy"), label=label, **style)
        axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.set_title(short(run), fontsize=10)
        axis.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def draw_frontier(rows: Rows) -> Figure:
    """Few against many, and all against tau; filled marks are the classifiers as they are, tau = 0."""
    figure, axes = panels(2, height=4.0)
    for place, run in enumerate(distinct(rows, "run")):
        found, style = where(rows, run=run), {"color": of_run(place), "linestyle": "-", "marker": "."}
        percent = {name: 100 * np.array(column(found, name)) for name in ("acc", "many", "few")}
        taus = np.array(column(found, "tau"))
        axes[0].plot(percent["many"], percent["few"], markersize=4, label=short(run), **style)
        axes[1].plot(taus, percent["acc"], markersize=4, label=short(run), **style)
        here = int(np.argmin(np.abs(taus)))
        axes[0].plot(percent["many"][here], percent["few"][here], "o", markersize=9, color=of_run(place))
        axes[1].plot(taus[here], percent["acc"][here], "o", markersize=9, color=of_run(place))
    axes[0].set(xlabel="many, accuracy (%)", ylabel="few, accuracy (%)", title="What a shift of the bias buys")
    axes[1].set(xlabel="tau", ylabel="all, accuracy (%)", title="Logits minus tau log(n / N)")
    for axis in axes:
        axis.title.set_fontsize(10)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def draw_collapse(rows: Rows) -> Figure:
    """A panel for each measure; groups beside each other, a colour for each run."""
    measures, runs = distinct(rows, "measure"), distinct(rows, "run")
    groups = [group for group in GROUP_COLOURS if group in {row["group"] for row in rows}]
    figure, axes = panels(len(measures), height=2.6)
    for axis, measure in zip(axes, measures, strict=True):
        for place, run in enumerate(runs):
            found = {row["group"]: number(row, "value") for row in where(rows, run=run, measure=measure)}
            places = np.arange(len(groups)) + (place - (len(runs) - 1) / 2) * 0.16
            values = [found.get(group, np.nan) for group in groups]
            axis.plot(places, values, "o", color=of_run(place), markersize=7, label=short(run))
        axis.axhline(0, color=GREY, linewidth=0.6)
        axis.set_xticks(range(len(groups)), groups)
        axis.set_title(short(measure), fontsize=9)
    axes[0].legend(fontsize=7, frameon=False)
    return figure
