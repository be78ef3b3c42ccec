"""Callbacks that record a run: checkpoints by stage, metrics.csv, and the progress bar that names the stage."""

import csv
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, RichProgressBar
from rich.console import Console


class StageCheckpoint(Checkpoint):
    """Writes `last.ckpt` every epoch, and for each stage `<stage>.ckpt` at its end and `<stage>_best.ckpt`.

    `last` is written after the others: a run killed between two of them repeats that epoch and writes the same again.

    Args:
        dirpath: The run's checkpoint folder.
        schedule: The run's `Schedule`: stage borders and monitors.
    """

    def __init__(self, dirpath: str | Path, schedule: Any) -> None:
        self.dirpath, self.schedule = Path(dirpath), schedule
        self.best: dict[str, dict[str, Any]] = {}  # by stage: score, epoch, candidates
        self.seconds = 0.0  # of training, over all resumptions
        self._started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.perf_counter()
        self.seconds, self._started = self.seconds + now - self._started, now
        epoch = trainer.current_epoch
        stage = self.schedule.stage_at(epoch)
        if stage.monitor in trainer.callback_metrics and trainer.enable_validation:
            self._validated(trainer, stage.name, epoch, float(trainer.callback_metrics[stage.monitor]))
        if self.schedule.ends(epoch):
            trainer.save_checkpoint(self.dirpath / f"{stage.name}.ckpt")
        trainer.save_checkpoint(self.dirpath / "last.ckpt")

    def name_result(self, trainer: pl.Trainer) -> bool:
        """Names the run's result `best.ckpt`: the last stage's best epoch, its last where nothing was validated.

        To be called after fit, which has nothing left to do in a run that was stopped after its last epoch.

        Returns:
            Whether the last stage has been trained to its end.
        """
        trained = [stage.name for stage in self.schedule.stages if stage.epochs][-1]
        source = self.dirpath / (f"{trained}_best.ckpt" if trained in self.best else f"{trained}.ckpt")
        ended = (self.dirpath / f"{trained}.ckpt").exists()
        if trainer.is_global_zero and ended:
            partial = self.dirpath / "best.ckpt.part"
            shutil.copyfile(source, partial)
            os.replace(partial, self.dirpath / "best.ckpt")
        trainer.strategy.barrier()
        return ended

    def _validated(self, trainer: pl.Trainer, stage: str, epoch: int, score: float) -> None:
        best = self.best.setdefault(stage, {"score": None, "epoch": epoch, "candidates": 0})
        best["candidates"] += 1
        if best["score"] is None or score >= best["score"]:  # of equals the later: it has trained longer
            best |= {"score": score, "epoch": epoch}
            trainer.save_checkpoint(self.dirpath / f"{stage}_best.ckpt")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.seconds = state_dict["best"], state_dict["seconds"]


class MetricsFile(Checkpoint):
    """Writes `metrics.csv`: one row an epoch, one column a logged key, on rank 0.

    A resumed run keeps the rows of the epochs before it and replaces later ones. (A `Checkpoint` runs after the hooks
    that log.)

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning keeps the last value of every key: without this a stage would show those of the one before.
        trainer.callback_metrics.clear()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        images = getattr(pl_module, "images_seen", None)
        stage = self.stage_name(pl_module)
        row = {"epoch": trainer.current_epoch, "stage_name": stage, "images_seen": None, **metrics}
        row["images_seen"] = images  # whole, where a callback has logged it as a float
        rows = [old for old in self._read() if int(old["epoch"]) < trainer.current_epoch]
        rows.append({key: str(value) for key, value in row.items()})
        columns = list(dict.fromkeys([*row, *(key for old in rows for key in old)]))
        columns = columns[:3] + sorted(columns[3:])
        partial = self.path.with_suffix(".part")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, self.path)

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    @staticmethod
    def stage_name(pl_module: Any) -> str:
        """Name of the stage in force, empty for a module without stages."""
        return str(getattr(getattr(pl_module, "stage", None), "name", ""))


class StageProgressBar(RichProgressBar):
    """Lightning's rich bar, with the stage in its description and a line for other passes over data.

    Where standard output is no terminal, one plain line an epoch takes its place.
    """

    def __init__(self) -> None:
        super().__init__()
        if not Console().is_terminal:
            self.disable()

    def _get_train_description(self, current_epoch: int) -> str:
        stage = MetricsFile.stage_name(self.trainer.lightning_module)
        return f"{stage} {current_epoch + 1}/{self.trainer.max_epochs}"

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero and not self.is_enabled:
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
            keys = ("train/loss", "train/acc", "val/acc", "val/acc_ncm")
            shown = "  ".join(f"{key} {metrics[key]:.4f}" for key in keys if key in metrics)
            print(f"{self._get_train_description(trainer.current_epoch)}  {shown}", flush=True)

    def track(self, batches: Iterable[Any], description: str) -> Iterator[Any]:
        """Passes `batches` on, counting them in a line of the bar."""
        if self.progress is None:
            yield from batches
            return
        task = self._add_task(len(batches), description)  # type: ignore[arg-type]
        for batch in batches:
            yield batch
            self.progress.update(task, advance=1, visible=True)
        self.progress.update(task, visible=False)
        self.progress.remove_task(task)
