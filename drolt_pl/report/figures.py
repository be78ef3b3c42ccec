"""Writing figures."""

import os
import warnings
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Without versions, dates and random names: the same values give the same file.
METADATA = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
STYLE = {"svg.hashsalt": "drolt", "svg.fonttype": "none"}


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG or an SVG, by the path's ending, in one step: a link in its place is replaced and not followed."""
    FigureCanvasAgg(figure)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with rc_context(STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
            figure.savefig(partial, dpi=110, metadata=METADATA[path.suffix])
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
