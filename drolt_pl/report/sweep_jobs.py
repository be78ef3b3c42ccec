"""What stands in a sweep's folder: its jobs, what each of them set, and how far it came."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drolt_pl.report.aggregate import NOT_IN_KEY
from drolt_pl.results import load_results

JOBS = "jobs.json"  # overrides of every job, by the name of its folder
FAILURE = "failure.json"  # in a job's folder: overrides, exit code, last lines
STATES = ("finished", "failed", "unfinished", "missing")
REMOVED = "removed"
SEEDS = ("seed", "split_seed", "dataset.split_seed")


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep.

    Attributes:
        name: The name of its folder, a number.
        state: One of `STATES`; an unfinished job runs, or was cut short.
        overrides: What it sets.
        results: Its results.json.
        failure: Its failure.json, of its last attempt.
    """

    name: str
    state: str
    overrides: Sequence[str]
    results: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None

    @property
    def settings(self) -> dict[str, str]:
        """Values by key of the overrides that set this job apart, seeds among them."""
        found = {}
        for override in self.overrides:
            key, _, value = override.partition("=")
            found[key.lstrip("+~")] = REMOVED if key.startswith("~") else value.strip("'\"")
        left_out = set(NOT_IN_KEY) - set(SEEDS)
        return {key: value for key, value in found.items() if key not in left_out and not key.startswith("logger.")}


def read_jobs(sweep_dir: str | Path) -> list[SweepJob]:
    """The jobs of a sweep, also while it runs, in the order of their numbers.

    Raises:
        ValueError: the folder is not a sweep's.
    """
    sweep_dir = Path(sweep_dir)
    listed = _json(sweep_dir / JOBS) or {}
    begun = [path.name for path in sweep_dir.glob("*") if any((path / file).exists() for file in (FAILURE, ".hydra"))]
    names = sorted({*listed, *begun}, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    if not names:
        raise ValueError(f"{sweep_dir} is not the folder of a sweep: it has no {JOBS} and no jobs")
    return [_read(sweep_dir / name, listed.get(name, [])) for name in names]


def read_command(sweep_dir: str | Path) -> str | None:
    """The command that began a sweep, without its folder; None where its multirun.yaml does not tell."""
    path = Path(sweep_dir) / "multirun.yaml"
    hydra = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("hydra", {}) if path.exists() else {}
    typed = hydra.get("overrides", {})
    words = [*typed.get("task", []), *typed.get("hydra", [])]
    kept = [word for word in words if not word.startswith(("hydra.sweep.dir=", "hydra.mode="))]
    return shlex.join(["python", "train.py", "-m", *kept]) if typed else None


def varying(jobs: Iterable[SweepJob]) -> list[str]:
    """The keys in which jobs differ, seeds left out, in the order in which they were given."""
    settings = [job.settings for job in jobs]
    keys = dict.fromkeys(key for setting in settings for key in setting if key not in SEEDS)
    return [key for key in keys if len({setting.get(key) for setting in settings}) > 1]


def _read(folder: Path, listed: Sequence[str]) -> SweepJob:
    saved = folder / ".hydra" / "overrides.yaml"
    overrides = [str(value) for value in yaml.safe_load(saved.read_text()) or []] if saved.exists() else listed
    failure = _json(folder / FAILURE)
    if (folder / "results.json").exists():
        return SweepJob(folder.name, "finished", overrides, results=load_results(folder / "results.json"))
    if failure is not None:
        return SweepJob(folder.name, "failed", failure["overrides"], failure=failure)
    return SweepJob(folder.name, "unfinished" if saved.exists() else "missing", overrides)


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
