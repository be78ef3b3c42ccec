"""Faults for the tests: a run that is killed or told to stop at a moment, a file that is damaged, a full disk."""

import errno
import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from drolt_pl import disk
from drolt_pl.run.assemble import Run, assemble
from helpers.running import HOME, SHORT, composed, tensors

SAME = ("stages", "test", "val", "eps", "images_seen", "selection", "objective")  # of results.json


class Kill(pl.Callback):
    """Sends this process a signal at a moment of a stage's second epoch.

    Args:
        number: The signal.
        stage: The stage.
        moment: Name of the hook.
    """

    def __init__(self, number: int, stage: str, moment: str) -> None:
        self.number, self.stage, self.sent = number, stage, False
        setattr(self, moment, self._send)

    def _send(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        second = trainer.current_epoch > pl_module.schedule.first_epoch(self.stage)
        if not self.sent and pl_module.stage.name == self.stage and (second or trainer.state.fn == "test"):
            self.sent = True
            os.kill(os.getpid(), self.number)


def kill_override(number: int, stage: str, moment: str) -> str:
    """The override that adds `Kill` to a run."""
    return f"+callbacks.kill={{_target_: helpers.faults.Kill, number: {number}, stage: {stage}, moment: {moment}}}"


def assembled(run_dir: Path, *overrides: str) -> Run:
    """A short run, assembled and not trained."""
    return assemble(composed(*SHORT, *overrides), run_dir, HOME / "conf")


def require_same(run_dir: Path, whole: Path) -> None:
    """Two runs end in the same weights, optimizer state, results and metrics, bit for bit.

    The last stage's own checkpoint holds its end: `last` is not written again by a run that has nothing left to train.
    """
    name = Path("checkpoints") / "rebalance.ckpt"
    ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (run_dir, whole))
    for part in ("state_dict", "optimizer_states"):
        mine, other = tensors(ours[part]), tensors(theirs[part])
        assert mine.keys() == other.keys()
        assert [key for key in mine if not torch.equal(mine[key], other[key])] == []
    results = [json.loads((folder / "results.json").read_text()) for folder in (run_dir, whole)]
    assert {key: results[0][key] for key in SAME} == {key: results[1][key] for key in SAME}
    assert untimed(run_dir / "metrics.csv") == untimed(whole / "metrics.csv")


def untimed(path: Path) -> list[list[str]]:
    """The rows of metrics.csv without columns of times."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    kept = [column for column, name in enumerate(rows[0]) if not name.startswith("time/")]
    return [[row[column] for column in kept] for row in rows]


def cut(data: bytes, share: float) -> bytes:
    """The first part of a file."""
    return data[: int(len(data) * share)]


def flipped(data: bytes, generator: random.Random) -> bytes:
    """A file with one bit changed."""
    place = generator.randrange(len(data) * 8)
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@contextmanager
def full_disk(at: int, number: int = errno.ENOSPC) -> Iterator[list[int]]:
    """A disk that is full from the `at`-th file on that a run brings to it; gives the number of files asked for."""
    asked = [0]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            asked[0] += 1
            if asked[0] >= at:
                raise OSError(number, os.strerror(number))
        real(descriptor)

    disk.os.fsync = fsync  # type: ignore[attr-defined]
    try:
        yield asked
    finally:
        disk.os.fsync = real  # type: ignore[attr-defined]


@contextmanager
def default_signals() -> Iterator[None]:
    """The handlers that a fresh process has, put back afterwards."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
