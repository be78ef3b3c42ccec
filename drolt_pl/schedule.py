"""The stage schedule: which stage an epoch belongs to, and what that stage trains on. A pure function of the epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OBJECTIVES = ("ce", "dro_lt")
GROUPS = ("backbone", "classifier", "eps")
STARTS = ("last", "best")
SHAPES = ("constant", "multistep", "cosine")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Factor of the learning rate over the epochs of a stage.

    Args:
        shape: `constant`; `multistep`, times `gamma` at every milestone (LDAM-DRW: 0.01 at 160 and 180 of 200 epochs);
            or `cosine`, half a period from 1 to `final`, stepped once an epoch (Kang et al. 2020).
        milestones: Fractions of the stage.
        gamma: Factor of each milestone.
        final: Where the cosine ends.
        warmup_epochs: Epochs over which the factor also rises linearly: 1/w, 2/w, ..., 1.
    """

    shape: str = "constant"
    milestones: Sequence[float] = (0.8, 0.9)
    gamma: float = 0.01
    final: float = 0.0
    warmup_epochs: int = 0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"curve.shape must be one of {SHAPES}, got {self.shape!r}")

    def __call__(self, epoch: int, epochs: int) -> float:
        warmup = min(1.0, (epoch + 1) / self.warmup_epochs) if self.warmup_epochs else 1.0
        if self.shape == "multistep":
            passed = sum(epoch >= round(milestone * epochs) for milestone in self.milestones)
            return float(warmup * self.gamma**passed)
        if self.shape == "cosine":
            cosine = 0.5 * (1 + math.cos(math.pi * epoch / max(epochs, 1)))
            return warmup * (self.final + (1 - self.final) * cosine)
        return warmup


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the schedule.

    Args:
        name: Its key in `schedule.stages`.
        epochs: Its length; 0 skips its training.
        objective: `ce` (cross-entropy alone) or `dro_lt` (Eq. 19: ce_weight CE + (1 - ce_weight) L_robust).
        sampling: Name of the training sampler; with `samples_per_class` for `class_aware`.
        epoch_size: Draws of an epoch: `dataset` (N), `max_class` (n_max C) or a number.
        trainable: Which of `backbone` and `classifier` learn; the rest stays bit-identical, buffers included.
        monitor: The validation metric that names this stage's best epoch.
        start_from: `last` or `best` epoch of the stage before it.
        classifier: `keep` the one before, `reset` a fresh one, or the name of another (conf/classifier).
        lr: Learning rate, or one per optimizer group; null takes `optimizer.lr` (and `optimizer.eps_lr`).
        weight_decay: The same for weight decay; eps never decays.
        curve: Factor of the learning rate over the stage's epochs.
    """

    name: str
    epochs: int
    objective: str = "ce"
    sampling: str = "instance"
    samples_per_class: int = 4
    epoch_size: str | int = "dataset"
    trainable: Sequence[str] = ("backbone", "classifier")
    monitor: str = "val/acc"
    start_from: str = "last"
    classifier: str = "keep"
    lr: float | Mapping[str, float] | None = None
    weight_decay: float | Mapping[str, float] | None = None
    curve: Curve = Curve()

    def __post_init__(self) -> None:
        where = f"stages.{self.name}"
        if not isinstance(self.epochs, int) or self.epochs < 0:
            raise ValueError(f"{where}.epochs must be a whole number >= 0, got {self.epochs!r}")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"{where}.objective must be one of {OBJECTIVES}, got {self.objective!r}")
        if self.start_from not in STARTS:
            raise ValueError(f"{where}.start_from must be one of {STARTS}, got {self.start_from!r}")
        if not self.trainable or set(self.trainable) - set(GROUPS[:2]):
            raise ValueError(f"{where}.trainable must list some of {GROUPS[:2]}, got {list(self.trainable)}")
        if isinstance(self.epoch_size, str) and self.epoch_size not in ("dataset", "max_class"):
            raise ValueError(f"{where}.epoch_size must be dataset, max_class or a number, got {self.epoch_size!r}")
        if not isinstance(self.samples_per_class, int) or self.samples_per_class < 1:
            raise ValueError(f"{where}.samples_per_class must be a whole number >= 1, got {self.samples_per_class!r}")
        for key in ("lr", "weight_decay"):
            value = getattr(self, key)
            if isinstance(value, Mapping) and set(value) - set(GROUPS):
                raise ValueError(f"{where}.{key} names optimizer groups {GROUPS}, got {sorted(value)}")
            for rate in value.values() if isinstance(value, Mapping) else [value]:
                if rate is not None and not (isinstance(rate, int | float) and rate >= 0):
                    raise ValueError(f"{where}.{key} must be a number >= 0, got {rate!r}")

    def trains(self, group: str) -> bool:
        """Whether an optimizer group learns in this stage; eps does where the robust loss is in the objective."""
        return self.objective == "dro_lt" if group == "eps" else group in self.trainable


class Schedule:
    """Stages in order; every question about an epoch is answered from its number alone.

    Args:
        stages: Fields of `Stage` by stage name, in training order.
    """

    def __init__(self, stages: Mapping[str, Mapping[str, Any]]) -> None:
        self.stages = tuple(_stage(name, fields) for name, fields in stages.items())
        if sum(stage.epochs for stage in self.stages) == 0:
            raise ValueError("stages must train for at least one epoch in all")

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)

    def first_epoch(self, name: str) -> int:
        """The epoch at which stage `name` starts."""
        before = [stage.name for stage in self.stages].index(name)
        return sum(stage.epochs for stage in self.stages[:before])

    def stage_at(self, epoch: int) -> Stage:
        """The stage of an epoch; past the end, the last stage that trains."""
        for stage in self.stages:
            if epoch < self.first_epoch(stage.name) + stage.epochs:
                return stage
        return [stage for stage in self.stages if stage.epochs][-1]

    def enters(self, epoch: int) -> bool:
        """Whether `epoch` is the first of its stage."""
        return epoch == self.first_epoch(self.stage_at(epoch).name)

    def ends(self, epoch: int) -> bool:
        """Whether `epoch` is the last of its stage."""
        stage = self.stage_at(epoch)
        return epoch + 1 == self.first_epoch(stage.name) + stage.epochs

    def before(self, name: str) -> Stage | None:
        """The stage before `name`, null for the first one."""
        names = [stage.name for stage in self.stages]
        return self.stages[names.index(name) - 1] if names.index(name) else None

    def classifier_of(self, name: str) -> str:
        """The stage whose classifier stage `name` uses: its own, or with `keep` that of the stages before it."""
        owner = self.stages[0].name
        for stage in self.stages:
            if stage.classifier != "keep":
                owner = stage.name
            if stage.name == name:
                return owner
        raise KeyError(name)

    def lr_factor(self, epoch: int) -> float:
        """The factor of the epoch's learning rates."""
        stage = self.stage_at(epoch)
        return stage.curve(epoch - self.first_epoch(stage.name), stage.epochs)


def _stage(name: str, fields: Mapping[str, Any]) -> Stage:
    try:
        return Stage(name=name, **{**fields, "curve": Curve(**fields.get("curve", {}))})
    except (TypeError, ValueError) as error:
        where = f"stages.{name}"
        raise ValueError(str(error) if str(error).startswith(where) else f"{where}.{error}") from error
