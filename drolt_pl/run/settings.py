"""The keys of a run's configuration, and what each may be; arguments of constructors are annotated where they stand."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytorch_lightning as pl
from annotated_types import Ge, Le, Len
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import Profiler

from drolt_pl.backbones import Backbone
from drolt_pl.classifiers import Classifier
from drolt_pl.data import LongTailDataModule
from drolt_pl.data.augment.mixing import Mixing
from drolt_pl.data.augment.transforms import Augments
from drolt_pl.data.longtail import Protocol
from drolt_pl.learning.curve import Curve
from drolt_pl.learning.optim import StageOptimizer
from drolt_pl.learning.schedule import Rates, Stage
from drolt_pl.losses import Criterion, DROLTLoss
from drolt_pl.objectives import Objective
from drolt_pl.objectives.robust import Source
from drolt_pl.ranges import (
    AnyPath,
    BelowOne,
    Count,
    FileName,
    Fraction,
    Holds,
    Names,
    NonNegative,
    PositiveFraction,
    Seed,
    StageName,
    Text,
    Whole,
)


def _names_devices(text: str) -> bool:
    return re.fullmatch(r"auto|-1|\d+(,\d+)*,?", text, re.ASCII) is not None


Threads = Annotated[int, Ge(1), Le(4096)]
Devices = Annotated[int, Ge(-1), Le(1024)]
DeviceNames = Annotated[str, Holds("that is auto or numbers, as in '0,1'", _names_devices)]
Batches = Annotated[int, Ge(1)] | PositiveFraction | None


class Budget(TypedDict):
    """Epochs.

    Args:
        ce_warmup: Epochs of the first stage of methods with several.
        joint: Epochs of DRO-LT's second stage.
        rebalance: Epochs of its third stage.
        rest: Epochs of the one stage beside `ce_warmup`, in methods of two stages.
        alone: Epochs of the stage `train`, in methods of one stage.
    """

    ce_warmup: Whole
    joint: Whole
    rebalance: Whole
    rest: Whole
    alone: Whole


class Scratch(TypedDict):
    """How stages that start from scratch are trained.

    Args:
        lr: Their learning rate, or a mapping by optimizer group.
    """

    lr: Rates
    curve: Curve


class Rebalance(TypedDict):
    """How the last stage is trained.

    Args:
        lr: Its learning rate, or a mapping by optimizer group.
        sampling: Its sampler, or a list of samplers.
        classifier: `keep` the classifier before, `reset` it to a fresh one, or name another (conf/classifier).
    """

    lr: Rates
    sampling: Text | Sequence[Text]
    classifier: Text


class ScheduleSettings(TypedDict):
    """The schedule: `learning.schedule.Stage` by name, and what differs from schedule to schedule."""

    order: Names | None
    budget: Budget
    scratch: Scratch
    rebalance: Rebalance
    stages: Mapping[StageName, Stage]


class Limits(TypedDict):
    """The shot groups.

    Args:
        many: A class with more training images has many.
        few: A class with fewer training images has few.
    """

    many: Whole
    few: Whole


class ClassBalance(TypedDict):
    """Class-balanced weights.

    Args:
        beta: Share of a class's images that repeat others; 0 for equal weights, towards 1 for weights 1 / n_c.
    """

    beta: BelowOne


class Settings(TypedDict):
    """The whole configuration.

    Args:
        method_name: The method's name in results; its file sets it.
        logger: By name, none for `logger=none`; metrics.csv is written in any case.
    """

    seed: Seed
    protocol: Protocol
    centroids: Source
    objectives: Mapping[str, Objective]
    mixing: Mapping[str, Mixing]
    class_balance: NotRequired[ClassBalance]
    groups: Limits
    guard: NotRequired[Literal["stop", "skip", "off"]]
    resume: AnyPath | None
    trust: bool
    report: NotRequired[bool]
    init_from: AnyPath | None
    compile: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None
    num_threads: Threads | None
    speed: NotRequired[Literal["plain", "auto"]]
    name: Text | None
    method_name: Text
    tuned: NotRequired[Mapping[str, Any]]
    backbone: Backbone
    classifier: Classifier
    criterion: Criterion
    loss: DROLTLoss
    optimizer: StageOptimizer
    schedule: ScheduleSettings
    trainer: pl.Trainer
    callbacks: Mapping[str, pl.Callback]
    logger: Mapping[str, Logger]
    dataset: LongTailDataModule
    augment: Augments


class TrainerArguments(TypedDict, total=False):
    """Those of Lightning's trainer, which checks few of them."""

    accelerator: Text
    devices: Devices | Annotated[Sequence[Whole], Len(1)] | DeviceNames
    num_nodes: Count
    strategy: Text
    precision: (
        Literal["64-true", "64", "32-true", "32", "16-true", "16-mixed", "16", "bf16-true", "bf16-mixed", "bf16"]
        | Literal["transformer-engine", "transformer-engine-float16", 64, 32, 16]
        | None
    )
    max_epochs: int | None
    min_epochs: Whole | None
    max_steps: Annotated[int, Ge(-1), Le(10**12)]
    min_steps: Whole | None
    max_time: Text | Mapping[Literal["weeks", "days", "hours", "minutes", "seconds"], Whole] | None
    limit_train_batches: Batches
    limit_val_batches: Batches
    limit_test_batches: Batches
    overfit_batches: Fraction | Whole
    val_check_interval: Batches
    check_val_every_n_epoch: Count
    log_every_n_steps: Whole | None
    enable_progress_bar: bool
    accumulate_grad_batches: Count
    gradient_clip_val: NonNegative | None
    gradient_clip_algorithm: Literal["norm", "value"] | None
    deterministic: bool | Literal["warn"] | None
    benchmark: bool | None
    profiler: Literal["simple", "advanced", "pytorch", "xla"] | Profiler | None
    detect_anomaly: bool
    sync_batchnorm: bool


class OptimizerArguments(TypedDict, total=False):
    """Those of torch's optimizers, which check some of them."""

    momentum: BelowOne
    dampening: Fraction
    nesterov: bool
    betas: Annotated[Sequence[BelowOne], Len(2, 2)]
    alpha: BelowOne
    eps: NonNegative
    momentum_decay: NonNegative
    lr_decay: NonNegative
    maximize: bool
    amsgrad: bool
    centered: bool
    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool


class LoggerArguments(TypedDict, total=False):
    """Those of Lightning's loggers."""

    save_dir: AnyPath
    name: FileName | None
    version: Whole | FileName | None
    flush_logs_every_n_steps: Count


# What the run itself gives a constructor, by key (`*` is a name); DEFAULTED: where the configuration has none.
SUPPLIED: dict[str, frozenset[str]] = {
    "dataset": frozenset({"plan", "mixings"}),
    "backbone": frozenset({"in_channels"}),
    "classifier": frozenset({"num_features", "num_classes"}),
    "criterion": frozenset({"class_counts"}),
    "objectives.*.criterion": frozenset({"class_counts"}),
    "objectives.*": frozenset({"num_features", "num_classes", "class_counts", "loss", "taps", "centroids", "backbone"})
    | {"many", "few", "earlier"},
    "loss": frozenset({"num_features", "num_classes", "class_counts"}),
    "optimizer.algorithm": frozenset({"params", "lr", "weight_decay"}),  # the last two are set for every epoch
    "trainer": frozenset({"callbacks", "logger", "default_root_dir", "use_distributed_sampler"})
    | {"reload_dataloaders_every_n_epochs", "num_sanity_val_steps", "enable_model_summary"},
}
DEFAULTED: dict[str, frozenset[str]] = {"objectives.*": frozenset({"criterion"}), "trainer": frozenset({"max_epochs"})}
BESIDE: dict[str, Mapping[str, object]] = {"loss": {"layers": Names | None}}  # keys beside a constructor's own
# Ranges of what other packages' constructors take, by the module that they are in.
FOREIGN: dict[str, type] = {
    "pytorch_lightning.trainer": TrainerArguments,
    "pytorch_lightning.loggers": LoggerArguments,
    "torch.optim": OptimizerArguments,
}
