"""Many runs of train.py that import torch once: copies of one process, as the jobs of a sweep are."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from drolt_pl.run import warm
from helpers.running import HOME, SHORT

PATHS = {"PYTHONPATH": f"{HOME}:{HOME / 'tests'}", "OMP_NUM_THREADS": "1"}


@contextmanager
def warmed() -> Iterator[warm.Server]:
    """A process that has imported what a run needs."""
    before = os.environ.get(warm.OURS)
    os.environ[warm.OURS] = "1"
    server = warm.Server(sys.executable)
    os.environ.pop(warm.OURS)
    if before is not None:
        os.environ[warm.OURS] = before
    try:
        yield server
    finally:
        server.close()


def begun(
    server: warm.Server, *words: str, cwd: Path | None = None, script: str = "train.py", **environment: str
) -> warm.Job:
    """`python train.py WORDS`."""
    surroundings: Mapping[str, str] = {**os.environ, **PATHS, **environment}
    return server.start([str(HOME / script), *words], cwd, surroundings)


def ended(job: warm.Job) -> tuple[int, str]:
    """Its code and what it said; all that it has started is gone afterwards."""
    said = job.stdout.read()
    code = job.wait()
    with suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    job.close()
    return code, said


def trains(server: warm.Server, *words: str, cwd: Path | None = None, **environment: str) -> tuple[int, str]:
    """A short run, to its end."""
    return ended(begun(server, *SHORT, *words, cwd=cwd, **environment))
