"""What a run shows while it trains: a bar for all stages, with the time that is left, and the stage's own below it."""

import time
from collections.abc import Iterable, Iterator

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import STEP_OUTPUT
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text
from torch import Tensor

from drolt_pl.learning.module import ours
from drolt_pl.lightning_internals import TrackingBar
from drolt_pl.run.clock import Clock
from drolt_pl.run.durations import spelt

SETS = {"train": "training set", "val": "validation set", "test": "test set", "test_pool": "test pool"}
SHOWN = ("train/loss", "train/acc", "val/acc", "val/acc_ncm")
EVERY = 0.5  # seconds between two looks at the clock


class _Count(ProgressColumn):
    """`epoch 12/125` of the run, `23/41` of what has steps."""

    def render(self, task: Task) -> Text:
        total = int(task.total or 0)
        if "left" not in task.fields:
            return Text(f"{int(task.completed)}/{total}")
        return Text(f"epoch {min(int(task.completed) + 1, total)}/{total}")


class _Left(ProgressColumn):
    """The time that is left; of what has ended, the time that it took."""

    max_refresh = EVERY

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text("" if task.finished_time is None else spelt(task.finished_time), style="dim")
        left = task.fields.get("left", task.time_remaining)
        return Text("" if left is None else f"{spelt(left)} left", style="dim")


class _Metrics(ProgressColumn):
    """What the stage has reached; cut where the terminal ends."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("shown", "")), style="italic")


class StageProgressBar(TrackingBar):
    """Lightning's rich bar for the stage's epochs, below a bar for the run, and a line for other passes over data.

    If standard output is no terminal, one plain line per epoch takes its place.

    Args:
        clock: Measures epochs, and foresees those that are left.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self._first: int | None = None  # epoch of this process
        self._run: TaskID | None = None
        self._looked = 0.0
        self._tested = ""
        if not Console().is_terminal:
            self.disable()

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        whole, cut = Column(no_wrap=True), Column(no_wrap=True, overflow="ellipsis")
        parts = _Count(whole), _Left(whole), _Metrics(cut)
        return [TextColumn("{task.description}", table_column=whole), BarColumn(15), *parts]

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Nothing: Lightning's own column would read every value back at every step; `_Metrics` shows them."""
        return {}

    def description(self, epoch: int) -> str:
        """`joint 12/30`: the epoch of its stage."""
        schedule = self.clock.schedule
        stage = schedule.stage_at(epoch)
        return f"{stage.name} {epoch - schedule.first_epoch(stage.name) + 1}/{stage.epochs}"

    # ---- training ----

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._first = trainer.current_epoch
        self.clock.begin()
        if self.progress is not None:
            self._run = self.progress.add_task(
                "run", total=trainer.max_epochs or 0, completed=trainer.current_epoch, left=None
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        now = time.perf_counter()
        if self._run is not None and now - self._looked > EVERY:
            self._looked = now
            self._show_run(trainer, min((batch_idx + 1) / max(trainer.num_training_batches, 1), 0.99))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        epoch = trainer.current_epoch
        seconds = self.clock.end(epoch)
        self._show_run(trainer, 1.0)
        if not trainer.is_global_zero:
            return
        left = self.clock.remaining(epoch)
        if not self.is_enabled:
            print(self._plain(trainer, epoch), flush=True)
        if epoch == self._first and left:
            print(f"epoch {epoch + 1} took {spelt(seconds)}: training takes about {spelt(left)} more", flush=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit" and self.progress is not None and self.train_progress_bar_id is not None:
            shown = " ".join(f"{key} {float(value):.3f}" for key, value in trainer.progress_bar_metrics.items())
            self.progress.update(self.train_progress_bar_id, shown=shown)

    def _show_run(self, trainer: pl.Trainer, share: float) -> None:
        if self.progress is not None and self._run is not None:
            epoch = trainer.current_epoch
            left = self.clock.remaining(epoch, share)
            self.progress.update(self._run, total=trainer.max_epochs, completed=epoch + share, left=left)

    def _plain(self, trainer: pl.Trainer, epoch: int) -> str:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        shown = "  ".join(f"{key} {metrics[key]:.4f}" for key in SHOWN if key in metrics)
        left = self.clock.remaining(epoch)
        words = f"  {spelt(left)} left" if left else ""
        return f"{self.clock.schedule.stage_at(epoch).name} {epoch + 1}/{trainer.max_epochs}  {shown}{words}"

    # ---- tests and other passes ----

    @property
    def test_description(self) -> str:
        return self._tested

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_test_start(trainer, pl_module)
        module = ours(pl_module)
        if trainer.is_global_zero and not self.is_enabled:
            sets = ", ".join(SETS.get(name, name) for name in module.evaluation.names)
            print(f"measuring {module.stage.name}: {sets}", flush=True)

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        module = ours(pl_module)
        name = module.evaluation.names[dataloader_idx]
        self._tested = f"{module.stage.name}: {SETS.get(name, name)}"
        super().on_test_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)

    def track(self, batches: Iterable[tuple[Tensor, Tensor]], description: str, /) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields `batches` and counts them in a line of the bar."""
        return self.counted(_length(batches), batches, description)


def _length(batches: Iterable[tuple[Tensor, Tensor]]) -> int | None:
    """The number of batches; null if the loader does not know it."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:
        return None
