"""Assembles a run from its configuration, ready to be trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
from omegaconf import DictConfig

from drolt_pl.data import LongTailDataModule
from drolt_pl.errors import SettingError, require
from drolt_pl.learning.averaging import AverageWeights
from drolt_pl.learning.collapse import WarnOfCollapse
from drolt_pl.learning.guard import Guard
from drolt_pl.learning.module import DROLTModule
from drolt_pl.learning.same_ranks import SameOnAllRanks
from drolt_pl.learning.schedule import Schedule
from drolt_pl.lightning_internals import allow_unused_parameters
from drolt_pl.run import parts, ranks
from drolt_pl.run.advice import Speed, settle_speed
from drolt_pl.run.build import build, not_finite, plain, under
from drolt_pl.run.checkpoints import CheckpointFiles, identity
from drolt_pl.run.clock import clock_of
from drolt_pl.run.outcome import batch_sentence
from drolt_pl.run.progress import StageProgressBar
from drolt_pl.run.recording import MetricsFile, StageCheckpoint
from drolt_pl.run.stopping import Ending, StopWhenTold
from drolt_pl.run.switches import require_fitting

TEST_SELECTED = "protocol=test_selected chooses epochs on the test set: its accuracies are optimistic"


@dataclass(frozen=True)
class Run:
    """An assembled run.

    Attributes:
        config: The composed configuration.
        folder: The run's folder; everything is written into it.
        datamodule: The data module, split.
        module: Network, objectives and stages.
        trainer: Lightning's trainer with the callbacks.
        callbacks: The callbacks in their order, those of the configuration by their key there.
        saved: The callback that says when checkpoints are written.
        files: Writes and reads them.
        speed: What would make it faster here, and what of that it takes.
    """

    config: DictConfig
    folder: Path
    datamodule: LongTailDataModule
    module: DROLTModule
    trainer: pl.Trainer
    callbacks: Mapping[str, pl.Callback]
    saved: StageCheckpoint
    files: CheckpointFiles
    speed: Speed


def assemble(config: DictConfig, folder: Path, conf: Path, ending: Ending | None = None) -> Run:
    """Builds data module, Lightning module and trainer.

    Args:
        config: The composed configuration.
        folder: The run's folder.
        conf: The folder of configurations, which holds the classifiers that stages name.
        ending: Ends the run before its time; null for a run that nothing stops.

    Raises:
        SettingError: a value of the configuration cannot be used.
    """
    schedule = parts.build_schedule(config, conf)
    datamodule = parts.build_data(config, schedule)
    if config.protocol == "test_selected":
        print(f"warning: {TEST_SELECTED}", flush=True)
    saved = StageCheckpoint(folder / "checkpoints", schedule)
    module = parts.build_module(config, schedule, datamodule, saved.dirpath, conf)
    callbacks = _callbacks(config, folder, datamodule, saved)
    if ending is not None:
        callbacks["stop"] = StopWhenTold(ending)
    speed = settle_speed(config, folder, module.backbone, datamodule, schedule)
    trainer = _trainer(config, folder, schedule, datamodule, callbacks)
    require_fitting(trainer, datamodule, module, (config.groups.many, config.groups.few))
    if ending is not None:
        ending.watch(trainer, schedule.epochs)
    files = CheckpointFiles(identity(plain(config), datamodule.split_record()["sha256"]))
    trainer.strategy.checkpoint_io = files
    if trainer.world_size > 1 and trainer.is_global_zero:
        print(batch_sentence(datamodule, module, trainer))
    return Run(config, folder, datamodule, module, trainer, callbacks, saved, files, speed)


def _callbacks(
    config: DictConfig, folder: Path, datamodule: LongTailDataModule, saved: StageCheckpoint
) -> dict[str, pl.Callback]:
    """All callbacks in their order: first the comparison of ranks, then those of conf/callbacks, then the recording."""
    values = plain(config)
    first = {"same_on_all_ranks": SameOnAllRanks(values, datamodule.split_record()["sha256"])}
    guard = Guard(config.get("guard", "stop"), not_finite(values))
    last: dict[str, pl.Callback] = {
        "guard": guard,
        "collapse": WarnOfCollapse(),
        "metrics_file": MetricsFile(folder / "metrics.csv"),
        "stage_checkpoint": saved,
    }
    if config.trainer.enable_progress_bar:
        last["progress_bar"] = StageProgressBar(clock_of(saved.schedule, datamodule))
    chosen: dict[str, pl.Callback] = build(config, "callbacks")
    averaging = next((stage.name for stage in saved.schedule.trained if stage.ema is not None), None)
    if averaging and not any(isinstance(callback, AverageWeights) for callback in chosen.values()):
        raise SettingError(f"schedule.stages.{averaging}.ema", "needs callbacks.average, which was taken away")
    return {**first, **chosen, **last}


def _trainer(
    config: DictConfig,
    folder: Path,
    schedule: Schedule,
    datamodule: LongTailDataModule,
    callbacks: Mapping[str, pl.Callback],
) -> pl.Trainer:
    trainer: pl.Trainer = build(
        config,
        "trainer",
        max_epochs=schedule.epochs,
        callbacks=list(callbacks.values()),
        logger=list(build(config, "logger").values()) or False,
        default_root_dir=str(folder),
        # Our loaders slice for the ranks themselves, and are built anew from the epoch's number.
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **({} if len(datamodule.split.val) else {"limit_val_batches": 0}),
    )
    with under("trainer"):
        ranks.require_all_used(trainer.num_devices, trainer.num_nodes)
    allow_unused_parameters(trainer)
    shared = datamodule.batch_size % trainer.world_size == 0
    demand = f"must be divisible by the {trainer.world_size} processes that share it"
    require("dataset.batch_size", datamodule.batch_size, shared, demand)
    return trainer
