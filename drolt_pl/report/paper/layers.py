"""Figure 3, Appendix H and the balanced probes: accuracy by layer and shot group."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drolt_pl.report.aggregate import Spread
from drolt_pl.report.colours import GROUP_COLOURS, GROUP_MARKERS
from drolt_pl.report.paper.panels import half_interval, panels, short
from drolt_pl.rows import Rows, column, distinct, over_seeds, where


def draw_layers(rows: Rows) -> Figure:
    """Figure 3 and Appendix H: a panel for each run, a line for each group.

    Bars are 95 % intervals: of one seed over classes, from three seeds on t intervals over seeds.
    """
    return _draw(rows, "run", "Nearest class mean, test accuracy (%)")


def draw_probes(rows: Rows) -> Figure:
    """Balanced probes: a panel for each run and kind of probe."""
    joined = [{**row, "panel": f"{row['run']}: {row['probe']}"} for row in rows]
    return _draw(joined, "panel", "Test accuracy (%) of the probe")


def _draw(rows: Rows, by: str, ylabel: str) -> Figure:
    names, layers = distinct(rows, by), distinct(rows, "layer")
    figure, axes = panels(len(names), height=3.7, share_y=True)
    if len(names) == 4:
        figure.clear()
        figure.set_size_inches(figure.get_size_inches()[0], 6.8)
        axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel().tolist()
    tops = []
    for axis, name in zip(axes, names, strict=True):
        for place, group in enumerate(GROUP_COLOURS):
            tops.append(_line(axis, where(rows, **{by: name}, group=group), layers, group, (place - 1.5) * 0.06))
        turn = 90 if len(layers) > 5 else 0
        axis.set_xticks(range(len(layers)), [short(layer, 20) for layer in layers], rotation=turn)
        axis.set_title(short(name, 48), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#d9d9d9", linewidth=0.6)
        axis.tick_params(labelsize=9)
        axis.set_ylabel(ylabel, fontsize=9)
        axis.label_outer()
    axes[0].set_ylim(0, min(104.0, 1.05 * max(tops)))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=len(handles))
    return figure


def _line(axis: Axes, rows: Rows, layers: list[str], group: str, shift: float) -> float:
    """Draws the line of a group; returns where its highest bar ends, 0 without rows."""
    if not rows:
        return 0.0
    alike = over_seeds(rows, "layer")
    places = np.array([layers.index(str(of_seeds[0]["layer"])) for of_seeds in alike]) + shift
    spreads = [spread for of_seeds in alike if (spread := Spread.of(column(of_seeds, "accuracy")))]
    values = 100 * np.array([spread.mean for spread in spreads])
    if len(rows) == len(alike):  # one seed
        half = 100 * half_interval(column(rows, "deviation"), column(rows, "classes"))
    else:
        half = 100 * np.array([spread.half_interval or 0.0 for spread in spreads])
    style = {
        "color": GROUP_COLOURS[group],
        "marker": GROUP_MARKERS[group],
        "linestyle": "--" if group == "all" else "-",
    }
    axis.errorbar(places, values, yerr=half, capsize=2, markersize=5, linewidth=1.4, label=group, **style)
    return float(np.max(values + half))
