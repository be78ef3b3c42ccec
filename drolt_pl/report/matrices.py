"""Charts of a report page over two axes: confusion, calibration, and the heat maps of a grid."""

import math
from collections.abc import Mapping, Sequence

import altair as alt

from drolt_pl import escape
from drolt_pl.report.charts import GREY, SERIES, Row, Spec, done, of_rows
from drolt_pl.report.sweep import Sweep
from drolt_pl.report.sweep_plots import AXES, MAX_TICKS, values_of

MOST_CELLS = 20  # classes of a confusion matrix; more are the worst pairs as a table
WORST = 20
MOST_MAPS = 12
ACCURACY = alt.Scale(scheme="viridis")


def confusion(rows: Sequence[Row]) -> Spec | None:
    """The confusion matrix of a few classes, in percent of the images of each; null for many classes."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    if not names or len({*names, *(row["predicted"] for row in rows)}) > MOST_CELLS:
        return None
    totals = {name: sum(int(row["images"]) for row in rows if row["name"] == name) for name in names}
    order = [escape.plain(name) for name in names]
    found = {(row["name"], row["predicted"]): int(row["images"]) for row in rows}
    cells = [
        {
            "class": escape.plain(name),
            "taken for": escape.plain(other),
            "images": found.get((name, other), 0),
            "percent": round(100 * found.get((name, other), 0) / totals[name], 1),
        }
        for name in names
        for other in list(dict.fromkeys([*names, *(row["predicted"] for row in rows)]))
    ]
    encoded = (
        of_rows(cells)
        .mark_rect()
        .encode(
            x=alt.X("taken for:N", title="taken for", sort=order, axis=alt.Axis(labelAngle=-45)),
            y=alt.Y("class:N", title="class", sort=order),
            color=alt.Color("percent:Q", title="% of the class", scale=ACCURACY),
            tooltip=[
                alt.Tooltip("class:N"),
                alt.Tooltip("taken for:N"),
                alt.Tooltip("images:Q"),
                alt.Tooltip("percent:Q"),
            ],
        )
    )
    return done(encoded, height=24 * len(names) + 20)


def worst_pairs(rows: Sequence[Row]) -> list[list[str]]:
    """The pairs of classes that are taken for each other most often: class, taken for, images, percent of the class."""
    totals: dict[str, int] = {}
    for row in rows:
        totals[row["name"]] = totals.get(row["name"], 0) + int(row["images"])
    wrong = sorted((row for row in rows if row["name"] != row["predicted"]), key=lambda row: -int(row["images"]))
    return [
        [
            escape.plain(row["name"]),
            escape.plain(row["predicted"]),
            row["images"],
            f"{100 * int(row['images']) / totals[row['name']]:.1f}",
        ]
        for row in wrong[:WORST]
    ]


def calibration(rows: Sequence[Row]) -> Spec | None:
    """Accuracy over confidence, the size of a point by the images of its bin; a line where both are equal."""
    points = [
        {
            "confidence": round(100 * float(row["confidence"]), 2),
            "accuracy": round(100 * float(row["accuracy"]), 2),
            "images": int(row["images"]),
        }
        for row in rows
    ]
    if not points:
        return None
    whole = alt.Scale(domain=[0, 100])
    x = alt.X("confidence:Q", title="mean confidence, %", scale=whole)
    y = alt.Y("accuracy:Q", title="test accuracy, %", scale=whole)
    ends = [{"confidence": end, "accuracy": end} for end in (0, 100)]
    line = of_rows(ends).mark_line(color=GREY, strokeDash=[4, 4]).encode(x=x, y=y)
    marks = of_rows(points).mark_point(filled=True, color=SERIES[0], opacity=0.85)
    most = max(row["images"] for row in points)
    shown = sorted({_rounded(most), _rounded(max(most / 10, 1))})  # two marks fit on a telephone, whatever they count
    legend = alt.Legend(orient="top", values=shown, format=",d")
    size = alt.Size("images:Q", title="images", scale=alt.Scale(domain=[0, most], range=[25, 300]), legend=legend)
    tooltip = [alt.Tooltip("confidence:Q"), alt.Tooltip("accuracy:Q"), alt.Tooltip("images:Q")]
    return done(alt.layer(line, marks.encode(x=x, y=y, size=size, tooltip=tooltip)), height=260)


def _rounded(number: float) -> int:
    """A number from 1, down to its first digit."""
    unit = int(10 ** math.floor(math.log10(number)))
    return int(number) // unit * unit


def heat_maps(sweep: Sweep) -> dict[str, Spec]:
    """Validation accuracy over two keys of a grid, a chart for each value of a third; the best of what else varies."""
    keys = [key for key in sweep.keys if 1 < len(values_of(sweep, key)) <= MAX_TICKS]
    keys.sort(key=lambda key: AXES.index(key) if key in AXES else len(AXES))
    if len(keys) < 2:
        return {}
    x, y, *rest = keys
    panel = rest[0] if rest and len(values_of(sweep, rest[0])) <= MOST_MAPS else None
    shown_keys = [key for key in (x, y, panel) if key]
    cells = _best(sweep, shown_keys)
    if 2 * len(cells) < math.prod(len(values_of(sweep, key)) for key in shown_keys):
        return {}  # no grid: its values were drawn from intervals
    ends = (min(cells.values()), max(cells.values())) if cells else (0.0, 100.0)
    maps = {}
    for shown in values_of(sweep, panel) if panel else [""]:
        found = [
            {"x": escape.plain(key[0]), "y": escape.plain(key[1]), "accuracy": round(value, 2)}
            for key, value in cells.items()
            if not panel or key[2] == shown
        ]
        if found:
            title = f"Validation {sweep.metric}, %" + (f"; {panel}={shown}" if panel else "")
            maps[escape.plain(title)] = _heat_map(found, sweep, (x, y), ends)
    return maps


def _best(sweep: Sweep, keys: Sequence[str]) -> dict[tuple[str, ...], float]:
    """The best mean validation accuracy, in percent, of the settings that agree in some keys."""
    cells: dict[tuple[str, ...], float] = {}
    for setting in sweep.settings:
        value = setting.mean("val", sweep.metric)
        if value is not None and all(key in setting.values for key in keys):
            place = tuple(setting.values[key] for key in keys)
            cells[place] = max(100 * value, cells.get(place, 0.0))
    return cells


def _heat_map(
    rows: Sequence[Mapping[str, object]], sweep: Sweep, axes: tuple[str, str], ends: tuple[float, float]
) -> Spec:
    orders = [[escape.plain(value) for value in values_of(sweep, key)] for key in axes]
    base = of_rows(rows).encode(
        x=alt.X("x:N", title=escape.plain(axes[0]), sort=orders[0], axis=alt.Axis(labelAngle=0)),
        y=alt.Y("y:N", title=escape.plain(axes[1]), sort=orders[1]),
        tooltip=[alt.Tooltip("x:N"), alt.Tooltip("y:N"), alt.Tooltip("accuracy:Q")],
    )
    dark = f"datum.accuracy < {sum(ends) / 2}"
    scale = alt.Scale(scheme="viridis", domain=list(ends))
    cells = base.mark_rect().encode(color=alt.Color("accuracy:Q", title="%", scale=scale))
    text = base.mark_text(fontSize=11).encode(
        text=alt.Text("accuracy:Q", format=".1f"),
        color=alt.condition(dark, alt.value("white"), alt.value("black")),
    )
    return done(alt.layer(cells, text), height=30 * len(orders[1]) + 20)
