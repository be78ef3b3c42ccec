"""The stage schedule: a pure function from the epoch to its stage, and the settings of each stage."""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from annotated_types import Len

from drolt_pl.checked import checked
from drolt_pl.errors import SettingError, require
from drolt_pl.learning.curve import Curve
from drolt_pl.ranges import Count, Few, Images, Inside, Rate, StageName, Text, Whole

OBJECTIVES = {"ce": False, "dro_lt": True}  # by name of an objective: whether it needs the centroids
USUAL_WARMUP = 5  # epochs, of conf/schedule: shorter stages, as trials have, may lie within it

Group = Literal["backbone", "classifier", "eps"]
Rates = Rate | Annotated[Mapping[Group, Rate | None], Len(1)] | None


@checked
@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the schedule. The defaults of every stage in conf/ are these.

    Args:
        name: Its key in `schedule.stages`.
        epochs: Length of the stage. A stage with 0 epochs only fits its classifier, if that is a fitted one; otherwise
            it is skipped.
        objective: Name of its objective: `ce` (the criterion alone), `dro_lt` (Eq. 19: ce_weight CE + (1 - ce_weight)
            L_robust) or another of the configuration's `objectives`.
        sampling: Name of the training sampler, or a list of names, one for each stream of batches: the objective gets
            the first stream's batch, and with it the other streams' batches.
        samples_per_class: Images of a class in a row, for `class_aware`.
        epoch_size: Images that go forward in an epoch: `dataset` (N), `max_class` (n_max C) or a number.
        views: Augmented views of each image that is drawn; an epoch draws that many times fewer images.
        mixing: Name of the mixing of a batch's images, one of the configuration's `mixing`; null for none.
        trainable: The parts that learn, of `backbone` and `classifier`; the rest stays bit-identical, buffers included.
        shift_bn: Whether the BatchNorm statistics of a frozen backbone follow this stage's batches (MiSLAS).
        monitor: The validation metric that decides this stage's best epoch.
        patience: Epochs without a better `monitor` after which the stage ends before its time; null for none.
        start_from: The epoch of the stage before that this stage starts from: `last` or `best`.
        classifier: `keep` the classifier before, `reset` it to a fresh one, or name another (conf/classifier).
        classifier_args: Arguments of a classifier that is not kept; they replace those of its file.
        lr: Learning rate, or a mapping by optimizer group; null takes `optimizer.lr` (and `optimizer.eps_lr`).
        weight_decay: Weight decay, or a mapping by optimizer group; null takes `optimizer.weight_decay`; eps never
            decays.
        curve: Factor of the learning rate over the stage's epochs.
        ema: Decay of the moving average of the weights, which is then what is validated, saved and reported, and what
            the next stage goes on from; null for the weights of the last step. 0.999 averages over about 1,000 steps.
        uses_centroids: Whether the objective needs the class centroids; `Schedule` fills it in.
        fits: Whether the stage runs no epoch and fits its classifier; `Schedule` fills it in.
        passes: How often the objective sends each image forward in a step; `Schedule` fills it in.
    """

    name: StageName
    epochs: Whole
    objective: Text = "ce"
    sampling: Text | Annotated[Sequence[Text], Len(1)] = "instance"
    samples_per_class: Count = 4
    epoch_size: Literal["dataset", "max_class"] | Images = "dataset"
    views: Few = 1
    mixing: Text | None = None
    trainable: Annotated[Sequence[Literal["backbone", "classifier"]], Len(1)] = ("backbone", "classifier")
    shift_bn: bool = False
    monitor: Text = "val/acc"
    patience: Count | None = None
    start_from: Literal["last", "best"] = "last"
    classifier: Text = "keep"
    classifier_args: Mapping[str, Any] | None = None
    lr: Rates = None
    weight_decay: Rates = None
    curve: Curve = Curve()  # noqa: RUF009 - it is frozen
    ema: Inside | None = None
    uses_centroids: bool = False
    fits: bool = False
    passes: Few = 1

    def __post_init__(self) -> None:
        warmup, longest = self.curve.warmup_epochs, max(self.epochs, USUAL_WARMUP)
        if self.epochs:
            require(
                "curve.warmup_epochs", warmup, warmup <= longest, f"must be within the stage ({self.epochs} epochs)"
            )
        if self.classifier_args and self.classifier == "keep":
            raise SettingError("classifier_args", "need a classifier of their own, but classifier is 'keep'")
        if self.fits and self.epochs and "backbone" not in self.trainable:
            raise SettingError(
                "epochs", f"must be 0 for classifier={self.classifier}, which is only fitted", self.epochs
            )

    def trains(self, group: str) -> bool:
        """Whether an optimizer group learns in this stage; eps learns if the objective needs the centroids."""
        return self.uses_centroids if group == "eps" else group in self.trainable

    @property
    def samplings(self) -> Sequence[str]:
        """The names of the samplers, one for each stream."""
        return [self.sampling] if isinstance(self.sampling, str) else self.sampling


class Schedule:
    """Stages in order; every question about an epoch is answered from its number, and from which stages ended early.

    Args:
        stages: Fields of `Stage` by stage name, in training order.
        order: Names of the stages that come first, in this order; the rest follow as listed.
        objectives: By name of an objective that stages may name: whether it needs the class centroids.
        fitted: Names of the classifiers that are only fitted.
        passes: By name of an objective: how often it sends an image forward in a step, if more than once.

    Attributes:
        ended: By name of a stage that ended before its time: the epochs that it had.

    Raises:
        SettingError: a stage has a value that it cannot have; the error's name starts with `stages.<stage>`.
    """

    def __init__(
        self,
        stages: Mapping[str, Mapping[str, Any]],
        order: Sequence[str] | None = None,
        objectives: Mapping[str, bool] = OBJECTIVES,
        fitted: Collection[str] = (),
        passes: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        first = list(order or ())
        known = not set(first) - set(stages) and len(set(first)) == len(first)
        require("order", first, known, f"must name stages of {list(stages)}, each once")
        names = [*first, *(name for name in stages if name not in first)]
        self.stages = tuple(_stage(name, stages[name], objectives, fitted, passes) for name in names)
        self.ended: dict[str, int] = {}
        if not self.trained:
            every = names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
            raise SettingError(f"stages.{every}.epochs" if names else "stages", "must be one at least in all")
        last = names.index(self.trained[-1].name)
        for stage in self.fitted:
            if names.index(stage.name) < last:
                demand = f"is only fitted, so it must come after {self.trained[-1].name}, which trains"
                raise SettingError(f"stages.{stage.name}", demand)

    @property
    def trained(self) -> list[Stage]:
        """The stages with at least one epoch."""
        return [stage for stage in self.stages if stage.epochs]

    @property
    def fitted(self) -> list[Stage]:
        """The stages without epochs that fit their classifier."""
        return [stage for stage in self.stages if stage.fits and not stage.epochs]

    @property
    def epochs(self) -> int:
        """The epochs of all stages together."""
        return self._until(len(self.stages))

    def end(self, epoch: int) -> None:
        """Lets the stage of an epoch end with this epoch."""
        stage = self.stage_at(epoch)
        self.ended[stage.name] = epoch + 1 - self.first_epoch(stage.name)

    def after(self, ended: Mapping[str, int]) -> "Schedule":
        """The same schedule with other stages that ended before their time."""
        other = copy(self)
        other.ended = dict(ended)
        return other

    def named(self, name: str) -> Stage:
        """The stage of a name."""
        return next(stage for stage in self.stages if stage.name == name)

    def place(self, name: str) -> int:
        """Number of the stages before stage `name`."""
        return [stage.name for stage in self.stages].index(name)

    def first_epoch(self, name: str) -> int:
        """The first epoch of stage `name`."""
        return self._until(self.place(name))

    def last_epoch(self, name: str) -> int:
        """The last epoch of stage `name`, which has at least one."""
        return self._until(self.place(name) + 1) - 1

    def stage_at(self, epoch: int) -> Stage:
        """The stage of an epoch; past the end, the last stage that trains."""
        for stage in self.stages:
            if epoch <= self.last_epoch(stage.name):
                return stage
        return self.trained[-1]

    def enters(self, epoch: int) -> bool:
        """Whether `epoch` is the first of its stage."""
        return epoch == self.first_epoch(self.stage_at(epoch).name)

    def ends(self, epoch: int) -> bool:
        """Whether `epoch` is the last of its stage."""
        return epoch == self.last_epoch(self.stage_at(epoch).name)

    def before(self, name: str) -> Stage | None:
        """The last stage before `name` that trains; null if none does."""
        return next((stage for stage in reversed(self.stages[: self.place(name)]) if stage.epochs), None)

    def classifier_of(self, name: str) -> str:
        """The stage that owns the classifier of stage `name`: itself, or with `keep` one of the stages before it."""
        owner = self.stages[0].name
        for stage in self.stages[: self.place(name) + 1]:
            if stage.classifier != "keep" and (stage.epochs or stage.fits):
                owner = stage.name
        return owner

    def lr_factor(self, epoch: int) -> float:
        """The factor of the epoch's learning rates."""
        stage = self.stage_at(epoch)
        return stage.curve(epoch - self.first_epoch(stage.name), stage.epochs)

    def progress(self, epoch: int) -> float:
        """The share of its stage that has passed before an epoch, in [0, 1)."""
        stage = self.stage_at(epoch)
        return (epoch - self.first_epoch(stage.name)) / stage.epochs

    def _until(self, place: int) -> int:
        """The epochs of the first stages together."""
        return sum(self.ended.get(stage.name, stage.epochs) for stage in self.stages[:place])


def _stage(
    name: str, fields: Mapping[str, Any], uses: Mapping[str, bool], fitted: Collection[str], passes: Mapping[str, int]
) -> Stage:
    where = f"stages.{name}"
    objective = fields.get("objective", "ce")
    demand = f"must be one of {tuple(uses)}: objectives.{objective} is missing"
    require(f"{where}.objective", objective, objective in uses, demand)
    filled: dict[str, Any] = {"uses_centroids": uses[objective], "fits": fields.get("classifier") in fitted}
    filled["passes"] = passes.get(objective, 1)
    try:
        curve = _curve(fields.get("curve", {}))
        return Stage(name=name, **{**fields, **filled, "curve": curve})
    except SettingError as error:
        raise error.under(where) from error
    except TypeError as error:
        raise SettingError(where, f"has an unknown key ({error})") from error


def _curve(given: Curve | Mapping[str, Any]) -> Curve:
    try:
        return given if isinstance(given, Curve) else Curve(**given)
    except SettingError as error:
        raise error.under("curve") from error
