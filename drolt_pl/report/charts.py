"""The charts of a report page, as Vega-Lite: the page draws them with its own JavaScript."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from drolt_pl import escape
from drolt_pl.folders import is_finite
from drolt_pl.groups import COLOURS
from drolt_pl.results import Results

Row = Mapping[str, str]
Spec = dict[str, Any]
MOST_BARS = 120  # classes; more are points over the number of images
SHOWN = {"all": "acc", "many": "many", "medium": "medium", "few": "few"}
GREY = "#7f7f7f"
SERIES = ("#0072b2", "#e69f00", "#cc79a7")  # any colour vision tells them apart (Okabe & Ito 2008), and dashes differ
TOP = alt.Legend(orient="top")
MARKS = {"all": "diamond", "many": "circle", "medium": "square", "few": "triangle-up"}
TINTS = {"all": GREY, **COLOURS}
LOG = alt.Scale(type="log", nice=False, padding=12)


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
        x=alt.X(
            "accuracy:Q",
            title="test accuracy, %",
            scale=alt.Scale(zero=False, nice=False, padding=12),
            axis=alt.Axis(tickCount=10),
        ),
        y=alt.Y("model:N", title=None, sort=None),
        **_coloured(rows),
        **_shaped(rows),
        tooltip=[alt.Tooltip("model:N"), alt.Tooltip("group:N"), alt.Tooltip("accuracy:Q")],
    )
    return done(encoded, height=28 * len({str(row["model"]) for row in rows}) + 20)


def curves(rows: Sequence[Row], keys: Mapping[str, str], title: str, *, factor: float = 1.0) -> Spec | None:
    """Values of metrics.csv over epochs from 1, with a line where a stage begins and ticks at centroid passes.

    Args:
        rows: Those of metrics.csv.
        keys: Columns, by the name that the legend has; what was never logged is not in it.
        title: Of the y axis.
        factor: On the values.
    """
    values = [
        {
            "epoch": person(row),
            "series": name,
            "value": factor * float(row[key]),
            "stage": escape.plain(row["stage_name"]),
        }
        for row in rows
        for name, key in keys.items()
        if is_finite(row.get(key))
    ]
    if not values:
        return None
    lines = of_rows(values).mark_line(point=alt.OverlayMarkDef(size=18))
    colours = {name: COLOURS.get(name, SERIES[place % len(SERIES)]) for place, name in enumerate(keys)}
    shown = [name for name in keys if any(value["series"] == name for value in values)]
    scale = alt.Scale(domain=shown, range=[colours[name] for name in shown])
    layers: list[Any] = [
        lines.encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, tickCount=10)),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=alt.Color("series:N", title=None, sort=shown, scale=scale, legend=TOP),
            strokeDash=alt.StrokeDash("series:N", sort=shown, legend=None),
            tooltip=[
                alt.Tooltip("epoch:Q"),
                alt.Tooltip("stage:N"),
                alt.Tooltip("series:N"),
                alt.Tooltip("value:Q", format=".4g"),
            ],
        )
    ]
    starts = _starts(rows)
    rules = of_rows(starts).mark_rule(strokeDash=[4, 4], color=GREY)
    layers.append(rules.encode(x=alt.X("epoch:Q"), tooltip=[alt.Tooltip("stage:N")]))
    words = of_rows(starts).mark_text(align="left", dx=-2, dy=-4, baseline="bottom", color=GREY)
    layers.append(words.encode(x=alt.X("epoch:Q"), y=alt.YValue(0), text=alt.Text("stage:N")))  # type: ignore[no-untyped-call]
    passes = with_pass(rows)
    if passes:
        ticks = of_rows([{"epoch": epoch} for epoch in passes]).mark_tick(color=GREY, thickness=1.5, size=8)
        layers.append(ticks.encode(x=alt.X("epoch:Q"), y=alt.YValue(236)))  # type: ignore[no-untyped-call]
    return done(alt.layer(*layers), height=240)


def person(row: Row) -> int:
    """The epoch of a row of metrics.csv as people count it: from 1. The file counts from 0, as Lightning does."""
    return int(row["epoch"]) + 1


def with_pass(rows: Sequence[Row]) -> list[int]:
    """The epochs, from 1, in which a pass over the training set found class centroids: its seconds add up."""
    seconds = [float(row.get("time/centroid_s") or 0) for row in rows]
    return [person(row) for row, before, after in zip(rows, [0.0, *seconds], seconds, strict=False) if after > before]


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
    tooltip = [alt.Tooltip("class:N"), alt.Tooltip("images:Q"), alt.Tooltip("group:N"), alt.Tooltip("accuracy:Q")]
    if len(values) > MOST_BARS:
        images = alt.X("images:Q", title="training images of the class", scale=LOG)
        marks = chart.mark_point(filled=True, opacity=0.6, size=40)
        return done(
            marks.encode(x=images, y=accuracy, tooltip=tooltip, **_coloured(values), **_shaped(values)), height=260
        )
    few = len(values) <= 30
    axis = alt.Axis(labelExpr="", ticks=False) if not few else alt.Axis(labelAngle=-45)
    order = alt.X(
        "class:N" if few else "place:O",
        sort=None,
        title=None if few else "classes, from the most training images to the fewest",
        axis=axis,
    )
    return done(chart.mark_bar().encode(x=order, y=accuracy, tooltip=tooltip, **_coloured(values)), height=260)


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
        x=alt.X("images:Q", title="training images of the class", scale=LOG),
        y=alt.Y("radius:Q", title="radius"),
        **_coloured(values),
        **_shaped(values),
        tooltip=[alt.Tooltip("class:N"), alt.Tooltip("images:Q"), alt.Tooltip("radius:Q", format=".4g")],
    )
    return done(encoded, height=240)


def settings(rows: Sequence[Mapping[str, object]]) -> Spec | None:
    """Validation against test accuracy of several settings of a sweep; `rows` have label, val and test, in percent."""
    if len(rows) < 2:
        return None
    marks = of_rows(rows).mark_point(filled=True, size=60, opacity=0.7, color="#0072b2")
    encoded = marks.encode(
        x=alt.X("val:Q", title="validation accuracy, %", scale=alt.Scale(zero=False)),
        y=alt.Y("test:Q", title="test accuracy, %", scale=alt.Scale(zero=False)),
        tooltip=[alt.Tooltip("label:N"), alt.Tooltip("val:Q", format=".1f"), alt.Tooltip("test:Q", format=".1f")],
    )
    return done(encoded, height=280)


def of_rows(rows: Sequence[Mapping[str, object]]) -> Any:
    """An empty chart over rows."""
    return alt.Chart(alt.Data(values=list(rows)))  # type: ignore[no-untyped-call]


def _coloured(rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """A colour for each shot group that rows name, and no other in the legend."""
    shown = _present(rows)
    scale = alt.Scale(domain=shown, range=[TINTS[group] for group in shown])
    return {"color": alt.Color("group:N", title=None, scale=scale, legend=TOP)}


def _shaped(rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """A mark for each shot group that rows name."""
    shown = _present(rows)
    scale = alt.Scale(domain=shown, range=[MARKS[group] for group in shown])
    return {"shape": alt.Shape("group:N", title=None, scale=scale)}


def _present(rows: Sequence[Mapping[str, object]]) -> list[str]:
    groups = {row["group"] for row in rows}
    return [group for group in MARKS if group in groups]


def _starts(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The epoch, from 1, in which each stage begins."""
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row["stage_name"], person(row))
    return [{"stage": escape.plain(stage), "epoch": epoch} for stage, epoch in first.items()]


def done(chart: Any, height: int) -> Spec:
    """The specification of a chart as wide as the page."""
    spec: Spec = chart.properties(width="container", height=height).to_dict(validate=False)
    return spec


def embedded(spec: Spec) -> str:
    """A chart as JSON for a script element: no text in it can end the element."""
    text = json.dumps(spec, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
