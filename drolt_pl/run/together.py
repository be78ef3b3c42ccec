"""Values that are right each by itself and wrong together, or on this machine; found before anything is built."""

import os
from collections.abc import Iterator

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.strategies import StrategyRegistry

from drolt_pl.errors import SettingError, reason
from drolt_pl.run import ranks
from drolt_pl.run.build import named_in
from drolt_pl.run.switches import refused_switches

REFUSED_PRECISIONS = ("16-true", "bf16-true", "64-true", "64", "transformer-engine", "transformer-engine-float16")
PER_CORE, AT_LEAST = 4, 64  # threads, workers and processes that a machine takes: so many a core, or so many


def conflicts(config: DictConfig) -> Iterator[SettingError]:
    """What is wrong with a configuration whose values are of the right types and in their ranges."""
    many, few = config.groups.many, config.groups.few
    if few > many + 1:
        demand = f"must be at most groups.many + 1 = {many + 1}, else the groups overlap"
        yield SettingError("groups.few", demand, few)
    for name, stage in config.schedule.stages.items():
        if stage.patience is not None and config.protocol == "published":
            demand = "needs validation images, and protocol=published has none"
            yield SettingError(f"schedule.stages.{name}.patience", demand, stage.patience)
    yield from _experts(config)
    yield from _machine(config)
    yield from refused_switches(config)
    yield from _trainer(config.trainer)
    yield from _optimizer(config)


def _experts(config: DictConfig) -> Iterator[SettingError]:
    """What experts of groups do not go together with."""
    for name, stage in config.schedule.stages.items():
        if not str(OmegaConf.select(config, f"objectives.{stage.objective}._target_")).endswith(".GroupExperts"):
            continue
        key = f"schedule.stages.{name}"
        if not stage.epochs:
            yield SettingError(f"{key}.epochs", f"must be >= 1 for {key}.objective={stage.objective}", stage.epochs)
        if config.trainer.sync_batchnorm:
            demand = f"must be false for {key}.objective={stage.objective}"
            remedy = "a rank without images of a group would keep the others waiting"
            yield SettingError("trainer.sync_batchnorm", demand, True, remedy=remedy)


def _machine(config: DictConfig) -> Iterator[SettingError]:
    """More threads or processes than the machine can have end in a crash of the operating system's making."""
    most = max(AT_LEAST, PER_CORE * (os.cpu_count() or 1))
    asked = {key: OmegaConf.select(config, key) for key in ("num_threads", "dataset.num_workers", "trainer.devices")}
    for key, value in asked.items():
        if isinstance(value, int) and value > most:
            yield SettingError(key, f"must be at most {most} on this machine of {os.cpu_count()} cores", value)
        if key == "trainer.devices" and value == 0:
            yield SettingError(key, "must be -1 for all, or a number >= 1", value)


def _trainer(trainer: DictConfig) -> Iterator[SettingError]:
    if trainer.max_epochs is not None:
        demand = "is refused: it is the schedule's sum; set schedule.stages.<stage>.epochs"
        yield SettingError(f"trainer.max_epochs={trainer.max_epochs}", demand)
    if str(trainer.precision) in REFUSED_PRECISIONS:
        demand = "is refused, since centroids and radii are float32: take 32-true, bf16-mixed or 16-mixed"
        yield SettingError(f"trainer.precision={trainer.precision}", demand)
    elsewhere = trainer.accelerator != "cpu" and torch.accelerator.is_available()
    if str(trainer.precision) in ("16", "16-mixed") and not elsewhere:
        yield SettingError(f"trainer.precision={trainer.precision}", "is refused on a CPU: take bf16-mixed")
    accelerators = ["auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators())]
    strategies = ["auto", *StrategyRegistry.available_strategies()]
    for name, allowed in (("accelerator", accelerators), ("strategy", strategies)):
        if trainer[name] not in allowed:
            yield SettingError(f"trainer.{name}", f"must be one of {', '.join(allowed)}", trainer[name])
    if trainer.accelerator in ("gpu", "cuda", "mps") and not torch.accelerator.is_available():
        demand = "is refused, since no accelerator is found here: take trainer=cpu, or trainer.accelerator=auto"
        yield SettingError(f"trainer.accelerator={trainer.accelerator}", demand)
    if trainer.num_nodes > 1 and ranks.meeting() is None and "LOCAL_RANK" not in os.environ:
        demand = f"needs a launcher that starts the run on each of {trainer.num_nodes} nodes, and none has"
        remedy = "start it by torchrun or srun, or set NODE_RANK, MASTER_ADDR and MASTER_PORT on every node"
        yield SettingError(f"trainer.num_nodes={trainer.num_nodes}", demand, remedy=remedy)


def _optimizer(config: DictConfig) -> Iterator[SettingError]:
    """What an optimizer refuses, tried on two groups of one parameter."""
    key = "optimizer.algorithm"
    node = OmegaConf.select(config, key)
    try:
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "name": name} for name in ("backbone", "classifier")]
        instantiate(node)(groups, lr=config.optimizer.lr)
    except Exception as error:  # of whatever optimizer is named
        cause = error.__cause__ or error
        name = named_in(str(cause), node)
        demand = f"is refused by {str(node['_target_']).rpartition('.')[2]}: {reason(cause)}"
        yield SettingError(f"{key}.{name}" if name else key, demand)
