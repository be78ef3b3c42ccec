"""Predictions as the lines of a CSV file."""

import csv
import io
import os
from collections.abc import Iterable, Sequence

from drolt_pl.model import Predictions

# A spreadsheet takes a cell that starts so for a formula; a file's name may come from anybody.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: where it could, an apostrophe stands before it.

    Examples:
        >>> safe("=1+1"), safe("cat.jpg")
        ("'=1+1", 'cat.jpg')
    """
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def header(top: int) -> list[str]:
    """The columns: the best class has no number, the others of the `top` best have theirs."""
    others = [f"{column}_{place}" for place in range(2, top + 1) for column in ("label", "probability")]
    return ["file", "label", "probability", *others, "nearest", "distance_over_radius", "error"]


def rows(images: Sequence[str], errors: Sequence[str | None], found: Predictions, top: int) -> list[list[str]]:
    """A row for each image, in order.

    Args:
        images: Names of files, (B,).
        errors: Why a file cannot be read; None where it can, (B,).
        found: Of the images that can be read, in order.
        top: As for `header`.
    """
    names = [safe(name) for name in found.class_names]
    classes, probabilities = found.classes.tolist(), found.probabilities.tolist()
    nearest = [""] * len(found) if found.nearest is None else [names[index] for index in found.nearest.tolist()]
    ratios = [""] * len(found)
    if found.distance_over_radius is not None:
        ratios = [number(value) for value in found.distance_over_radius.tolist()]
    readable = iter(range(len(found)))
    width = 2 * top + 2
    lines = []
    for image, error in zip(images, errors, strict=True):
        if error is not None:
            lines.append([safe(image), *[""] * width, safe(error)])
            continue
        row = next(readable)
        best = [
            cell
            for index, probability in zip(classes[row], probabilities[row], strict=True)
            for cell in (names[index], number(probability))
        ]
        lines.append([safe(image), *best, nearest[row], ratios[row], ""])
    return lines


def encoded(lines: Iterable[Sequence[str]]) -> bytes:
    """Lines of CSV in UTF-8; a file's name that is not UTF-8 keeps its bytes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return os.fsencode(text.getvalue()) if os.name == "posix" else text.getvalue().encode("utf-8", "replace")


def number(value: float) -> str:
    """Six digits."""
    return f"{value:.6g}"
