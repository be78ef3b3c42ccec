"""The description of a model in a checkpoint: plain values beside the weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from drolt_pl.data.images.preprocessing import Preprocessing, numbers
from drolt_pl.errors import SettingError, require
from drolt_pl.groups import FEW, MANY

Spec = Mapping[str, object]
PRIORS = ("train", "uniform")


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Limits of the shot groups: classes with more training images than `many`, and with fewer than `few`."""

    many: int = MANY
    few: int = FEW


@dataclass(frozen=True, kw_only=True)
class Description:
    """Everything that rebuilds a model except its weights.

    Attributes:
        backbone: `_target_` and the arguments of its constructor.
        classifiers: `_target_` and arguments of each classifier, by the stage that owns it.
        class_names: C names in the order of the logits.
        class_counts: Training images by class, (C,); None in older checkpoints.
        preprocessing: The steps from an image to the backbone's input; None in older checkpoints and for stored
            features.
        groups: Limits of the shot groups.
        distance: The distance of the robust loss: `euclidean`, `student_t` or `cosine`.
        feature_norm: `none`, or `l2` if the loss divides features by their norms.
        prior: Class frequencies that the probabilities assume: `train`, or `uniform` if training evened them out;
            None in older checkpoints.
    """

    backbone: Spec
    classifiers: Mapping[str, Spec]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...] | None = None
    preprocessing: Preprocessing | None = None
    groups: Groups = field(default_factory=Groups)
    distance: str = "euclidean"
    feature_norm: str = "none"
    prior: str | None = None

    def as_plain(self) -> dict[str, object]:
        """The description as plain values for JSON and `torch.load(weights_only=True)`; `read` takes them back."""
        return {
            "backbone": dict(self.backbone),
            "classifiers": {stage: dict(spec) for stage, spec in self.classifiers.items()},
            "class_names": list(self.class_names),
            "class_counts": None if self.class_counts is None else list(self.class_counts),
            "preprocessing": None if self.preprocessing is None else self.preprocessing.as_plain(),
            "groups": asdict(self.groups),
            "distance": self.distance,
            "feature_norm": self.feature_norm,
            "prior": self.prior,
        }

    @classmethod
    def read(cls, values: Mapping[str, object]) -> Self:
        """Reads a description from plain values of any source; older ones hold fewer of them.

        Raises:
            SettingError: the values are no description.
        """
        names, counts = values.get("class_names"), values.get("class_counts")
        if not isinstance(names, list | tuple):
            raise SettingError("description.class_names", "must be a list of names", names)
        preprocessing, groups = values.get("preprocessing"), values.get("groups")
        classifiers = _mapping("classifiers", values.get("classifiers"))
        description = cls(
            backbone=_mapping("backbone", values.get("backbone")),
            classifiers={stage: _mapping(f"classifiers.{stage}", spec) for stage, spec in classifiers.items()},
            class_names=tuple(str(name) for name in names),
            class_counts=None if counts is None else tuple(int(count) for count in numbers("class_counts", counts)),
            preprocessing=None if preprocessing is None else _preprocessing(preprocessing),
            groups=Groups() if groups is None else _groups(groups),
            distance=str(values.get("distance", "euclidean")),
            feature_norm=str(values.get("feature_norm", "none")),
            prior=_prior(values.get("prior")),
        )
        length = len(names) if description.class_counts is None else len(description.class_counts)
        require("description.class_counts", length, length == len(names), f"must have a count for {len(names)} classes")
        return description


def _preprocessing(values: object) -> Preprocessing:
    try:
        return Preprocessing.read(_mapping("preprocessing", values))
    except SettingError as error:
        raise error.under("description.preprocessing") from error


def _prior(value: object) -> str | None:
    if value is not None and value not in PRIORS:
        raise SettingError("description.prior", f"must be null or one of {PRIORS}", value)
    return None if value is None else str(value)


def _groups(values: object) -> Groups:
    limits = _mapping("groups", values)
    many, few = limits.get("many"), limits.get("few")
    if not isinstance(many, int) or not isinstance(few, int):
        raise SettingError("description.groups", "must be two whole numbers, many and few", values)
    return Groups(many=many, few=few)


def _mapping(name: str, value: object) -> Spec:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SettingError(f"description.{name}", "must be a mapping", value)
    return value
