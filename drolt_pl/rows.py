"""The numbers of a figure: rows of named values, and their CSV, from which the figure can be drawn again."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from drolt_pl import escape
from drolt_pl.errors import SettingError

Value = str | float  # nan stands for what was not measured
Row = Mapping[str, Value]
Rows = Sequence[Row]


def to_csv(rows: Rows) -> str:
    """The text of a CSV file: texts in quotes, numbers with six significant digits and without.

    Raises:
        ValueError: there are no rows, or they differ in their columns.
    """
    columns = list(rows[0]) if rows else []
    if not columns or any(list(row) != columns for row in rows):
        raise ValueError("rows must be given, all with the same columns in the same order")
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_shortened(value) for value in row.values()] for row in rows)
    return file.getvalue()


def from_csv(text: str, name: str) -> Rows:
    """The rows of such a text.

    Args:
        text: What `to_csv` gave.
        name: The file's name, for the error.

    Raises:
        SettingError: it is no such text.
    """
    try:
        header, *lines = csv.reader(io.StringIO(text, newline=""), quoting=csv.QUOTE_NONNUMERIC, strict=True)
        return [dict(zip(map(str, header), line, strict=True)) for line in lines]
    except (ValueError, csv.Error) as error:
        raise SettingError(name, "must be the numbers of a figure, as `drolt figure` writes them") from error


def labelled(label: str, rows: Iterable[Row]) -> list[Row]:
    """The rows with a first column `run`."""
    return [{"run": label, **row} for row in rows]


def number(row: Row, column: str) -> float:
    """A value that is a number.

    Raises:
        SettingError: the column is missing or holds a text.
    """
    value = row.get(column)
    if isinstance(value, str) or value is None:
        raise SettingError(column, "must be a column of numbers of this figure")
    return value


def text(row: Row, column: str) -> str:
    """A value that is a text.

    Raises:
        SettingError: the column is missing or holds a number.
    """
    value = row.get(column)
    if not isinstance(value, str):
        raise SettingError(column, "must be a column of texts of this figure")
    return value


def distinct(rows: Rows, column: str) -> list[str]:
    """The texts of a column in the order of their first row."""
    return list(dict.fromkeys(text(row, column) for row in rows))


def where(rows: Rows, **values: str) -> Rows:
    """The rows with these texts in these columns."""
    return [row for row in rows if all(row.get(column) == value for column, value in values.items())]


def by_seed(rows: Rows) -> list[Rows]:
    """The rows of each number in the column `seed`, in the order of their first row; rows without it are of one."""
    found: dict[object, list[Row]] = {}
    for row in rows:
        found.setdefault(row.get("seed"), []).append(row)
    return list(found.values())


def over_seeds(rows: Rows, *by: str) -> list[Rows]:
    """The rows of each combination of values in some columns, in the order of their first row: a row for each seed."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(name) for name in by), []).append(row)
    return list(found.values())


def averaged(rows: Rows, *by: str) -> Rows:
    """The first row of each combination of values in some columns, with the means over seeds of its other numbers."""
    means = []
    for alike in over_seeds(rows, *by):
        row = dict(alike[0])
        for name, value in alike[0].items():
            measured = [] if isinstance(value, str) else [one for one in column(alike, name) if not math.isnan(one)]
            if measured and name not in by:
                row[name] = math.fsum(measured) / len(measured)
        means.append(row)
    return means


def said_of_seeds(rows: Rows) -> str:
    """`one run, seed 0`, or `seeds 0, 1, 2`; empty for rows that do not know theirs."""
    seeds = sorted({number(row, "seed") for row in rows if "seed" in row})
    if len(seeds) > 1:
        return f"seeds {', '.join(f'{seed:.0f}' for seed in seeds)}" if len(seeds) <= 10 else f"{len(seeds)} seeds"
    each = " each" if len({row.get("run") for row in rows}) > 1 else ""
    return f"one run{each}, seed {seeds[0]:.0f}" if seeds else ""


def column(rows: Rows, name: str) -> list[float]:
    """The numbers of a column."""
    return [number(row, name) for row in rows]


def _shortened(value: Value) -> object:
    if isinstance(value, str):
        return escape.cell(value)
    if isinstance(value, int) or not math.isfinite(value):
        return value
    return float(f"{value:.6g}")
