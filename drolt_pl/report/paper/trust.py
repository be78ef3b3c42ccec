"""Beyond the paper: reliability by group, the frontier of the classifier's bias, neural collapse."""

import numpy as np
from matplotlib.figure import Figure

from drolt_pl.report.aggregate import Spread
from drolt_pl.report.colours import GREY, GROUP_COLOURS, GROUP_MARKERS, of_run
from drolt_pl.report.paper.panels import panels, short
from drolt_pl.rows import Rows, averaged, column, distinct, number, over_seeds, where

LEAST = 10  # images of a bin that is shown
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#3b3b3b", "#999999")  # Okabe and Ito 2008
MARKERS = "osD^vP*X"  # a run has its own mark as well as its own colour


def draw_reliability(rows: Rows) -> Figure:
    """Accuracy against confidence, a panel for each run; the legend has each group's expected calibration error.

    Bins of fewer than 10 images are not shown; the error counts them.
    """
    runs = distinct(rows, "run")
    figure, axes = panels(len(runs), height=4.0)
    for axis, run in zip(axes, runs, strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        for group in GROUP_COLOURS:
            found = averaged(where(rows, run=run, group=group), "bin")
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
        found, style = averaged(where(rows, run=run), "tau"), {"color": of_run(place), "linestyle": "-", "marker": "."}
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


def draw_tradeoff(rows: Rows) -> Figure:
    """Few against many, and all against medium: means over seeds, with 95 % t intervals from three seeds on."""
    figure, axes = panels(2, height=4.6)
    runs = distinct(rows, "run")
    for place, run in enumerate(runs):
        found = where(rows, run=run)
        spreads = {name: Spread.of(column(found, name)) for name in ("acc", "many", "medium", "few")}
        style = {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)], "linestyle": ""}
        seeds = f"{len(found)} seed{'s' * (len(found) > 1)}"
        for axis, (x, y) in zip(axes, (("many", "few"), ("medium", "acc")), strict=True):
            both = spreads[x], spreads[y]
            means = [100 * part.mean for part in both if part]
            halves = [100 * (part.half_interval or 0.0) for part in both if part]
            bars = {"xerr": halves[0], "yerr": halves[1], "elinewidth": 0.9, "capsize": 0}
            axis.errorbar(*means, **bars, **style, markersize=7, label=f"{short(run)} ({seeds})", alpha=0.9)
    axes[0].set(xlabel="many, accuracy (%)", ylabel="few, accuracy (%)")
    axes[1].set(xlabel="medium, accuracy (%)", ylabel="all, accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    return figure


def draw_collapse(rows: Rows) -> Figure:
    """A panel for each measure, a colour for each run; bars are 95 % t intervals from three seeds on."""
    measures, runs = distinct(rows, "measure"), distinct(rows, "run")
    groups = [group for group in GROUP_COLOURS if group in {row["group"] for row in rows}]
    figure, axes = panels(len(measures), height=2.6)
    for axis, measure in zip(axes, measures, strict=True):
        for place, run in enumerate(runs):
            alike = over_seeds(where(rows, run=run, measure=measure), "group")
            found = {str(of_seeds[0]["group"]): Spread.of(column(of_seeds, "value")) for of_seeds in alike}
            places = np.arange(len(groups)) + (place - (len(runs) - 1) / 2) * 0.16
            spreads = [found.get(group) for group in groups]
            values = [spread.mean if spread else np.nan for spread in spreads]
            half = [spread.half_interval or 0.0 if spread else 0.0 for spread in spreads]
            axis.errorbar(places, values, yerr=half, fmt="o", color=of_run(place), markersize=7, label=short(run))
        axis.axhline(0, color=GREY, linewidth=0.6)
        axis.set_xticks(range(len(groups)), groups)
        axis.set_title(short(measure), fontsize=9)
    axes[0].legend(fontsize=7, frameon=False)
    return figure
