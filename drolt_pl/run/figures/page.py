"""A page of figures: the commands that stand in it make its figures, and its tables are filled from their numbers."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from drolt_pl import escape
from drolt_pl.errors import SettingError
from drolt_pl.regular import read_text
from drolt_pl.report.aggregate import Spread
from drolt_pl.rows import Rows, by_seed, distinct, from_csv, number, where
from drolt_pl.run.figures.names import MAX_CSV, make

COMMAND = re.compile(r"^(?:    )?drolt figure (.+)$", flags=re.MULTILINE)
TABLE = re.compile(r"(<!-- table ([^>]*?) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
RUNS = "$RUNS"


@dataclass(frozen=True)
class Made:
    """A command of a page: a figure of runs, written as files of a stem in the page's folder of figures."""

    name: str
    words: tuple[str, ...]
    out: Path
    stem: str

    def run(self, runs: Path | None) -> list[Path]:
        """Writes the figure: from its runs, else, where they are not at hand, again from its CSV."""
        words = self.words
        if any(RUNS in word for word in words):
            csv = self.out / f"{self.stem}.csv"
            words = (str(csv),) if runs is None else tuple(word.replace(RUNS, str(runs)) for word in words)
        return make(self.name, words, self.out, stem=self.stem, images=(".png",))


def commands(text: str, home: Path) -> Iterator[Made]:
    """The commands `drolt figure NAME RUN... --out DIR [--as STEM]` of a page.

    Args:
        text: The page.
        home: The folder that its paths start from.

    Raises:
        SettingError: a command without a folder.
    """
    for line in COMMAND.findall(text):
        words, options = [], {"--out": "", "--as": ""}
        parts = iter(shlex.split(line))
        for part in parts:
            if part in options:
                options[part] = next(parts, "")
            else:
                words.append(part)
        if not words or not options["--out"]:
            raise SettingError("page", "must give every figure a name and --out", line)
        name, *runs = words
        yield Made(name, tuple(_placed(run, home) for run in runs), home / options["--out"], options["--as"] or name)


def filled(text: str, folder: Path) -> str:
    """The page with its tables filled: `<!-- table STEM ROWS COLUMNS VALUE [COLUMN=TEXT...] -->`, up to `<!-- end -->`.

    A table has the means of a column over the rows of a figure's CSV that agree in two others; from three seeds on with
    half of the 95 % interval over them. With `-` for COLUMNS, VALUE names columns, `many,few`, which stand beside each
    other.

    Args:
        text: The page.
        folder: The folder of its CSV files.

    Raises:
        SettingError: a table that names no CSV, or columns that it has not.
    """

    def fill(found: re.Match[str]) -> str:
        words = found[2].split(" ")
        stem, by_row, by_column, value, *filters = words
        wanted = dict(part.replace("_", " ").partition("=")[::2] for part in filters)
        rows = from_csv(read_text(folder / f"{stem}.csv", "CSV", MAX_CSV), f"{stem}.csv")
        return f"{found[1]}{_table(where(rows, **wanted), by_row, by_column, value)}{found[3]}"

    return TABLE.sub(fill, text)


def _table(rows: Rows, by_row: str, by_column: str, value: str) -> str:
    beside = by_column == "-"
    columns = value.split(",") if beside else distinct(rows, by_column)
    lines = [f"| {by_row} | {' | '.join(map(escape.markdown, columns))} |", f"| --- |{' --: |' * len(columns)}"]
    for name in distinct(rows, by_row):
        own = where(rows, **{by_row: name})
        texts = [_mean(own, c) if beside else _mean(where(own, **{by_column: c}), value) for c in columns]
        lines.append(f"| {escape.markdown(name)} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def _mean(rows: Rows, value: str) -> str:
    spread = Spread.of([fmean(number(row, value) for row in own) for own in by_seed(rows)])
    if spread is None:
        return "-"
    return f"{spread.mean:.3g}" + ("" if spread.half_interval is None else f" ± {spread.half_interval:.2g}")


def _placed(word: str, home: Path) -> str:
    """A run's word with a path that starts at `home`, where it names one there."""
    label, mark, path = word.rpartition("=")
    return f"{label}{mark}{home / path}" if (home / path.split(":")[0]).exists() else word
