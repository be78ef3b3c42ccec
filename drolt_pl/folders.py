"""Reads from the folders of runs and sweeps how they began and went, as plain values."""

import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from drolt_pl.errors import SettingError
from drolt_pl.ranges import Holds
from drolt_pl.regular import read_text

OVERRIDES = Path(".hydra") / "overrides.yaml"
CONFIG = Path(".hydra") / "config.yaml"
CHOICES = Path(".hydra") / "hydra.yaml"
SPLIT = "split.json"
SWEEP = "multirun.yaml"  # in the folder of a sweep, as JOBS is
JOBS = "jobs.json"  # overrides of every job, by the name of its folder
STUDY = "study.journal"  # in the folder of a sweep by Optuna
FAILURE = "failure.json"  # in a job's folder: overrides, exit code, last lines
MAX_YAML = 512 * 1024  # bytes of a configuration
MAX_DEPTH = 64  # levels of nested lists and mappings in it
ROUNDING = 1e-6  # of shares that were summed
REMEDY = "bring back what the run wrote, or remove the file"
JOB_NAME = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)  # a folder beside the list, not above it


def overrides(run_dir: Path) -> list[str] | None:
    """The overrides that began a run; None if its folder does not record them."""
    return _texts(_read(run_dir / OVERRIDES)) if (run_dir / OVERRIDES).exists() else None


def choices(run_dir: Path) -> dict[str, str]:
    """The choice of a run in each configuration group: `{"backbone": "resnet32", ...}`."""
    found = _part(run_dir / CHOICES, "hydra", "runtime", "choices")
    return {group: name for group, name in found.items() if isinstance(name, str)}


def dataset(run_dir: Path) -> Mapping[str, object]:
    """The configuration of a run's data set."""
    return _part(run_dir / CONFIG, "dataset")


def config(run_dir: Path) -> Mapping[str, object]:
    """The configuration of a run, its interpolations unresolved; empty where the folder has none."""
    return _part(run_dir / CONFIG)


def metric_rows(path: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, each with a whole number as its epoch; none where there is no file.

    Raises:
        SettingError: it cannot be read.
    """
    return parse_metrics(read_text(path, "CSV"), str(path)) if path.exists() else []


def parse_metrics(text: str, name: str) -> list[dict[str, str]]:
    """The rows of the text of metrics.csv, each with a whole number as its epoch; other cells hold a number or nothing.

    Raises:
        SettingError: it is no such table; `name` says which.
    """
    columns, rows = _parsed(text, name)
    cells = dict.fromkeys(columns, FLOAT_OR_EMPTY) | {"epoch": WHOLE, "stage_name": TEXT}
    return _held(rows, name, cells)


def table(path: Path, columns: Mapping[str, Holds]) -> list[dict[str, str]]:
    """The rows of a run's table; none where there is no file.

    Args:
        path: The file.
        columns: What the cells are, of each column that it must have.

    Raises:
        SettingError: it is no table, lacks a column, or a cell is none of its column.
    """
    if not path.exists():
        return []
    found, rows = _parsed(read_text(path, "CSV"), str(path))
    missing = [name for name in columns if name not in found]
    if missing:
        raise SettingError(str(path), f"must be a table with a column {missing[0]}", remedy=REMEDY)
    return _held(rows, str(path), columns)


def sweep_overrides(sweep_dir: Path) -> list[str] | None:
    """The overrides that began a sweep, Hydra's own among them; None if its folder does not record them."""
    typed = _part(sweep_dir / SWEEP, "hydra", "overrides")
    return [*_texts(typed.get("task")), *_texts(typed.get("hydra"))] if typed else None


def listed_jobs(sweep_dir: Path) -> dict[str, list[str]]:
    """The overrides of every job of a sweep, by the name of the job's folder; empty if the sweep has no list.

    Raises:
        SettingError: the list cannot be read, or names a folder elsewhere.
    """
    # Imported here: a command that starts needs the names above alone.
    from pydantic import TypeAdapter

    from drolt_pl.records import read_record

    path = sweep_dir / JOBS
    jobs = read_record(path, TypeAdapter(dict[str, list[str]]).validate_json) if path.exists() else {}
    for name in jobs:
        if not JOB_NAME.fullmatch(name):
            raise SettingError(str(path), "must name folders beside it", name[:100])
    return jobs


def require_own(folder: Path, *names: str) -> None:
    """Refuses links that lead out of a folder: what is written there, or copied from it, would be elsewhere.

    Args:
        folder: The folder.
        names: Paths in it; none: everything in it.

    Raises:
        SettingError: there is one.
    """
    home = os.path.realpath(folder)
    below = (os.path.join(at, name) for at, folders, files in os.walk(home) for name in (*folders, *files))
    for path in [os.path.join(home, name) for name in names] if names else below:
        if names or os.path.islink(path):
            found = os.path.realpath(path)
            if not Path(found).is_relative_to(home):
                raise SettingError(path, f"must not lead out of {home}: it is a link to {found}")


def parse_yaml(text: str, path: Path) -> object:
    """The plain values of a YAML text without aliases, by which a short text can hold endless values.

    Deep nesting is refused too: reading it takes the square of its depth.

    Raises:
        SettingError: it is no such text.
    """
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it refers to itself")
            if depth > MAX_DEPTH:
                raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")
        content: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingError(str(path), f"is no YAML of plain values: {reason}") from error
    return content


def is_number(text: str) -> bool:
    """Whether a text is a whole number in digits, of a length that numbers have."""
    return text.isascii() and text.isdigit() and len(text) < 19


def is_finite(text: str | None) -> bool:
    """Whether a cell is there and holds a finite number."""
    return text is not None and _is_float(text) and math.isfinite(float(text))


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_share(text: str) -> bool:
    return _is_float(text) and -ROUNDING <= float(text) <= 1 + ROUNDING


# What a cell of a table is.
TEXT = Holds("text", lambda _: True)
WHOLE = Holds("a whole number", is_number)
COUNT = Holds("a whole number >= 1", lambda text: is_number(text) and int(text) > 0)
SHARE = Holds("a number in [0, 1]", _is_share)
SHARE_OR_EMPTY = Holds("empty or a number in [0, 1]", lambda text: not text or _is_share(text))
FLOAT_OR_EMPTY = Holds("empty or a number", lambda text: not text or _is_float(text))


def _parsed(text: str, name: str) -> tuple[Sequence[str], list[dict[str, str]]]:
    """The columns and the rows of the text of a table; every row fits the first line."""
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns, rows = list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise SettingError(name, f"is no table: {error}", remedy=REMEDY) from error
    if any(None in row or None in row.values() for row in rows):
        raise SettingError(name, "is no table: a row does not fit the first line", remedy=REMEDY)
    return columns, rows


def _held(rows: list[dict[str, str]], name: str, columns: Mapping[str, Holds]) -> list[dict[str, str]]:
    for number, row in enumerate(rows, start=1):
        for column, cell in columns.items():
            if column not in row:
                raise SettingError(name, f"must be a table with a column {column}", remedy=REMEDY)
            if not cell.test(row[column]):
                place = f"{name}, row {number}, {column}"
                raise SettingError(place, f"must be {cell.demand}", row[column][:100], remedy=REMEDY)
    return rows


def _part(path: Path, *keys: str) -> dict[str, object]:
    """The mapping in a file under nested keys; empty if the file or a key is missing."""
    node = _read(path)
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return {str(key): value for key, value in node.items()} if isinstance(node, dict) else {}


def _read(path: Path) -> object:
    return parse_yaml(read_text(path, "YAML", MAX_YAML), path) if path.exists() else None


def _texts(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, Sequence) and not isinstance(values, str) else []
