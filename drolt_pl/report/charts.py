"""The charts of a report page, as Vega-Lite: the page draws them with its own JavaScript."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from drolt_pl import escape
from drolt_pl.folders import is_finite
from drolt_pl.groups import COLOURS, GROUPS
from drolt_pl.results import Results

Row = Mapping[str, str]
Spec = dict[str, Any]
MOST_BARS = 120  # classes; more are points over the number of images
SHOWN = {"all": "acc", "many": "many", "medium": "medium", "few": "few"}
GREY = "#7f7f7f"
SERIES = ("#0072b2", "#e69f00", "#cc79a7")  # any colour vision tells them apart (Okabe & Ito 2008), and dashes differ
TOP = alt.Legend(orient="top")
ALL = alt.Scale(domain=["all", *GROUPS], range=[GREY, *COLOURS.values()])
GROUP = alt.Color("group:N", title=None, scale=alt.Scale(domain=GROUPS, range=[*COLOURS.values()]), legend=TOP)
SHAPE = alt.Shape("group:N", title=None, scale=alt.Scale(domain=GROUPS))


def by_group(runs: Mapping[str, Results]) -> Spec:
    """Test accuracy of every stage of one run, or of several runs, by group."""
    one = len(runs) == 1
    rows: list[dict[str, object]] = []
    for name, results in runs.items():
        models = {stage: part.test for stage, part in results.stages.items()} if one else {}
        for model, found in {**models, ("reported" if one else name): results.test}.items():
            numbers = {} if found is None else found.numbers()
            rows += [
                {"model": escape.plain(model), "group": group, "accuracy": round(100 * numbers[metric], 2)}
                for group, metric in SHOWN.items()
                if metric in numbers
            ]
    chart = of_rows(rows).mark_point(filled=True, size=110, opacity=0.9)
    encoded = chart.encode(
        x=alt.X("accuracy:Q", title="test accuracy, %", scale=alt.Scale(zero=False)),
        y=alt.Y("model:N", title=None, sort=None),
        color=alt.Color("group:N", title=None, scale=ALL, legend=TOP),
        shape=alt.Shape("group:N", title=None, scale=alt.Scale(domain=["all", *GROUPS])),
        tooltip=["model:N", "group:N", "accuracy:Q"],
    )
    return done(encoded, height=28 * len({str(row["model"]) for row in rows}) + 20)


def curves(rows: Sequence[Row], keys: Mapping[str, str], title: str, *, factor: float = 1.0) -> Spec | None:
    """Values of metrics.csv over epochs, with a line where a stage begins and ticks at centroid passes.

    Args:
        rows: Those of metrics.csv.
        keys: Columns, by the name that the legend has.
        title: Of the y axis.
        factor: On the values.
    """
    values = [
        {"epoch": int(row["epoch"]), "series": name, "value": factor * float(row[key]), "stage": row["stage_name"]}
        for row in rows
        for name, key in keys.items()
        if is_finite(row.get(key))
    ]
    if not values:
        return None
    lines = of_rows(values).mark_line(point=alt.OverlayMarkDef(size=18))
    colours = [COLOURS.get(name, SERIES[place % len(SERIES)]) for place, name in enumerate(keys)]
    scale = alt.Scale(domain=list(keys), range=colours)
    layers: list[Any] = [
        lines.encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, tickCount=10)),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=alt.Color("series:N", title=None, sort=list(keys), scale=scale, legend=TOP),
            strokeDash=alt.StrokeDash("series:N", sort=list(keys), legend=None),
            tooltip=["epoch:Q", "stage:N", "series:N", alt.Tooltip("value:Q", format=".4g")],
        )
    ]
    starts = _starts(rows)
    rules = of_rows(starts).mark_rule(strokeDash=[4, 4], color=GREY)
    layers.append(rules.encode(x="epoch:Q", tooltip=["stage:N"]))
    words = of_rows(starts).mark_text(align="left", dx=4, dy=6, baseline="top", color=GREY)
    layers.append(words.encode(x="epoch:Q", y=alt.value(0), text="stage:N"))
    passes = [{"epoch": int(row["epoch"])} for row in rows if row.get("time/centroid_s")]
    if passes:
        ticks = of_rows(passes).mark_tick(color=GREY, thickness=1.5, size=8)
        layers.append(ticks.encode(x="epoch:Q", y=alt.value(236)))
    return done(alt.layer(*layers), height=240)


def by_class(rows: Sequence[Row]) -> Spec | None:
    """Test accuracy of every class, the largest first; of many classes, over their numbers of images."""
    values = [
        {
            "class": escape.plain(row["name"]),
            "images": int(row["train_images"]),
            "group": row["group"],
            "accuracy": round(100 * float(row["acc"]), 2),
        }
        for row in rows
        if row.get("acc")
    ]
    if not values:
        return None
    values.sort(key=lambda row: -int(str(row["images"])))
    for place, row in enumerate(values):
        row["place"] = place
    chart = of_rows(values)
    accuracy = alt.Y("accuracy:Q", title="test accuracy, %", scale=alt.Scale(domain=[0, 100]))
    tooltip = ["class:N", "images:Q", "group:N", "accuracy:Q"]
    if len(values) > MOST_BARS:
        images = alt.X("images:Q", title="training images of the class", scale=alt.Scale(type="log"))
        marks = chart.mark_point(filled=True, opacity=0.6, size=40)
        return done(marks.encode(x=images, y=accuracy, color=GROUP, shape=SHAPE, tooltip=tooltip), height=260)
    few = len(values) <= 30
    axis = alt.Axis(labelExpr="", ticks=False) if not few else alt.Axis(labelAngle=-45)
    order = alt.X(
        "class:N" if few else "place:O",
        sort=None,
        title=None if few else "classes, from the most training images to the fewest",
        axis=axis,
    )
    return done(chart.mark_bar().encode(x=order, y=accuracy, color=GROUP, tooltip=tooltip), height=260)


def radii(rows: Sequence[Row]) -> Spec | None:
    """Radius of every class over its number of images."""
    values = [
        {
            "class": escape.plain(row["name"]),
            "images": int(row["train_images"]),
            "group": row["group"],
            "radius": float(row["eps"]),
        }
        for row in rows
        if is_finite(row.get("eps")) and float(row["eps"]) >= 0
    ]
    if not values:
        return None
    marks = of_rows(values).mark_point(filled=True, size=50, opacity=0.8)
    encoded = marks.encode(
        x=alt.X("images:Q", title="training images of the class", scale=alt.Scale(type="log")),
        y=alt.Y("radius:Q", title="radius"),
        color=GROUP,
        shape=SHAPE,
        tooltip=["class:N", "images:Q", alt.Tooltip("radius:Q", format=".4g")],
    )
    return done(encoded, height=240)


def settings(rows: Sequence[Mapping[str, object]]) -> Spec | None:
    """Validation against test accuracy of a sweep's settings; `rows` have label, val and test, in percent."""
    if not rows:
        return None
    marks = of_rows(rows).mark_point(filled=True, size=60, opacity=0.7, color="#0072b2")
    encoded = marks.encode(
        x=alt.X("val:Q", title="validation accuracy, %", scale=alt.Scale(zero=False)),
        y=alt.Y("test:Q", title="test accuracy, %", scale=alt.Scale(zero=False)),
        tooltip=["label:N", alt.Tooltip("val:Q", format=".1f"), alt.Tooltip("test:Q", format=".1f")],
    )
    return done(encoded, height=280)


def of_rows(rows: Sequence[Mapping[str, object]]) -> Any:
    """An empty chart over rows."""
    return alt.Chart(alt.Data(values=list(rows)))  # type: ignore[no-untyped-call]


def _starts(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The epoch in which each stage begins."""
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row["stage_name"], int(row["epoch"]))
    return [{"stage": escape.plain(stage), "epoch": epoch} for stage, epoch in first.items()]


def done(chart: Any, height: int) -> Spec:
    """The specification of a chart as wide as the page."""
    spec: Spec = chart.properties(width="container", height=height).to_dict()
    return spec
