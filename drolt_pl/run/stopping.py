"""A run that ends before its time, told to stop or short of a rank: all its processes end, and one says why."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Checkpoint

from drolt_pl.lightning_internals import give_ranks, leave_signals
from drolt_pl.run import ranks
from drolt_pl.run.jobs import resume_command
from drolt_pl.run.mishaps import is_lost_peer
from drolt_pl.run.signals import Signals, Stopped, end_at_once, told_by

LOOKS_EVERY = 10  # steps between two looks of several GPUs, which wait for each other then; CPUs look at every step
PATIENCE = 10.0  # seconds that a process waits for the others to end by themselves


class Ending:
    """Sees to it that a run, once it cannot go on, ends on all its ranks and says so once.

    Args:
        run_dir: The run's folder.

    Attributes:
        epochs: Of all stages.
        saved: Epochs after which a checkpoint was written.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self.epochs, self.saved = run_dir, 0, 0
        self.signals = Signals(self._last_words)
        self._ranks: Sequence[subprocess.Popen[Any]] = ()
        self._over = threading.Event()

    def watch(self, trainer: pl.Trainer, epochs: int) -> None:
        """Takes over from Lightning who hears signals and who looks after the ranks that it starts."""
        self.epochs = epochs
        leave_signals(trainer)
        give_ranks(trainer, self._started)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Everything that the run does happens inside."""
        try:
            with self.signals:
                yield
        except Stopped as stopped:
            stopped.sentence = self._sentence(stopped.number)
            raise
        except Exception as error:
            lost = self._lost_rank() if is_lost_peer(error) else None
            number = self.signals.number or told_by(lost[1] if lost else None)
            if number is not None:
                # What was told to stop may break anywhere: workers and ranks hear of it too.
                raise Stopped(number, self._sentence(number)) from error
            if lost is None:
                raise
            raise ChildProcessError(_of_lost(*lost)) from error
        finally:
            self._over.set()
            self._end_ranks()

    def _sentence(self, number: int) -> str:
        if not ranks.is_first():
            return ""
        what = f"stopped by {Stopped(number)}"
        if not self.epochs:
            return f"{what} before it had begun"
        what = f"{what} after {self.saved} of {self.epochs} epochs"
        return f"{what}; go on with: {resume_command(self.run_dir)}"

    def _last_words(self, number: int) -> None:
        for process in self._ranks:
            process.kill()
        if sentence := self._sentence(number):
            print(sentence, file=sys.stderr, flush=True)

    # ---- the ranks that this process has started ----

    def _started(self, processes: Sequence[subprocess.Popen[Any]]) -> None:
        self._ranks = processes
        threading.Thread(target=self._look_after_ranks, daemon=True, name="ranks").start()

    def _look_after_ranks(self) -> None:
        """A rank that ends takes the run with it: this process waits for it in an exchange, perhaps for ever."""
        while not self._over.wait(0.5):
            gone = [(rank, code) for rank, one in enumerate(self._ranks, 1) if (code := one.poll()) not in (None, 0)]
            if not gone:
                continue
            rank, code = gone[0]
            number = told_by(code)
            if number is not None:
                self.signals.tell(number)
            elif not self._over.wait(PATIENCE):
                for process in self._ranks:
                    process.kill()
                print(f"error: {_of_lost(rank, code)}; go on with: {resume_command(self.run_dir)}", file=sys.stderr)
                end_at_once(1)
            return

    def _lost_rank(self) -> tuple[int, int] | None:
        """The first rank that is gone, and its exit code; it may take a moment to be."""
        end = time.monotonic() + PATIENCE
        while self._ranks and time.monotonic() < end:
            for rank, process in enumerate(self._ranks, 1):
                if process.poll() not in (None, 0):
                    return rank, process.returncode
            time.sleep(0.05)
        return None

    def _end_ranks(self) -> None:
        end = time.monotonic() + PATIENCE
        for process in self._ranks:
            try:
                process.wait(max(end - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _of_lost(rank: int, code: int) -> str:
    return f"rank {rank} of this run ended with exit code {code}, see above for what it said"


class StopWhenTold(Checkpoint):
    """Ends a training that was told to stop: between two steps, or where an epoch has ended, once that is saved.

    (A `Checkpoint` runs after the hooks that log, and after those before it that save.)

    Args:
        ending: The run's.
    """

    def __init__(self, ending: Ending) -> None:
        self.ending = ending

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ending.saved = trainer.current_epoch
        self.ending.signals.finishing = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ending.signals.finishing = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        looks = trainer.world_size == 1 or pl_module.device.type == "cpu" or batch_idx % LOOKS_EVERY == 0
        if looks and not trainer.is_last_batch:
            self._stop_if_told(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ending.saved = trainer.current_epoch + 1
        self.ending.epochs = trainer.max_epochs or 0  # fewer, once a stage has ended before its time
        self._stop_if_told(trainer, pl_module)

    def _stop_if_told(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        number = self.ending.signals.number or 0
        if trainer.world_size > 1:
            told = torch.tensor(number, device=pl_module.device)
            dist.all_reduce(told, dist.ReduceOp.MAX)
            number = int(told)
        if number:
            raise Stopped(number)
