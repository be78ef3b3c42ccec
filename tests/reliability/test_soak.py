"""Sixty runs in one sweep leave nothing behind, and the process that starts them does not grow."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.running import HOME, SHORT

JOBS = 60


def kept(process: int) -> dict[str, int]:
    """What a process holds: memory in kB, threads, descriptors."""
    lines = (line.split(":") for line in Path(f"/proc/{process}/status").read_text().splitlines())
    status = {name: words.split() for name, words in lines}
    descriptors = len(os.listdir(f"/proc/{process}/fd"))
    return {"kB": int(status["VmRSS"][0]), "threads": int(status["Threads"][0]), "descriptors": descriptors}


@pytest.mark.slow
def test_sixty_runs_in_one_sweep(tmp_path: Path, record_property: Callable[[str, int], None]) -> None:
    seeds = f"seed=range({JOBS})"
    short = [word.replace("epochs=2", "epochs=1") for word in SHORT]
    words = ["-m", seeds, *short, "num_threads=1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    sweep = subprocess.Popen(
        [sys.executable, str(HOME / "train.py"), *words],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )

    def done() -> int:
        return len(list((tmp_path / "sweep").glob("*/results.json")))

    seen = {}
    while sweep.poll() is None:
        count = done()
        if count in (JOBS // 6, JOBS - 2) and count not in seen:
            seen[count] = kept(sweep.pid)
        time.sleep(0.02)
    assert sweep.returncode == 0
    assert done() == JOBS
    early, late = seen[JOBS // 6], seen[JOBS - 2]
    assert late["threads"] <= early["threads"] + 1  # one that is about to end
    assert late["descriptors"] <= early["descriptors"] + 2  # the streams of a job that begins
    assert late["kB"] < early["kB"] + 20_000
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout.split()
    assert left == []
    record_property("runs", JOBS)
