"""Logs a run to Weights & Biases, without ever making training wait for its server."""

import os
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytorch_lightning as pl
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from drolt_pl import escape, folders
from drolt_pl.checked import checked
from drolt_pl.ranges import Positive, Text
from drolt_pl.records import write_atomically
from drolt_pl.regular import read_text
from drolt_pl.results import Results
from drolt_pl.tracking.wandb_tables import MAX_CHART, METRICS, accuracy_rows, confusion_chart, csv_table

if TYPE_CHECKING:
    import wandb

ID_FILE = "wandb_id"  # in the run's folder
MAX_NAME = 120
UNNAMED = ("trainer", "logger", "init_from", "sweep")  # these groups and keys say nothing about the experiment


@checked
class WandbRun(WandbLogger):
    """Logs a run's folder as one W&B run: online, offline, or not at all.

    The folder keeps the id of the W&B run, and a resumed run uses it again. The name of the W&B run is the run's
    overrides, its group the folder of the sweep (for a job of one), its job type the experiment. Rows count epochs and
    images seen. Only rank 0 creates the W&B run, at first use. If the server does not answer, the run is logged
    offline, and `wandb sync` sends it later.

    Args:
        run_dir: The run's folder.
        project: W&B project.
        mode: `online`, `offline` or `disabled`.
        entity: W&B user or team; null for the default one.
        group: Name of the group; null for the folder of the sweep.
        artifacts: Whether the best checkpoint and the split are uploaded too.
        init_timeout: Seconds to wait for a server that does not answer, at the start of a run and before its tables.
        finish_timeout: Seconds to wait for uploads at the end of a run; the run's folder keeps the rest.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        project: Text = "drolt_pl",
        mode: Literal["online", "offline", "disabled"] = "online",
        entity: Text | None = None,
        group: Text | None = None,
        artifacts: bool = False,
        init_timeout: Positive = 10.0,
        finish_timeout: Positive = 60.0,
    ) -> None:
        super().__init__(project=project, save_dir=str(run_dir), offline=mode != "online")
        self.run_dir, self.project, self.mode, self.entity, self.group = Path(run_dir), project, mode, entity, group
        self.artifacts, self.init_timeout, self.finish_timeout = artifacts, init_timeout, finish_timeout
        self._run: wandb.Run | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> "wandb.Run":
        """The W&B run, created at first use."""
        if self._run is None:
            self._run = self._start()
            # Every row holds both axes, so every chart can use either.
            for axis in ("epoch", "images_seen"):
                self._run.define_metric(axis)
            self._run.define_metric("*", step_metric="epoch")
        return self._run

    @property
    def version(self) -> str | None:
        """The id of the W&B run; None before its first use."""
        return None if self._run is None else self._run.id

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds to the row of the metrics' epoch: W&B's own step counts epochs, so a resumed run continues the rows."""
        epoch = metrics.get("epoch")
        self.experiment.log(dict(metrics), step=None if epoch is None else int(epoch))

    @rank_zero_only
    def log_histogram(self, name: str, values: Tensor, epoch: int) -> None:
        """Adds the distribution of values to the row of an epoch."""
        import wandb

        self.experiment.log({name: wandb.Histogram(values.double().cpu().numpy())}, step=epoch)

    @rank_zero_only
    def log_results(self, results: Results, confusion: Tensor | None = None, class_names: Sequence[str] = ()) -> None:
        """Logs the end of a run: tables of stages, classes and confusions, plots, and artifacts if wanted.

        Args:
            results: The run's results; its folder holds per_class.csv and may hold plots (PNG).
            confusion: Test images by class and predicted class, (C, C); no chart of it beyond `MAX_CHART` classes.
            class_names: Names by class index.
        """
        import wandb

        table = wandb.Table(columns=["model", "set", *METRICS], data=accuracy_rows(results))
        logged: dict[str, object] = {"results": table}
        if (self.run_dir / "per_class.csv").exists():
            classes = csv_table(self.run_dir / "per_class.csv", results.eps_updates)
            logged["per_class"] = classes
            title = "Test accuracy by training images of the class"
            logged["accuracy_by_class"] = wandb.plot.scatter(classes, "train_images", "acc", title=title)
        if confusion is not None and len(confusion) <= MAX_CHART:
            logged["confusion"] = confusion_chart(confusion, class_names)
        if plots := sorted({*self.run_dir.rglob("*.png")} - {*(self.run_dir / "wandb").rglob("*.png")}):
            logged["plots"] = [wandb.Image(str(path), caption=path.stem) for path in plots]
        # Online, W&B asks its server before it takes a table; that must not kill a run at its end.
        reason = _unreachable(_address(), self.init_timeout) if self.experiment.settings.mode == "online" else None
        try:
            if reason is None:
                self.experiment.log(logged)
                self._log_artifacts()
        except wandb.Error as error:
            reason = str(error).splitlines()[0]
        if reason is not None:
            print(f"W&B: {reason}; the tables of this run stand in {self.run_dir} alone")

    def _log_artifacts(self) -> None:
        import wandb

        if not self.artifacts or self.mode == "disabled":
            return
        for kind, path in (("split", "split.json"), ("model", "checkpoints/best.ckpt")):
            artifact = wandb.Artifact(f"{kind}-{self.experiment.id}", type=kind)
            artifact.add_file(str(self.run_dir / path))
            self.experiment.log_artifact(artifact)

    def finalize(self, status: str) -> None:
        """Ends a run that failed; a run that succeeded goes on to its evaluation."""
        if status != "success":
            self.finish(1)

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """Ends the run; another use would continue it."""
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            self._run = None

    def _start(self) -> "wandb.Run":
        import wandb

        fields = {**self._identity(), "project": self.project, "entity": self.entity, "dir": str(self.run_dir)}
        settings = wandb.Settings(console="off", init_timeout=self.init_timeout, finish_timeout=self.finish_timeout)
        if self.mode == "online":
            reason = _unreachable(_address(), self.init_timeout)
            try:
                if reason is None:
                    return wandb.init(**fields, mode="online", resume="allow", settings=settings)
            except wandb.Error as error:
                reason = str(error).splitlines()[0]
                wandb.teardown(1)
            os.environ["WANDB_ERROR_REPORTING"] = "false"  # else its telemetry waits for the same server at exit
            print(f"W&B: {reason}; logging offline, send it later by: wandb sync {self.run_dir}/wandb/offline-run-*")
        mode = "disabled" if self.mode == "disabled" else "offline"
        return wandb.init(**fields, mode=mode, settings=settings)

    def _identity(self) -> dict[str, str | None]:
        """Id, name, group and job type; a resumed run has the same."""
        path = self.run_dir / ID_FILE
        kept = read_text(path, "text", MAX_NAME).strip() if path.exists() else ""
        if not re.fullmatch(r"[\w-]+", kept, re.ASCII):
            kept = secrets.token_hex(4)
            write_atomically(path, kept)
        overrides = folders.overrides(self.run_dir) or []
        sweep = self.run_dir.resolve().parent
        is_job = (sweep / folders.SWEEP).exists()
        jobs = list(folders.listed_jobs(sweep).values())
        shared = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
        named = [text for text in overrides if text not in shared and not text.lstrip("+~").startswith(UNNAMED)]
        return {
            "id": kept,
            "name": escape.plain(",".join(named))[:MAX_NAME] or self.run_dir.resolve().name,
            "group": self.group or (f"{sweep.parent.name}/{sweep.name}" if is_job else None),
            "job_type": folders.choices(self.run_dir).get("experiment", "train"),
        }


def log_end(trainer: pl.Trainer, results: Results, class_names: Sequence[str], confusion: Tensor | None = None) -> None:
    """Logs a run's final accuracies to every logger, and its tables and figures to W&B; then ends the W&B run.

    Args:
        trainer: The run's trainer.
        results: The run's results.
        class_names: Names by class index.
        confusion: Test images by class and predicted class, (C, C).
    """
    sets = {"val": results.val, "test": results.test}
    scalars = {
        f"final/{part}/{key}": value
        for part, measured in sets.items()
        if measured is not None
        for key, value in measured.numbers().items()
    }
    for logger in trainer.loggers:
        logger.log_metrics(scalars, trainer.global_step)
        if isinstance(logger, WandbRun):
            logger.log_results(results, confusion, class_names)
            logger.finish(0)
        else:
            logger.finalize("success")


def _address() -> str:
    """The address of the server, from the environment and the settings files of wandb."""
    import wandb

    return str(wandb.setup().settings.base_url)


def _unreachable(address: str, seconds: float) -> str | None:
    """The reason why a server cannot be reached; None if it answers with anything."""
    try:
        urllib.request.urlopen(address, timeout=seconds).close()
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        return f"{address} does not answer ({error.reason})"
    except (OSError, ValueError) as error:
        return f"{address} does not answer ({error})"
    return None
