"""Reads from the folders of runs and sweeps how they began and went, as plain values."""

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from drolt_pl.errors import SettingError
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
    """The rows of the text of metrics.csv, each with a whole number as its epoch.

    Raises:
        SettingError: it is no such table; `name` says which.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        if not all(None not in row and None not in row.values() and is_number(row["epoch"]) for row in rows):
            raise ValueError("a row does not fit the first line")
    except (csv.Error, KeyError, ValueError) as error:
        reason = "no column is called epoch" if isinstance(error, KeyError) else error
        raise SettingError(name, f"is no table of epochs: {reason}") from error
    return rows


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
