"""Records of a run: callbacks for checkpoints by stage and metrics.csv, and the tables of the test set."""

import csv
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from drolt_pl import escape, folders
from drolt_pl.disk import replacing
from drolt_pl.errors import SettingError
from drolt_pl.learning.module import ours
from drolt_pl.learning.schedule import Schedule, Stage
from drolt_pl.records import write_atomically


@dataclass
class Best:
    """The best epoch of a stage by its monitor, the number of epochs compared, and the epoch that last was better."""

    score: float | None
    epoch: int
    candidates: int
    risen: int = -1


class StageCheckpoint(Checkpoint):
    """Writes `last.ckpt` every epoch, `<stage>.ckpt` at the end of each stage, and `<stage>_best.ckpt`.

    A stage with a `patience` ends here, once so many epochs have not been better than the best before them.

    `last` is written after the others: a run that is killed in between repeats the epoch and writes the same files
    again. An epoch that Lightning cut short (`max_time`, `max_steps`) leaves nothing: a resumed run repeats it.

    Args:
        dirpath: The run's checkpoint folder.
        schedule: The run's `Schedule`: stage borders and monitors.

    Attributes:
        best: The best epoch of each stage that was validated.
        seconds: Time spent in training, over all resumptions.
        taken: Time that another run spent on the stages which `init_from` takes; null where its checkpoint is silent.
    """

    def __init__(self, dirpath: str | Path, schedule: Schedule) -> None:
        self.dirpath, self.schedule = Path(dirpath), schedule
        self.best: dict[str, Best] = {}
        self.seconds, self._started = 0.0, 0.0
        self.taken: float | None = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.perf_counter()
        self.seconds, self._started = self.seconds + now - self._started, now
        if trainer.fit_loop.epoch_loop.batch_progress.current.completed < trainer.num_training_batches:
            return
        epoch = trainer.current_epoch
        stage = self.schedule.stage_at(epoch)
        if stage.monitor in trainer.callback_metrics and trainer.enable_validation:
            best = self._validated(trainer, stage.name, epoch, float(trainer.callback_metrics[stage.monitor]))
            if stage.patience is not None and epoch - best.risen >= stage.patience:
                self._end_early(trainer, stage, best)
        if self.schedule.ends(epoch):
            trainer.save_checkpoint(self.dirpath / f"{stage.name}.ckpt")
        trainer.save_checkpoint(self.dirpath / "last.ckpt")

    def has_ended(self) -> bool:
        """Whether the last stage with epochs was trained to its end."""
        last = self.schedule.trained[-1].name  # `_init` where `init_from` took the stage from another run
        return any((self.dirpath / f"{last}{end}.ckpt").exists() for end in ("", "_init"))

    def name_result(self, trainer: pl.Trainer, source: str) -> None:
        """Copies the checkpoint of the reported model to `best.ckpt`."""
        if trainer.is_global_zero:
            with (self.dirpath / source).open("rb") as file, replacing(self.dirpath / "best.ckpt") as copy:
                shutil.copyfileobj(file, copy)
        trainer.strategy.barrier()

    def _end_early(self, trainer: pl.Trainer, stage: Stage, best: Best) -> None:
        epoch = trainer.current_epoch
        if self.schedule.ends(epoch):
            return
        self.schedule.end(epoch)
        trainer.fit_loop.max_epochs = self.schedule.epochs
        if trainer.is_global_zero:
            print(
                f"stage {stage.name} ends after {self.schedule.ended[stage.name]} of {stage.epochs} epochs: "
                f"{stage.monitor} was best in epoch {best.risen + 1} ({best.score:.4f}), patience {stage.patience}",
                flush=True,
            )

    def _validated(self, trainer: pl.Trainer, stage: str, epoch: int, score: float) -> Best:
        best = self.best.setdefault(stage, Best(None, epoch, 0))
        best.candidates += 1
        if best.score is None or score > best.score:
            best.risen = epoch
        if best.score is None or score >= best.score:  # of equals the later: it has trained longer
            best.score, best.epoch = score, epoch
            trainer.save_checkpoint(self.dirpath / f"{stage}_best.ckpt")
        return best

    @classmethod
    def taking(cls, states: Mapping[str, Any]) -> dict[str, Any]:
        """The states of callbacks for a run that starts after the stages of another, whose states these are."""
        theirs = states.get(cls.__qualname__) or {}
        parts = theirs.get("seconds"), theirs.get("taken", 0.0)
        known = [part for part in parts if isinstance(part, int | float)]
        taken = sum(known) if len(known) == len(parts) else None
        return {cls.__qualname__: {"best": {}, "seconds": 0.0, "taken": taken}}

    def state_dict(self) -> dict[str, Any]:
        best = {stage: asdict(best) for stage, best in self.best.items()}
        return {"best": best, "seconds": self.seconds, "taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = {stage: Best(**best) for stage, best in state_dict["best"].items()}
        self.seconds, self.taken = state_dict["seconds"], state_dict.get("taken", 0.0)


class MetricsFile(Checkpoint):
    """Writes `metrics.csv`: one row an epoch, one column a logged key, on rank 0.

    A resumed run keeps the rows of earlier epochs and replaces later ones. (It is a `Checkpoint`, since those run after
    the hooks that log.)

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning keeps the last value of every key: without this a stage would show values of the one before.
        trainer.callback_metrics.clear()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        module = ours(pl_module)
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        row: dict[str, object] = {"epoch": trainer.current_epoch, "stage_name": module.stage.name, "images_seen": None}
        row |= metrics
        row["images_seen"] = module.images_seen  # whole, where a callback has logged it as a float
        rows = [old for old in self._read() if int(old["epoch"]) < trainer.current_epoch]
        rows.append({key: str(value) for key, value in row.items()})
        columns = list(dict.fromkeys([*row, *(key for old in rows for key in old)]))
        columns = columns[:3] + sorted(columns[3:])
        file = io.StringIO()
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, file.getvalue())

    def _read(self) -> list[dict[str, str]]:
        """The rows of the epochs before; a damaged file loses its rows, and the run goes on."""
        try:
            return folders.metric_rows(self.path)
        except SettingError as error:
            print(f"warning: {self.path} is damaged and begins anew ({error})", flush=True)
            return []


def write_of_test(
    run_dir: Path, class_names: Sequence[str], confusion: Tensor | None, calibration: Tensor | None
) -> None:
    """Writes confusion.csv, a row for each pair of classes that occurs, and calibration.csv, a row for each bin.

    Args:
        run_dir: The run's folder.
        class_names: Names by class index.
        confusion: Test images by class and predicted class, (C, C).
        calibration: Images, right images and summed confidence by equal bins of the confidence, (3, bins).
    """
    tables: dict[str, list[Sequence[object]]] = {}
    if confusion is not None:
        counted = confusion.cpu()
        pairs = [(*pair, int(counted[pair[0], pair[1]])) for pair in counted.nonzero().tolist()]
        rows = [(escape.cell(class_names[true]), escape.cell(class_names[taken]), n) for true, taken, n in pairs]
        tables["confusion.csv"] = [("name", "predicted", "images"), *rows]
    if calibration is not None:
        bins = [(int(n), right / n, confidence / n) for n, right, confidence in calibration.T.tolist() if n]
        tables["calibration.csv"] = [("images", "accuracy", "confidence"), *bins]
    for name, table in tables.items():
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows(table)
        write_atomically(run_dir / name, file.getvalue())
