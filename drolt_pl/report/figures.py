"""Writing figures."""

import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG in one step, so that a link in the file's place is replaced and not followed."""
    FigureCanvasAgg(figure)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.png")
    try:
        # Without the version of matplotlib: the same values give the same file.
        figure.savefig(partial, dpi=110, metadata={"Software": None})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
