"""The stage schedule: which stage an epoch belongs to, and what that stage trains on. A pure function of the epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OBJECTIVES = {"ce": False, "dro_lt": True}  # names that stages may use, and whether they need the centroids
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
        objective: Name of what it minimises: `ce` (the criterion alone), `dro_lt` (Eq. 19: ce_weight CE + (1 -
            ce_weight) L_robust) or another of the configuration's `objectives`.
        sampling: Name of the training sampler; with `samples_per_class` for `class_aware`.
        epoch_size: Images that go forward in an epoch: `dataset` (N), `max_class` (n_max C) or a number.
        views: Augmented views of each image drawn; an epoch draws that many times fewer.
        mixing: Name of what mixes the images of a batch, one of the configuration's `mixing`; null for none.
        trainable: Which of `backbone` and `classifier` learn; the rest stays bit-identical, buffers included.
        shift_bn: A frozen backbone's BatchNorm statistics follow this stage's batches all the same (MiSLAS).
        monitor: The validation metric that names this stage's best epoch.
        start_from: `last` or `best` epoch of the stage before it.
        classifier: `keep` the one before, `reset` a fresh one, or the name of another (conf/classifier).
        classifier_args: Options of a classifier that is not kept, in place of its file's.
        lr: Learning rate, or one per optimizer group; null takes `optimizer.lr` (and `optimizer.eps_lr`).
        weight_decay: The same for weight decay; eps never decays.
        curve: Factor of the learning rate over the stage's epochs.
        uses_centroids: Whether the objective needs the class centroids; `Schedule` fills it in.
    """

    name: str
    epochs: int
    objective: str = "ce"
    sampling: str = "instance"
    samples_per_class: int = 4
    epoch_size: str | int = "dataset"
    views: int = 1
    mixing: str | None = None
    trainable: Sequence[str] = ("backbone", "classifier")
    shift_bn: bool = False
    monitor: str = "val/acc"
    start_from: str = "last"
    classifier: str = "keep"
    classifier_args: Mapping[str, Any] | None = None
    lr: float | Mapping[str, float] | None = None
    weight_decay: float | Mapping[str, float] | None = None
    curve: Curve = Curve()
    uses_centroids: bool = False

    def __post_init__(self) -> None:
        where = f"stages.{self.name}"
        if not isinstance(self.epochs, int) or self.epochs < 0:
            raise ValueError(f"{where}.epochs must be a whole number >= 0, got {self.epochs!r}")
        if self.start_from not in STARTS:
            raise ValueError(f"{where}.start_from must be one of {STARTS}, got {self.start_from!r}")
        if not self.trainable or set(self.trainable) - set(GROUPS[:2]):
            raise ValueError(f"{where}.trainable must list some of {GROUPS[:2]}, got {list(self.trainable)}")
        if isinstance(self.epoch_size, str) and self.epoch_size not in ("dataset", "max_class"):
            raise ValueError(f"{where}.epoch_size must be dataset, max_class or a number, got {self.epoch_size!r}")
        if not isinstance(self.epoch_size, str) and not (isinstance(self.epoch_size, int) and self.epoch_size >= 1):
            raise ValueError(f"{where}.epoch_size must be a whole number >= 1, got {self.epoch_size!r}")
        for key in ("samples_per_class", "views"):
            if not isinstance(getattr(self, key), int) or getattr(self, key) < 1:
                raise ValueError(f"{where}.{key} must be a whole number >= 1, got {getattr(self, key)!r}")
        if self.classifier_args and self.classifier == "keep":
            raise ValueError(f"{where}.classifier_args need a classifier of their own: {where}.classifier is 'keep'")
        for key in ("lr", "weight_decay"):
            value = getattr(self, key)
            if isinstance(value, Mapping) and set(value) - set(GROUPS):
                raise ValueError(f"{where}.{key} names optimizer groups {GROUPS}, got {sorted(value)}")
            for rate in value.values() if isinstance(value, Mapping) else [value]:
                if rate is not None and not (isinstance(rate, int | float) and rate >= 0):
                    raise ValueError(f"{where}.{key} must be a number >= 0, got {rate!r}")

    def trains(self, group: str) -> bool:
        """Whether an optimizer group learns in this stage; eps does where the objective needs the centroids."""
        return self.uses_centroids if group == "eps" else group in self.trainable


class Schedule:
    """Stages in order; every question about an epoch is answered from its number alone.

    Args:
        stages: Fields of `Stage` by stage name, in training order.
        order: Stages that come first, in this order; the rest follow as they are listed.
        objectives: Names that stages may use, and whether each needs the class centroids.
    """

    def __init__(
        self,
        stages: Mapping[str, Mapping[str, Any]],
        order: Sequence[str] | None = None,
        objectives: Mapping[str, bool] = OBJECTIVES,
    ) -> None:
        first = list(order or ())
        if set(first) - set(stages) or len(set(first)) < len(first):
            raise ValueError(f"order must name stages of {list(stages)}, each once, got {first}")
        names = [*first, *(name for name in stages if name not in first)]
        self.stages = tuple(_stage(name, stages[name], objectives) for name in names)
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
        """The last stage before `name` that trains, null where none does."""
        names = [stage.name for stage in self.stages]
        return next((stage for stage in reversed(self.stages[: names.index(name)]) if stage.epochs), None)

    def classifier_of(self, name: str) -> str:
        """The stage whose classifier stage `name` uses: its own, or with `keep` that of the stages before it."""
        owner = self.stages[0].name
        for stage in self.stages:
            if stage.classifier != "keep" and stage.epochs:
                owner = stage.name
            if stage.name == name:
                return owner
        raise KeyError(name)

    def lr_factor(self, epoch: int) -> float:
        """The factor of the epoch's learning rates."""
        stage = self.stage_at(epoch)
        return stage.curve(epoch - self.first_epoch(stage.name), stage.epochs)

    def progress(self, epoch: int) -> float:
        """Share of its stage that lies before an epoch, in [0, 1)."""
        stage = self.stage_at(epoch)
        return (epoch - self.first_epoch(stage.name)) / stage.epochs


def _stage(name: str, fields: Mapping[str, Any], objectives: Mapping[str, bool]) -> Stage:
    objective = fields.get("objective", "ce")
    if objective not in objectives:
        raise ValueError(f"stages.{name}.objective must be one of {tuple(objectives)}, got {objective!r}")
    curve = fields.get("curve", {})
    try:
        return Stage(name=name, **{**fields, "curve": Curve(**curve), "uses_centroids": objectives[objective]})
    except (TypeError, ValueError) as error:
        where = f"stages.{name}"
        raise ValueError(str(error) if str(error).startswith(where) else f"{where}.{error}") from error
