"""Weights & Biases: one run for each run's folder, which never makes training wait for its server."""

import csv
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

MODES = ("online", "offline", "disabled")
ID_FILE = "wandb_id"  # in the run's folder
MAX_NAME = 120
UNNAMED = ("trainer", "logger", "init_from", "sweep")  # groups and keys that say nothing about the experiment


class WandbRun(WandbLogger):
    """Logs a run's folder as one W&B run: online, offline, or not at all.

    The run's id is kept in the folder and used again on resume. Its name is the run's overrides, its group the sweep's
    folder if it is a job of one, its job type the experiment. Rows count epochs and images seen. It is created by rank
    0 alone, at its first use. Where the server does not answer, the run is logged offline: `wandb sync` sends it later.

    Args:
        run_dir: The run's folder.
        project: W&B project.
        mode: `online`, `offline` or `disabled`.
        entity: W&B user or team; null for the default one.
        group: In place of the sweep's folder.
        artifacts: Also uploads the best checkpoint and the split.
        init_timeout: Seconds that the start of a run, and its tables, wait for a server that does not answer.
        finish_timeout: Seconds that the end of a run waits for uploads; what is missing then is in the run's folder.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        project: str = "drolt_pl",
        mode: str = "online",
        entity: str | None = None,
        group: str | None = None,
        artifacts: bool = False,
        init_timeout: float = 10.0,
        finish_timeout: float = 60.0,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
        super().__init__(project=project, save_dir=str(run_dir), offline=mode != "online")
        self.run_dir, self.mode, self.entity, self.group = Path(run_dir), mode, entity, group
        self.artifacts, self.init_timeout, self.finish_timeout = artifacts, init_timeout, finish_timeout

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, created when first asked for."""
        if self._experiment is None:
            self._experiment = self._start()
            # Every row holds both, so that any chart can be drawn against either.
            for axis in ("epoch", "images_seen"):
                self._experiment.define_metric(axis)
            self._experiment.define_metric("*", step_metric="epoch")
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds to the row of the metrics' epoch: W&B's own step counts epochs, so that a resumed run goes on in it."""
        epoch = metrics.get("epoch")
        self.experiment.log(dict(metrics), step=None if epoch is None else int(epoch))

    @rank_zero_only
    def log_histogram(self, name: str, values: Tensor, epoch: int) -> None:
        """Adds the distribution of values to the row of an epoch."""
        import wandb

        self.experiment.log({name: wandb.Histogram(values.double().cpu().numpy())}, step=epoch)

    @rank_zero_only
    def log_results(
        self, results: Mapping[str, Any], confusion: Tensor | None = None, class_names: Sequence[str] = ()
    ) -> None:
        """Logs what stands at a run's end: tables of stages, classes and confusions, plots, and artifacts if wanted.

        Args:
            results: The run's results; its folder holds per_class.csv and may hold plots (PNG).
            confusion: Test images by class and predicted class, (C, C).
            class_names: Names by class index.
        """
        import wandb

        stages = results.get("stages") or {}
        measured = [(f"{name}, final", part, sets[part]) for name, sets in stages.items() for part in sets]
        measured += [("reported", part, results.get(part)) for part in ("val", "test", "test_pool")]
        metrics = ("acc", "many", "medium", "few", "acc_ncm", "acc_ncm_cosine", "ece")
        rows = [[name, part, *(found.get(key) for key in metrics)] for name, part, found in measured if found]
        logged: dict[str, Any] = {"results": wandb.Table(columns=["model", "set", *metrics], data=rows)}
        if (self.run_dir / "per_class.csv").exists():
            table = _csv_table(self.run_dir / "per_class.csv", {"updates": results.get("eps_updates")})
            logged["per_class"] = table
            title = "Test accuracy by training images of the class"
            logged["accuracy_by_class"] = wandb.plot.scatter(table, "train_images", "acc", title=title)
        if confusion is not None:
            logged["confusion"] = _confusion(confusion, class_names)
        if plots := sorted({*self.run_dir.rglob("*.png")} - {*(self.run_dir / "wandb").rglob("*.png")}):
            logged["plots"] = [wandb.Image(str(path), caption=path.stem) for path in plots]
        # Online, W&B asks its server before it takes a table: a run must not die of that at its end.
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
        """Ends a run that failed; one that succeeds goes on to its evaluation."""
        if status != "success":
            self.finish(1)

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """Ends the run; the next use would continue it."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=exit_code)
            self._experiment = None

    def _start(self) -> Any:
        import wandb

        fields = {**self._identity(), "project": self._project, "entity": self.entity, "dir": str(self.run_dir)}
        settings = wandb.Settings(console="off", init_timeout=self.init_timeout, finish_timeout=self.finish_timeout)
        if self.mode == "online":
            reason = _unreachable(_address(), self.init_timeout)
            try:
                if reason is None:
                    return wandb.init(**fields, mode="online", resume="allow", settings=settings)
            except wandb.Error as error:
                reason = str(error).splitlines()[0]
                wandb.teardown(1)
            os.environ["WANDB_ERROR_REPORTING"] = "false"  # its telemetry would wait for the same server at exit
            print(f"W&B: {reason}; logging offline, send it later by: wandb sync {self.run_dir}/wandb/offline-run-*")
        mode = "disabled" if self.mode == "disabled" else "offline"
        return wandb.init(**fields, mode=mode, settings=settings)

    def _identity(self) -> dict[str, str | None]:
        """Id, name, group and job type, the same each time that the run of this folder goes on."""
        path = self.run_dir / ID_FILE
        if not path.exists():
            path.write_text(secrets.token_hex(4))
        overrides = [str(override) for override in _yaml(self.run_dir / ".hydra" / "overrides.yaml") or []]
        choices = (_yaml(self.run_dir / ".hydra" / "hydra.yaml") or {}).get("hydra", {}).get("runtime", {})
        sweep = self.run_dir.resolve().parent
        is_job = (sweep / "multirun.yaml").exists()
        jobs = list((_yaml(sweep / "jobs.json") or {}).values())
        shared = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
        named = [text for text in overrides if text not in shared and not text.lstrip("+~").startswith(UNNAMED)]
        return {
            "id": path.read_text().strip(),
            "name": ",".join(named)[:MAX_NAME] or self.run_dir.resolve().name,
            "group": self.group or (f"{sweep.parent.name}/{sweep.name}" if is_job else None),
            "job_type": str((choices.get("choices") or {}).get("experiment") or "train"),
        }


def log_end(trainer: Any, results: Mapping[str, Any], class_names: Sequence[str]) -> None:
    """Logs a run's final accuracies with every logger, tables and figures with W&B, and ends its W&B run."""
    flat = {f"{part}/{key}": value for part in ("val", "test") for key, value in (results[part] or {}).items()}
    scalars = {f"final/{key}": value for key, value in flat.items() if isinstance(value, float)}
    for logger in trainer.loggers:
        logger.log_metrics(scalars, trainer.global_step)
        if isinstance(logger, WandbRun):
            diagnostics = next((callback for callback in trainer.callbacks if hasattr(callback, "confusion")), None)
            logger.log_results(results, getattr(diagnostics, "confusion", None), class_names)
            logger.finish(0)
        else:
            logger.finalize("success")


def _address() -> str:
    """The server that wandb's environment and settings files name."""
    import wandb

    return str(wandb.setup().settings.base_url)


def _unreachable(address: str, seconds: float) -> str | None:
    """Why a server cannot be reached; None if it answers, whatever it says."""
    try:
        urllib.request.urlopen(address, timeout=seconds).close()
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return f"{address} does not answer ({getattr(error, 'reason', None) or error})"
    return None


def _csv_table(path: Path, added: Mapping[str, Sequence[Any] | None]) -> Any:
    import wandb

    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    columns = {name: values for name, values in added.items() if values is not None}
    typed = [[_number(cell) for cell in row] + [column[i] for column in columns.values()] for i, row in enumerate(rows)]
    return wandb.Table(columns=[*head, *columns], data=typed, allow_mixed_types=True)


def _confusion(counts: Tensor, names: Sequence[str]) -> Any:
    import wandb

    labels = [str(name) for name in names] or [str(index) for index in range(len(counts))]
    data = [[labels[i], labels[j], int(count)] for i, row in enumerate(counts) for j, count in enumerate(row)]
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=data),
        {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"},
        {"title": "Test images"},
    )


def _number(cell: str) -> float | str | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
