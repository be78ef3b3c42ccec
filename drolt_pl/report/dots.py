"""The figure of a result table: accuracy by method and shot group, with intervals, and its numbers as CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from drolt_pl import escape
from drolt_pl.disk import replacing
from drolt_pl.report.aggregate import KeptRun, Row, Spread
from drolt_pl.report.colours import GROUP_COLOURS

PANELS = {
    "acc": ("All", GROUP_COLOURS["all"]),
    "many": ("Many", GROUP_COLOURS["many"]),
    "medium": ("Medium", GROUP_COLOURS["medium"]),
    "few": ("Few", GROUP_COLOURS["few"]),
}
STYLE = {
    "svg.hashsalt": "drolt_pl",  # the same values give the same file
    "svg.fonttype": "none",  # text, which can be searched, and not the outline of every letter
    "font.family": ["DejaVu Sans", "sans-serif"],  # whose letters are wider than those of what stands in for it
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
LONGEST = 44  # characters of a row's label


def row_label(row: Row) -> str:
    """A row's name and the overrides that set it apart, as plain text; of long ones the last word of a key, or none."""
    if row.kept_as or not row.config:
        return escape.label(row.kept_as or row.label, LONGEST)
    pairs = [override.partition("=") for override in row.config]
    whole = [override.removeprefix("schedule.").removeprefix("stages.") for override in row.config]
    last = [f"{key.rpartition('.')[2]}={value}" for key, _, value in pairs]
    values = [value.rpartition(".")[2] if key.endswith("_target_") else value for key, _, value in pairs]
    texts = [f"{row.label}: {', '.join(parts)}" for parts in (whole, last, values)]
    return escape.label(next((text for text in texts if len(text) <= LONGEST), texts[-1]), LONGEST)


def dot_table(rows: Sequence[Row]) -> str:
    """CSV of the figure: a line for each row and panel, in percent; `low` and `high` bound the 95 % interval."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "overrides", "group", "mean", "low", "high", "n", "by_seed"])
    for row in _by_accuracy(rows):
        for metric, (title, _) in PANELS.items():
            values = _values(row, metric)
            spread = Spread.of(values)
            if spread is not None:
                half = spread.half_interval
                bounds = ["", ""] if half is None else [f"{spread.mean - half:.2f}", f"{spread.mean + half:.2f}"]
                seeds = " ".join(f"{value:.2f}" for value in values)
                texts = [escape.cell(row.label), escape.cell(" ".join(row.config))]
                writer.writerow([*texts, title, f"{spread.mean:.2f}", *bounds, spread.n, seeds])
    return file.getvalue()


def draw_dots(rows: Sequence[Row], path: Path) -> None:
    """Draws the figure as SVG: means as dots, 95 % t intervals as lines, single seeds as rings."""
    ordered = _by_accuracy(rows)[::-1]  # the best stands at the top
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 0.9 + 0.3 * len(ordered)), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for axis, (metric, (title, colour)) in zip(axes, PANELS.items(), strict=True):
            _panel(axis, ordered, metric, colour)
            axis.set_title(title, color=colour, fontweight="bold")
        axes[0].set_yticks(range(len(ordered)), [row_label(row) for row in ordered])
        axes[0].set_ylim(-0.6, len(ordered) - 0.4)
        figure.supxlabel("test accuracy, %", fontsize=10)
        with replacing(path) as file:
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _panel(axis: Axes, rows: Sequence[Row], metric: str, colour: str) -> None:
    # One call for all marks of a kind: the file then holds their shape once.
    values = [_values(row, metric) for row in rows]
    spreads = {place: spread for place, found in enumerate(values) if (spread := Spread.of(found)) is not None}
    for place, spread in spreads.items():
        half = spread.half_interval
        if half is not None:
            axis.plot([spread.mean - half, spread.mean + half], [place, place], color=colour, linewidth=2, alpha=0.75)
    seeds = [(value, place) for place, spread in spreads.items() if spread.n > 1 for value in values[place]]
    axis.plot(*_columns(seeds), "o", markersize=3.5, markerfacecolor="white", color=colour, alpha=0.6)
    for face, single in ((colour, False), ("white", True)):  # one run says less
        means = [(spread.mean, place) for place, spread in spreads.items() if (spread.n == 1) == single]
        axis.plot(*_columns(means), "o", markersize=6.5, color=colour, markerfacecolor=face)
    axis.grid(axis="x", color="#d9d9d9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(left=False)
    axis.margins(x=0.08)


def _columns(points: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
    return [x for x, _ in points], [y for _, y in points]


def _by_accuracy(rows: Sequence[Row]) -> list[Row]:
    """The rows from the best mean accuracy to the worst."""
    return sorted(rows, key=lambda row: -(row.mean(lambda run: run.results.test.acc) or 0.0))


def _values(row: Row, metric: str) -> list[float]:
    def value(run: KeptRun) -> float | None:
        return run.results.number("test", metric)

    return [100 * found for found in map(value, row.runs) if found is not None]
