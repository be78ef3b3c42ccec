"""Draws the figures of docs/concepts.md: the ball, the three stages, the centroid pass.

python docs/figures/drawings.py
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

HOME = Path(__file__).resolve().parents[2]
BLUE, ORANGE, GREY, GREEN = "#0072b2", "#d55e00", "#3b3b3b", "#009e73"
STYLE = {"svg.hashsalt": "drolt_pl", "font.family": "DejaVu Sans", "font.size": 10}


def save(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set_axis_off()
        draw(axes)
        path = HOME / "docs" / "figures" / f"{name}.svg"
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def ball(axes: Axes) -> None:
    """Four samples of a rare class, the mean of a thousand of it, and the ball; all of them computed."""
    generator = np.random.default_rng(5)
    true, other = np.zeros(2), np.array([4.3, 0.9])
    samples = generator.normal(true, 1.0, (4, 2))
    others = generator.normal(other, 0.45, (40, 2))
    centre = samples.mean(0)
    eps = 1.0 * 2 / len(samples) ** 0.5
    z = samples[np.argmax(samples[:, 0])]
    worst = centre - eps * (z - centre) / np.linalg.norm(z - centre)
    axes.plot(*others.T, "o", color=ORANGE, alpha=0.5, markersize=5)
    axes.plot(*samples.T, "o", color=BLUE, markersize=8)
    axes.add_patch(Circle(tuple(centre), eps, facecolor=BLUE, alpha=0.10))
    axes.add_patch(Circle(tuple(centre), eps, fill=False, edgecolor=BLUE, linewidth=1.4))
    axes.plot(*centre, "P", color=BLUE, markersize=12, markeredgecolor="white")
    axes.plot(*true, "*", color=GREY, markersize=15, markeredgecolor="white")
    axes.plot(*worst, "X", color="#b00020", markersize=11, markeredgecolor="white")
    axes.plot(*zip(z, worst, strict=True), "--", color="#b00020", linewidth=1.2)
    top = centre + np.array([0, eps])
    axes.annotate("", top, centre, arrowprops={"arrowstyle": "->", "color": BLUE})
    axes.text(top[0] - 0.16, (top[1] + centre[1]) / 2, r"$\varepsilon_c$", color=BLUE, fontsize=13, ha="right")
    notes = {
        "mean of its 4 samples": (centre, (-3.6, 1.6), BLUE),
        "mean of all images of the class:\nnobody knows it": (true, (-1.7, 2.6), GREY),
        "worst centroid in the ball for this sample": (worst, (-4.9, 0.55), "#b00020"),
        "a sample": (z, (1.7, -1.7), BLUE),
        "a class with many images": (other + np.array([0, 0.95]), (2.5, 2.6), ORANGE),
    }
    for text, (point, place, colour) in notes.items():
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkB": 7}
        axes.annotate(text, point, place, color=colour, arrowprops=arrow, va="center")
    axes.set_xlim(-5.1, 6.4)
    axes.set_ylim(-2.6, 3.0)
    axes.set_aspect("equal")


def box(axes: Axes, x: float, y: float, width: float, height: float, title: str, text: str, colour: str) -> None:
    edge = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.02", facecolor="white", edgecolor=colour, lw=1.8)
    axes.add_patch(edge)
    axes.text(x + width / 2, y + height - 0.16, title, color=colour, fontweight="bold", ha="center", va="top")
    axes.text(x + width / 2, y + height - 0.5, text, color=GREY, ha="center", va="top", linespacing=1.5, fontsize=9)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], curve: float = 0.0) -> None:
    style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.4, "connectionstyle": f"arc3,rad={curve}"}
    axes.annotate("", end, start, arrowprops=style)


def stages(axes: Axes) -> None:
    """The stages of method=dro_lt; the epochs are those of conf/schedule/cifar.yaml."""
    budget = yaml.safe_load((HOME / "conf" / "schedule" / "cifar.yaml").read_text())["budget"]
    parts = {
        "ce_warmup": ("backbone and classifier learn\ncross-entropy\nimages as they come", GREY),
        "joint": ("backbone and classifier learn\ncross-entropy and robust loss\n4 images of a class in a row", BLUE),
        "rebalance": ("classifier learns, backbone frozen\ncross-entropy\nclasses equally often", GREEN),
    }
    for place, (name, (text, colour)) in enumerate(parts.items()):
        box(axes, 3.3 * place, 0, 2.75, 1.35, f"{name}: {budget[name]} epochs", text, colour)
        if place:
            arrow(axes, (3.3 * place - 0.52, 0.7), (3.3 * place - 0.05, 0.7))
    axes.text(1.37, -0.2, "monitor: val/acc", ha="center", va="top", fontsize=9, color=GREY)
    axes.text(4.67, -0.2, "monitor: val/acc_ncm, the nearest centroid", ha="center", va="top", fontsize=9, color=GREY)
    axes.text(7.97, -0.2, "best epoch by val/acc: the reported model", ha="center", va="top", fontsize=9, color=GREY)
    axes.set_xlim(-0.15, 9.5)
    axes.set_ylim(-0.5, 1.5)


def centroid_pass(axes: Axes) -> None:
    """What happens at the start of an epoch whose loss needs centroids."""
    box(axes, 0, 1.6, 2.6, 1.2, "whole training set", "un-augmented\neach image once\na share for each rank", GREY)
    box(axes, 3.2, 1.6, 2.6, 1.2, "backbone", "evaluation mode\nno gradient", GREY)
    box(axes, 6.4, 1.6, 2.6, 1.2, "sums by class", "in float64\nadded over ranks", GREY)
    box(
        axes,
        6.4,
        -0.4,
        2.6,
        1.2,
        "centroids",
        r"means, variances $\tau_c^2$" + "\neffective dimension " + r"$\nu$",
        BLUE,
    )
    box(axes, 3.2, -0.4, 2.6, 1.2, "radii", r"$\varepsilon_c$ of each class" + "\nby loss.eps_mode", BLUE)
    box(axes, 0, -0.4, 2.6, 1.2, "the epoch's steps", "batches, augmented,\nagainst these centroids", GREEN)
    for start, end in (((2.62, 2.2), (3.18, 2.2)), ((5.82, 2.2), (6.38, 2.2)), ((7.7, 1.58), (7.7, 0.85))):
        arrow(axes, start, end)
    arrow(axes, (6.38, 0.2), (5.84, 0.2))
    arrow(axes, (3.18, 0.2), (2.64, 0.2))
    arrow(axes, (1.3, 0.85), (1.3, 1.55))
    axes.text(1.42, 1.2, "next epoch", fontsize=9, color=GREY, va="center")
    axes.set_xlim(-0.15, 9.15)
    axes.set_ylim(-0.5, 2.95)


if __name__ == "__main__":
    save("ball", (8.6, 4.2), ball)
    save("stages", (9.2, 2.0), stages)
    save("centroid_pass", (8.8, 3.3), centroid_pass)
