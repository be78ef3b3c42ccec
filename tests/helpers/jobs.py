"""Many runs of train.py that import torch once: copies of one process, as the jobs of a sweep are."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

from drolt_pl.run import warm
from helpers.running import HOME, SHORT

PATHS = {"PYTHONPATH": f"{HOME}:{HOME / 'tests'}", "OMP_NUM_THREADS": "1"}


def _started() -> warm.Server:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(warm.OURS, "1")
        patch.setenv("PYTHONPATH", PATHS["PYTHONPATH"])
        return warm.Server(sys.executable)


@contextmanager
def warmed() -> Iterator[warm.Server]:
    """A process that has imported what a run needs."""
    server = _started()
    try:
        yield server
    finally:
        server.close()


_server = cache(_started)  # one for the life of this process


def forked(*overrides: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python train.py OVERRIDES`, without the seconds that a new interpreter takes to import torch."""
    return python(str(HOME / "train.py"), *overrides, cwd=cwd, **environment)


def python(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python WORDS`, a script or `-m MODULE` and its arguments, in a copy of a process that has imported torch."""
    with tempfile.NamedTemporaryFile("r", errors="replace") as errors:
        try:
            apart = ["-m", "helpers.apart", errors.name, *words]
            code, said = ended(_server().start(apart, cwd, {**os.environ, **PATHS, **environment}))
        except BaseException:  # what it says next would be taken for the answer to another job
            _server().close()
            _server.cache_clear()
            raise
        return subprocess.CompletedProcess(words, code, said, errors.read())


def begun(
    server: warm.Server, *words: str, cwd: Path | None = None, script: str = "train.py", **environment: str
) -> warm.Job:
    """`python train.py WORDS`."""
    surroundings: Mapping[str, str] = {**os.environ, **PATHS, **environment}
    return server.start([str(HOME / script), *words], cwd, surroundings)


def ended(job: warm.Job) -> tuple[int, str]:
    """Its code and what it said; all that it has started is gone afterwards."""
    try:
        said = job.stdout.read()
        return job.wait(), said
    finally:  # also when the test has run out of time
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.close()


def trains(server: warm.Server, *words: str, cwd: Path | None = None, **environment: str) -> tuple[int, str]:
    """A short run, to its end."""
    return ended(begun(server, *SHORT, *words, cwd=cwd, **environment))
