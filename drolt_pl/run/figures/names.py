"""Every figure by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from drolt_pl.errors import SettingError, require_choice
from drolt_pl.records import write_atomically
from drolt_pl.regular import read_text
from drolt_pl.report.figures import save_figure
from drolt_pl.report.paper import bounds, errors, layers, plane, radii, trust
from drolt_pl.rows import Row, Rows, from_csv, said_of_seeds, to_csv
from drolt_pl.run.figures import beyond, measured
from drolt_pl.run.figures.sources import Source

MAX_CSV = 20_000_000
IMAGES = (".png", ".svg")  # endings


@dataclass(frozen=True)
class FigureOf:
    """A figure.

    Attributes:
        about: What it shows, and of which runs.
        measure: Runs -> rows.
        draw: Rows -> the figure.
    """

    about: str
    measure: Callable[[Sequence[Source]], list[Row]]
    draw: Callable[[Rows], Figure]


FIGURES = {
    "fig1": FigureOf(
        "samples, centroids and balls in the plane; a run, best with two features",
        measured.in_two_dimensions,
        plane.draw_balls,
    ),
    "fig2": FigureOf(
        "learned radii and their updates against class size; runs, or kept ones over seeds",
        measured.radii,
        radii.draw_radii,
    ),
    "fig3": FigureOf(
        "nearest class mean by layer and group; a balanced and a long-tailed run", measured.layers, layers.draw_layers
    ),
    "fig4": FigureOf(
        "train and test error by class; runs, or kept ones over seeds", measured.errors, errors.draw_errors
    ),
    "fig5": FigureOf("test features by t-SNE; two runs", measured.tsne, plane.draw_tsne),
    "appendix_a": FigureOf(
        "nominal p(eps) against the share found; a run", measured.probabilities, radii.draw_probabilities
    ),
    "appendix_b": FigureOf(
        "bounds and the worst case over training; a run with snapshots", measured.bounds, bounds.draw_bounds
    ),
    "appendix_c": FigureOf(
        "radii against class size and centroids' errors; a run", measured.centroid_errors, radii.draw_radius_and_error
    ),
    "appendix_d": FigureOf(
        "accuracy against eps, lambda and rate; runs or kept runs", measured.sensitivities, errors.draw_sensitivity
    ),
    "appendix_h": FigureOf(
        "nearest class mean by layer and group; cross-entropy and DRO-LT", measured.layers, layers.draw_layers
    ),
    "probes": FigureOf(
        "balanced linear and nearest-neighbour probes by layer; runs", beyond.probes, layers.draw_probes
    ),
    "collapse": FigureOf("neural collapse by group; runs", beyond.collapses, trust.draw_collapse),
    "reliability": FigureOf("confidence against accuracy by group; runs", beyond.reliabilities, trust.draw_reliability),
    "tradeoff": FigureOf("few against many; runs, or kept ones over seeds", beyond.tradeoffs, trust.draw_tradeoff),
    "frontier": FigureOf("few against many as the bias shifts; runs", beyond.frontiers, trust.draw_frontier),
}


def make(
    name: str,
    words: Sequence[str],
    out: Path,
    *,
    stem: str | None = None,
    trust: bool = False,
    images: Sequence[str] = IMAGES,
) -> list[Path]:
    """Writes a figure as CSV and images.

    Args:
        name: Key of `FIGURES`.
        words: Its runs, see `Source.parse`; or the CSV that it was drawn from, to draw it again.
        out: The folder.
        stem: Name of the files without their endings; None for the figure's name.
        trust: See `open_run`.
        images: Endings of the images.

    Returns:
        The files.

    Raises:
        SettingError: an unknown name, no runs, or runs that the figure cannot be made of.
    """
    require_choice("NAME", name, tuple(FIGURES))
    if not words:
        raise SettingError("RUN", f"must be given: figure {name} shows {FIGURES[name].about}")
    path = out / f"{stem or name}.csv"
    if len(words) == 1 and words[0].endswith(".csv"):
        text = read_text(Path(words[0]), "CSV", MAX_CSV)
    else:
        text = to_csv(FIGURES[name].measure([Source.parse(word, trust=trust) for word in words]))
    rows = from_csv(text, str(path))
    figure = FIGURES[name].draw(rows)
    figure.suptitle(said_of_seeds(rows), x=0.005, ha="left", fontsize=8, color="#707070")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    drawn = [path.with_suffix(ending) for ending in images]
    for image in drawn:
        save_figure(figure, image)
    return [path, *drawn]
