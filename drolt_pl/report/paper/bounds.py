"""Appendix B: bounds of the worst case over the epochs of a training."""

from typing import Any

from matplotlib.figure import Figure

from drolt_pl.report.colours import GREY
from drolt_pl.report.paper.panels import panels, short
from drolt_pl.rows import Rows, column, distinct, where

STYLES: dict[str, dict[str, Any]] = {
    "lower bound": {"color": GREY, "linestyle": "--"},
    "at the empirical centroid": {"color": GREY, "linestyle": ":"},
    "worst in the ball": {"color": "#3b3b3b", "linestyle": "-", "linewidth": 2.4},
    "bound paper": {"color": "#d55e00", "linestyle": "-", "marker": "^"},
    "bound negatives": {"color": "#e69f00", "linestyle": "-", "marker": "v"},
    "bound sample": {"color": "#56b4e9", "linestyle": "-", "marker": "s"},
    "bound tight": {"color": "#0072b2", "linestyle": "-", "marker": "o"},
}


def draw_bounds(rows: Rows) -> Figure:
    """A panel for each sum that the likelihood has in its denominator."""
    sums = distinct(rows, "sum")
    figure, axes = panels(len(sums), height=4.2)
    for axis, over in zip(axes, sums, strict=True):
        found = where(rows, sum=over)
        for quantity in distinct(found, "quantity"):
            line = where(found, quantity=quantity)
            epochs = [epoch + 1 for epoch in column(line, "epoch")]  # from 1, as people count
            axis.plot(epochs, column(line, "nats"), markersize=4, label=quantity, **STYLES[quantity])
        axis.set(xlabel="epoch", ylabel="mean negative log-likelihood (nats)")
        axis.set_title(f"sum over {short(over)}", fontsize=10)
        axis.legend(fontsize=7.5, frameon=False)
    return figure
