"""Where a sweep stands: how many of its jobs have begun, and how long the others will take."""

import os
import time
from pathlib import Path

from drolt_pl.folders import FAILURE
from drolt_pl.run.durations import spelt
from drolt_pl.run.leftovers import is_begun

VARIABLE = "DROLT_JOBS"  # number of jobs, and when the sweep was started, in the environment of its processes
ENDED = ("results.json", FAILURE)


def mark_jobs(total: int) -> None:
    """Tells the processes that launchers start how many jobs the sweep has, and that it starts now."""
    os.environ[VARIABLE] = f"{total} {time.time()}"


def headway(run_dir: Path) -> str | None:
    """`job 3 of 147, 41 min left`, for the job that begins in a folder; null where no sweep of ours has told.

    Jobs that run at once are seen in how many end in a time.
    """
    total, _, started = os.environ.get(VARIABLE, "").partition(" ")
    if not started:
        return None
    siblings = [folder for folder in run_dir.parent.iterdir() if folder.is_dir()] if run_dir.parent.is_dir() else []
    ends = {folder: moment for folder in siblings if (moment := _ended(folder)) is not None}
    begun = {folder for folder in siblings if folder in ends or is_begun(folder)} | {run_dir}
    line = f"job {len(begun)} of {total}"
    ended_now = sum(moment >= float(started) for moment in ends.values())
    if not ended_now:
        return line
    left = max(int(total) - len(ends), 0) * (time.time() - float(started)) / ended_now
    return f"{line}, {spelt(left)} left"


def _ended(folder: Path) -> float | None:
    """When a job has ended, well or not; null for one that has not."""
    for name in ENDED:
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return None
