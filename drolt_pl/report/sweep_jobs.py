"""Reads the folder of a sweep: its jobs, the settings of each, and how far each one came."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drolt_pl import folders
from drolt_pl.errors import SettingError
from drolt_pl.records import Record, read_record
from drolt_pl.report.aggregate import NOT_IN_KEY
from drolt_pl.results import Results

STATES = ("finished", "failed", "unfinished", "missing")
REMOVED = "removed"
SEEDS = ("seed", "split_seed", "dataset.split_seed")


class Failure(Record):
    """The record of a failed job, failure.json in its folder.

    Attributes:
        overrides: The overrides of the job.
        exit_code: The exit code of its process.
        last_lines: The last lines that it printed.
    """

    overrides: Sequence[str]
    exit_code: int
    last_lines: Sequence[str]


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep.

    Attributes:
        name: The name of its folder, a number.
        state: One of `STATES`; an unfinished job runs, or was cut short.
        overrides: Its overrides.
        results: The results of a finished job.
        failure: The record of a failed job, from its last attempt.
    """

    name: str
    state: str
    overrides: Sequence[str]
    results: Results | None = None
    failure: Failure | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The values that this job sets, by key; seeds are among them."""
        found = {}
        for override in self.overrides:
            key, _, value = override.partition("=")
            found[key.lstrip("+~")] = REMOVED if key.startswith("~") else value.strip("'\"")
        left_out = set(NOT_IN_KEY) - set(SEEDS)
        return {key: value for key, value in found.items() if key not in left_out and not key.startswith("logger.")}


def read_jobs(sweep_dir: str | Path) -> list[SweepJob]:
    """Reads the jobs of a sweep, also while it runs, in the order of their numbers.

    Raises:
        SettingError: the folder is not a sweep's, or a file in it cannot be read.
    """
    sweep_dir = Path(sweep_dir)
    listed = folders.listed_jobs(sweep_dir)
    begun = [
        path.name for path in sweep_dir.glob("*") if any((path / file).exists() for file in (folders.FAILURE, ".hydra"))
    ]
    names = sorted({*listed, *begun}, key=_in_order)
    if not names:
        raise SettingError(str(sweep_dir), f"is not the folder of a sweep: it has no {folders.JOBS} and no jobs")
    return [_read(sweep_dir / name, listed.get(name, [])) for name in names]


def read_command(sweep_dir: str | Path) -> str | None:
    """The command that began a sweep, without its folder; None where its multirun.yaml does not say."""
    words = folders.sweep_overrides(Path(sweep_dir))
    if words is None:
        return None
    kept = [word for word in words if not word.startswith(("hydra.sweep.dir=", "hydra.mode="))]
    return shlex.join(["python", "train.py", "-m", *kept])


def varying(jobs: Iterable[SweepJob]) -> list[str]:
    """The keys in which jobs differ, without seeds, in the order in which they were given."""
    settings = [job.settings for job in jobs]
    keys = dict.fromkeys(key for setting in settings for key in setting if key not in SEEDS)
    return [key for key in keys if len({setting.get(key) for setting in settings}) > 1]


def _in_order(name: str) -> tuple[bool, int, str]:
    """Numbers first, in their order."""
    return not folders.is_number(name), int(name) if folders.is_number(name) else 0, name


def _read(folder: Path, listed: Sequence[str]) -> SweepJob:
    saved = folders.overrides(folder)
    overrides = listed if saved is None else saved
    if (folder / "results.json").exists():
        return SweepJob(folder.name, "finished", overrides, results=Results.load(folder / "results.json"))
    if (folder / folders.FAILURE).exists():
        failure = read_record(folder / folders.FAILURE, Failure.model_validate_json)
        return SweepJob(folder.name, "failed", failure.overrides, failure=failure)
    return SweepJob(folder.name, "missing" if saved is None else "unfinished", overrides)
