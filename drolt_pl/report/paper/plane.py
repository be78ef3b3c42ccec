"""Figures 1 and 5: features in the plane."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from drolt_pl.report.colours import GREY, GROUP_COLOURS
from drolt_pl.report.paper.panels import WIDTH, short
from drolt_pl.rows import Row, Rows, column, distinct, number, text, where

CLASS_MARKERS = "osD^vP*X<>"
MARKS = {"empirical centroid": "s", "held-out centroid": "*"}


def draw_balls(rows: Rows) -> Figure:
    """Figure 1: samples, empirical and held-out centroids, balls."""
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for row in where(rows, kind="sample"):
        axis.plot(number(row, "x"), number(row, "y"), "o", markersize=3, color=_colour(row), alpha=0.35, linewidth=0)
    truths = {text(row, "class"): row for row in where(rows, kind="held-out centroid")}
    for row in where(rows, kind="empirical centroid"):
        _ball(axis, row, truths.get(text(row, "class")))
    axis.set(xlabel="first feature", ylabel="second feature", aspect="equal")
    axis.set_title("A ball around each class's empirical centroid, and where held-out images put it", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    present = {row["group"] for row in rows}
    shown = [group for group in GROUP_COLOURS if group in present]
    handles = [Line2D([], [], color=GROUP_COLOURS[group], marker="o", linestyle="", label=group) for group in shown]
    handles += [Line2D([], [], color=GREY, marker=mark, linestyle="", label=name) for name, mark in MARKS.items()]
    figure.legend(handles=handles, fontsize=8, frameon=False, loc="outside right upper")
    return figure


def _ball(axis: Axes, row: Row, truth: Row | None) -> None:
    colour, place = _colour(row), (number(row, "x"), number(row, "y"))
    axis.add_patch(Circle(place, number(row, "radius"), fill=True, facecolor=colour, alpha=0.12))
    axis.add_patch(Circle(place, number(row, "radius"), fill=False, edgecolor=colour, linestyle="--", linewidth=1.2))
    axis.plot(*place, MARKS["empirical centroid"], markersize=7, color=colour, markeredgecolor="white")
    if truth is not None:
        other = (number(truth, "x"), number(truth, "y"))
        axis.plot([place[0], other[0]], [place[1], other[1]], color=colour, linewidth=1)
        axis.plot(*other, MARKS["held-out centroid"], markersize=11, color=colour, markeredgecolor="white")
    label = f"{short(text(row, 'class'), 16)} ({number(row, 'images'):.0f})"
    axis.annotate(label, place, xytext=(6, 6), textcoords="offset points", fontsize=8)


def draw_tsne(rows: Rows) -> Figure:
    """Figure 5: test features of each run in the plane, classes from the largest to the smallest."""
    runs = distinct(rows, "run")
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained", facecolor="white")
    classes = distinct(rows, "class")
    marks = {name: CLASS_MARKERS[place % len(CLASS_MARKERS)] for place, name in enumerate(classes)}
    for axis, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        handles = [_cloud(axis, where(rows, run=run, **{"class": name}), marks) for name in classes]
        axis.set(xticks=[], yticks=[])
        axis.set_title(short(run), fontsize=10)
    figure.legend(
        handles=handles,
        fontsize=8,
        frameon=False,
        loc="outside lower center",
        ncols=5,
        title="class (training images)",
        title_fontsize=8,
    )
    return figure


def _cloud(axis: Axes, rows: Rows, marks: Mapping[str, str]) -> object:
    name, first = text(rows[0], "class"), rows[0]
    label = f"{short(name, 14)} ({number(first, 'images'):.0f})"
    points = np.array([column(rows, "x"), column(rows, "y")])
    style = {"marker": marks[name], "color": _colour(first), "linewidths": 0.3, "edgecolors": "white"}
    return axis.scatter(*points, s=20, label=label, **style)


def _colour(row: Row) -> str:
    return GROUP_COLOURS[text(row, "group")]
