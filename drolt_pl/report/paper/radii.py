"""Figure 2 and Appendices A and C: radii, their probabilities, and the errors of centroids."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, ScalarFormatter

from drolt_pl.report.colours import GREY
from drolt_pl.report.paper.panels import group_lines, group_points, legend_of_groups, panels
from drolt_pl.rows import Rows, averaged, by_seed, column, distinct, where


def draw_radii(rows: Rows) -> Figure:
    """Figure 2: the radius and the number of updates of each class against its size."""
    has_updates = any(np.isfinite(column(rows, "updates")))
    figure, axes = panels(2 if has_updates else 1)
    group_points(axes[0], rows, "images", "radius")
    for run in distinct(rows, "run"):
        for found in by_seed(where(rows, run=run)):
            axes[0].plot(column(found, "images"), column(found, "fit"), color="#3b3b3b", linewidth=1.4)
    axes[0].set(ylabel="learned radius", title="Radius (a line for each seed: polynomial fit)")
    if has_updates:
        group_points(axes[1], rows, "images", "updates")
        axes[1].set(ylabel="updates of the radius", title="Updates that it received")
        axes[1].set_ylim(0, 1.15 * max(column(rows, "updates")))
    for axis in axes:
        _class_sizes(axis)
        axis.title.set_fontsize(10)
    legend_of_groups(axes[0], rows)
    return figure


def draw_probabilities(rows: Rows) -> Figure:
    """Appendix A: nominal probability against the share of classes found in the ball."""
    kinds = [(v, d) for v in distinct(rows, "variance") for d in distinct(rows, "dimension")]
    figure, axes = panels(len(kinds), height=3.7)
    if len(kinds) == 4:
        figure.clear()
        figure.set_size_inches(figure.get_size_inches()[0], 7.4)
        axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel().tolist()
    for axis, (variance, dimension) in zip(axes, kinds, strict=True):
        found = where(rows, variance=variance, dimension=dimension)
        axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        group_lines(axis, averaged(found, "group", "nominal"), "nominal", "found", marks=False)
        axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="nominal p", ylabel="share of classes inside")
        axis.set_title(f"variance of {variance} features, {dimension} dimension", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#d9d9d9", linewidth=0.6)
        axis.label_outer()
    axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def draw_radius_and_error(rows: Rows) -> Figure:
    """Appendix C: errors of centroids against class size, and each class's radius against its error."""
    figure, axes = panels(2, height=3.9)
    group_points(axes[0], rows, "images", "error")
    found = [row for row in rows if np.isfinite(column([row], "error"))[0] and column([row], "error")[0] > 0]
    images, errors = np.array(column(found, "images")), np.array(column(found, "error"))
    grid = np.geomspace(images.min(), images.max(), 50)
    slope, offset = np.polyfit(np.log(images), np.log(errors), 1)
    axes[0].plot(grid, np.exp(offset) * grid**slope, color="#3b3b3b", label=f"fit: n^{slope:.2f}")
    scale = np.exp(np.mean(np.log(errors) + 0.5 * np.log(images)))
    axes[0].plot(grid, scale / np.sqrt(grid), color=GREY, linestyle=":", label="n^-0.5")
    axes[0].set(yscale="log", ylabel="error of the centroid", title="Error against class size")
    axes[0].legend(fontsize=8, frameon=False)
    _class_sizes(axes[0])
    for axis in axes[1:]:
        for name, mark in (("coverage_radius", "x"), ("expected", "+")):
            label = "ball of probability 0.9" if name == "coverage_radius" else "tau / sqrt(n)"
            axis.plot(column(found, "error"), column(found, name), mark, color=GREY, markersize=5, label=label)
        group_points(axis, found, "error", "radius")
        line = [errors.min(), errors.max()]
        axis.plot(line, line, color=GREY, linestyle=":", linewidth=1)
        axis.set(
            xscale="log", yscale="log", xlabel="error of the centroid", ylabel="radius", title="Radius against error"
        )
        axis.legend(fontsize=7, frameon=False)
    for axis in axes:
        axis.title.set_fontsize(10)
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
            scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            scale.set_minor_locator(NullLocator())
    return figure


def _class_sizes(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.set_xlabel("training images of the class")
