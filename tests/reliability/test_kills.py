"""A run that is killed, at any moment, goes on bit for bit; its temporary files are on another file system."""

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.faults import require_same
from helpers.jobs import begun, ended, trains, warmed
from helpers.running import SHORT

from drolt_pl.run import warm

RANKS = {1: (), 2: ("trainer.devices=2", "trainer.strategy=ddp", "dataset.batch_size=64")}
OPTIONS = ("loss.eps_mode=learned", "schedule.stages.rebalance.start_from=best")
WRITES = 60  # of a short run, about: files and folders that are brought to the disk


@pytest.fixture(scope="module")
def server() -> Iterator[warm.Server]:
    with warmed() as server:
        yield server


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A folder for temporary files on another file system than the run's."""
    folder = tempfile.mkdtemp(dir="/dev/shm")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def killed(server: warm.Server, *words: str, after: float, at: int, **environment: str) -> int:
    """The code of a short run that is killed at a random moment, or in the middle of a write."""
    generator = random.Random(at)
    if at % 2:
        job = begun(server, *SHORT, *words, **environment)
        time.sleep(generator.uniform(0.2, 1) * after)
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    else:
        write = str(generator.randrange(1, WRITES))
        script = "tests/helpers/killed_train.py"
        job = begun(server, *SHORT, *words, script=script, KILL_AT=write, **environment)
    return ended(job)[0]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", RANKS)
def test_thirty_kills(
    ranks: int, server: warm.Server, elsewhere: str, tmp_path: Path, record_property: Callable[[str, int], None]
) -> None:
    overrides = (*RANKS[ranks], *OPTIONS)
    for name in ("warm", "whole"):
        start = time.monotonic()
        code, said = trains(server, *overrides, f"hydra.run.dir={tmp_path / name}", TMPDIR=elsewhere)
        assert code == 0, said
        seconds = time.monotonic() - start
    kills = 20 if ranks == 1 else 10
    for number in range(kills):
        run_dir, code = tmp_path / str(number), 0
        while code != -signal.SIGKILL:  # again, where it was done before
            shutil.rmtree(run_dir, ignore_errors=True)
            code = killed(server, *overrides, f"hydra.run.dir={run_dir}", after=seconds, at=number, TMPDIR=elsewhere)
            seconds *= 1 if code else 0.9
        code, said = ended(begun(server, f"resume={run_dir}", TMPDIR=elsewhere))
        assert code == 0, f"{number}: {said}"
        require_same(run_dir, tmp_path / "whole")
    record_property("kills", kills)
