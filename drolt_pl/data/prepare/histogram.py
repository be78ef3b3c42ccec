"""The picture of a data set: how many training images each class has, coloured by shot group."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from drolt_pl import escape
from drolt_pl.data.prepare.check import DataCheck
from drolt_pl.disk import replacing
from drolt_pl.groups import COLOURS, group_masks

NAMED = 60  # classes up to which each has its name
LABELS = 24  # names that a picture of more classes has
LONGEST = 28  # characters of a name
SOFTWARE = "drolt data check"  # what the image names as its maker


def draw(check: DataCheck, title: str, path: Path) -> None:
    """Write a bar for each class, most frequent first, as a PNG image."""
    counts = check.class_counts
    order = np.argsort(-counts, kind="stable")
    masks = group_masks(counts, *check.limits)
    colours = [next(COLOURS[name] for name, mask in masks.items() if mask[class_id]) for class_id in order]
    every = len(order) <= NAMED
    figure = Figure(figsize=(8, max(2.5, 0.2 * len(order) + 1.2) if every else 7), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    axes.barh(np.arange(len(order)), counts[order], color=colours, height=0.8 if every else 1.0)
    shown = np.arange(len(order)) if every else np.unique(np.linspace(0, len(order) - 1, LABELS).round().astype(int))
    names = [_short(check.catalogue.class_names[order[place]]) for place in shown]
    if every:
        for place, class_id in enumerate(order):
            beside = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            axes.annotate(f"{counts[class_id]:,}", (counts[class_id], place), **beside)
    else:
        names = [f"{name} ({counts[order[place]]:,})" for name, place in zip(names, shown, strict=True)]
    axes.set_yticks(shown, names, fontsize=8)
    axes.set(xscale="log", xlim=(0.8, counts.max() * 1.5), ylim=(len(order) - 0.4, -0.6))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("training images (log scale)")
    axes.set_title(escape.plain(title), fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0 if every else 3)
    many, few = check.limits
    rules = {"many": f"more than {many:,}", "medium": f"{few:,} to {many:,}", "few": f"fewer than {few:,}"}
    entries = [
        Patch(color=COLOURS[name], label=f"{name} ({rules[name]}): {mask.sum():,} classes")
        for name, mask in masks.items()
        if mask.any()
    ]
    axes.legend(handles=entries, loc="lower right", fontsize=8, framealpha=1.0)
    with replacing(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # names of any language: a box stands for it
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": SOFTWARE})


def _short(name: str) -> str:
    """A name that fits beside the bars; `$` would begin a formula."""
    text = escape.plain(name).replace("$", r"\$")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
