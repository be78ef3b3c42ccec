"""Reads from the folders of runs and sweeps how they were begun, as plain values."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from drolt_pl.errors import SettingError

OVERRIDES = Path(".hydra") / "overrides.yaml"
CONFIG = Path(".hydra") / "config.yaml"
CHOICES = Path(".hydra") / "hydra.yaml"
SWEEP = "multirun.yaml"  # in the folder of a sweep, as JOBS is
JOBS = "jobs.json"  # overrides of every job, by the name of its folder
FAILURE = "failure.json"  # in a job's folder: overrides, exit code, last lines


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


def sweep_overrides(sweep_dir: Path) -> list[str] | None:
    """The overrides that began a sweep, Hydra's own among them; None if its folder does not record them."""
    typed = _part(sweep_dir / SWEEP, "hydra", "overrides")
    return [*_texts(typed.get("task")), *_texts(typed.get("hydra"))] if typed else None


def listed_jobs(sweep_dir: Path) -> dict[str, list[str]]:
    """The overrides of every job of a sweep, by the name of the job's folder; empty if the sweep has no list.

    Raises:
        SettingError: the list cannot be read.
    """
    # Imported here: a command that starts needs the names above alone.
    from pydantic import TypeAdapter

    from drolt_pl.records import read_record

    path = sweep_dir / JOBS
    return read_record(path, TypeAdapter(dict[str, list[str]]).validate_json) if path.exists() else {}


def _part(path: Path, *keys: str) -> dict[str, object]:
    """The mapping in a file under nested keys; empty if the file or a key is missing."""
    node = _read(path)
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _read(path: Path) -> object:
    if not path.exists():
        return None
    try:
        content: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(str(path), f"is damaged, or no YAML ({' '.join(str(error).split())[:100]})") from error
    return content


def _texts(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, Sequence) and not isinstance(values, str) else []
