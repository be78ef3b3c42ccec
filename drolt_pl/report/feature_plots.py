"""The figure of `drolt features`: accuracy by layer, and test features in the plane."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from drolt_pl import escape
from drolt_pl.report.figures import save_figure
from drolt_pl.results import Accuracies

GROUPS = {"acc": "all", "many": "many", "medium": "medium", "few": "few"}


def write_feature_figure(
    path: Path,
    layers: Mapping[str, Accuracies],
    positions: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
) -> None:
    """Writes a PNG.

    Args:
        path: The file.
        layers: Accuracies of the nearest class mean, by layer.
        positions: Features in the plane, (N, 2).
        targets: (N,), indices into `names`.
        names: What the legend calls the classes, the most frequent first.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key, label in GROUPS.items():
        values = [measured.numbers().get(key) for measured in layers.values()]
        if any(value is not None for value in values):
            shown = [np.nan if value is None else 100 * value for value in values]
            left.plot([escape.label(layer) for layer in layers], shown, "k--" if key == "acc" else "o-", label=label)
    left.set(title="Nearest class mean on test images, by layer", ylabel="accuracy (%)", ylim=(0, None))
    left.tick_params(axis="x", rotation=90, labelsize=8)
    left.grid(alpha=0.3)
    left.legend(fontsize=8)
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, len(names)))
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        right.scatter(*positions[targets == index].T, s=9, color=colour, label=escape.label(name))
    right.set(title="Test features, t-SNE", xticks=[], yticks=[])
    right.legend(
        fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), title="class (training images)", title_fontsize=7
    )
    save_figure(figure, path)
