"""What users of Lightning switch on: refused at the start where a run of several stages cannot take it."""

import copy
from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import get_object
from omegaconf import DictConfig
from pytorch_lightning.callbacks import EarlyStopping, StochasticWeightAveraging, WeightAveraging

from drolt_pl.data import LongTailDataModule
from drolt_pl.data.plan import epoch_length
from drolt_pl.data.samplers import samplers_named
from drolt_pl.errors import SettingError
from drolt_pl.groups import group_masks
from drolt_pl.learning.module import DROLTModule
from drolt_pl.learning.schedule import Schedule, Stage

STAGE = "schedule.stages.STAGE"
# Lightning's callbacks that take a run for one stage, why they are refused, and what there is instead.
REFUSED: dict[type[pl.Callback], tuple[str, str]] = {
    EarlyStopping: ("would end the whole run, and not a stage", f"{STAGE}.patience=5 ends a stage"),
    WeightAveraging: ("would average over all stages", f"{STAGE}.ema=0.999 averages within a stage"),
    StochasticWeightAveraging: ("would set the rates of all stages", f"{STAGE}.ema=0.999 averages within a stage"),
}
OWN_LAUNCHERS = ("_spawn", "_fork", "_forkserver", "_notebook")  # ends of the names of strategies


def refused_switches(config: DictConfig) -> Iterator[SettingError]:
    """What the configuration switches on and a run cannot take."""
    for name, callback in config.callbacks.items():
        kind = get_object(str(callback["_target_"]))
        for refused, (why, remedy) in REFUSED.items():
            if isinstance(kind, type) and issubclass(kind, refused):
                yield SettingError(f"callbacks.{name}", f"is refused: {kind.__name__} {why}", remedy=remedy)
    if config.trainer.get("fast_dev_run"):
        demand = "is refused: it would end after an epoch of the first stage"
        remedy = "take trainer=debug: two batches and two epochs of every stage"
        yield SettingError("trainer.fast_dev_run", demand, remedy=remedy)
    strategy = str(config.trainer.strategy)
    if strategy.endswith(OWN_LAUNCHERS):
        demand = "is refused: each rank of a run is a process that starts by itself"
        yield SettingError(f"trainer.strategy={strategy}", demand, remedy="take trainer.strategy=ddp")


def require_fitting(
    trainer: pl.Trainer, datamodule: LongTailDataModule, module: DROLTModule, limits: tuple[int, int]
) -> None:
    """Refuses a stage without batches, monitor or validation that it needs, or a batch that BatchNorm cannot take.

    Args:
        trainer: The run's.
        datamodule: Set up.
        module: The run's.
        limits: Of the shot groups: more than `many`, fewer than `few`.

    Raises:
        SettingError: there is one.
    """
    schedule, limit = module.schedule, trainer.limit_train_batches
    for stage in schedule.trained:
        batches = -(-_drawn(stage, datamodule) // datamodule.batch_size)
        _require_some("trainer.limit_train_batches", limit, batches, f"an epoch of stage {stage.name}")
        interval = trainer.val_check_interval
        if isinstance(interval, int) and interval > (batches if isinstance(limit, float) else min(batches, limit)):
            demand = f"must be at most the {batches} batches of an epoch of stage {stage.name}"
            raise SettingError("trainer.val_check_interval", demand, interval)
    device = trainer.strategy.root_device.type
    size = (datamodule.eval_batch_size or (128 if device == "cpu" else 512)) * trainer.world_size
    for part, value in (("val", trainer.limit_val_batches), ("test", trainer.limit_test_batches)):
        images = len(datamodule.split.parts[part])
        if images:
            _require_some(f"trainer.limit_{part}_batches", value, -(-images // size), f"the {images:,} {part} images")
    _require_monitors(schedule, datamodule, limits)
    for stage in schedule.trained:
        if module.objectives.named(stage.objective).needs_validation and not len(datamodule.split.val):
            demand = "follows accuracies on validation images, and there are none"
            raise SettingError(f"schedule.stages.{stage.name}.objective={stage.objective}", demand)
    _require_pairs(trainer, datamodule, module)


def _drawn(stage: Stage, datamodule: LongTailDataModule) -> int:
    """Images that an epoch of a stage draws, on all ranks, by each of its streams."""
    streams = len(samplers_named(stage.sampling))
    return epoch_length(stage.epoch_size, datamodule.split.class_counts) // stage.views // streams


def _require_some(name: str, limit: float, batches: int, what: str) -> None:
    if isinstance(limit, float) and batches and int(batches * limit) < 1:
        demand = f"must leave a batch of {what}, which {'is' if batches == 1 else 'are'} {batches:,}"
        raise SettingError(name, demand, limit, remedy="give a whole number of batches")


def _require_monitors(schedule: Schedule, datamodule: LongTailDataModule, limits: tuple[int, int]) -> None:
    """Refuses a monitor of a shot group that no validation image belongs to: no epoch would be the best."""
    split = datamodule.split
    masks = group_masks(split.class_counts, *limits)
    groups = {stage.name: masks.get(_group_of(stage.monitor)) for stage in schedule.trained}
    if not len(split.val) or not any(mask is not None for mask in groups.values()):
        return
    validated = np.isin(np.arange(datamodule.num_classes), datamodule.catalogue().targets[split.val])
    for stage in schedule.trained:
        mask = groups[stage.name]
        if mask is not None and not (mask & validated).any():
            demand = f"must be of a group with validation images: of its {int(mask.sum())} classes none has any"
            raise SettingError(f"schedule.stages.{stage.name}.monitor", demand, stage.monitor)


def _group_of(monitor: str) -> str:
    return monitor.removeprefix("val/").removesuffix("_ncm")


def _require_pairs(trainer: pl.Trainer, datamodule: LongTailDataModule, module: DROLTModule) -> None:
    """Refuses a last batch of one image where the network cannot train on it, as one with BatchNorm at 1x1 pixels."""
    for stage in module.schedule.trained:
        drawn = _drawn(stage, datamodule)
        last = (drawn % datamodule.batch_size or datamodule.batch_size) // trainer.world_size * stage.views
        limit = trainer.limit_train_batches
        cut = isinstance(limit, int) and drawn > limit * datamodule.batch_size
        if last != 1 or cut or not stage.trains("backbone"):
            continue
        network = copy.deepcopy(module.backbone).train()
        try:
            with torch.random.fork_rng(devices=[]):
                network(torch.zeros(1, *datamodule.sample_shape))
        except ValueError as error:
            demand = (
                f"leaves a last batch of one image in stage {stage.name} ({drawn:,} images an epoch), and this network "
                f"cannot train on one ({error})"
            )
            raise SettingError(
                "dataset.batch_size", demand, datamodule.batch_size, remedy="change it by one"
            ) from error
