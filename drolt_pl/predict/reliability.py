"""Whether a model's probabilities can be relied on: their temperature, sets that hold the class, images of no class."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, multiclass_calibration_error

from drolt_pl.groups import group_masks
from drolt_pl.model import Model
from drolt_pl.predict.labelled import Outputs
from drolt_pl.prior import labelled
from drolt_pl.records import Record

GROUPS = ("many", "medium", "few")
SCORES = ("probability", "logit", "energy")
HALVINGS = 80  # of the interval of log temperatures, [log 1e-3, log 1e3]


class Temperature(Record):
    """A temperature fitted on held-out images, and what it does to the probabilities of the others.

    Attributes:
        temperature: The logits are divided by it (Guo et al. 2017). No prediction changes.
        images: Held-out images.
        nll: Mean negative log-likelihood of the other images, in nats, before and after.
        ece: Their expected calibration error in 15 bins, before and after.
    """

    temperature: float
    images: int
    nll: tuple[float, float]
    ece: tuple[float, float]


class Sets(Record):
    """Conformal sets of classes: how often they hold the class of an image, and how large they are.

    Attributes:
        kind: `by class`, a threshold for each class, so that each class is covered; or `all alike`, one for all.
        level: The coverage that was asked for.
        coverage: Share of the images whose set holds their class, the mean over classes.
        many, medium, few: The same over the classes of a shot group; null where there is none.
        size: Mean number of classes in a set.
        unlimited: Classes with too few held-out images for a threshold; they are in every set.
        per_class: Coverage by class, null where there is no image.
    """

    kind: str
    level: float
    coverage: float | None
    many: float | None
    medium: float | None
    few: float | None
    size: float
    unlimited: int
    per_class: Sequence[float | None]


class Strangers(Record):
    """How well a score tells images of the model's classes from images of none.

    Attributes:
        score: `probability` (the largest), `logit` (the largest) or `energy` (the logsumexp of the logits).
        images: Images of no class.
        auroc: Chance that an image of a class scores higher than one of none.
        many, medium, few: The same for images of the classes of a shot group; null where there is none.
    """

    score: str
    images: int
    auroc: float
    many: float | None
    medium: float | None
    few: float | None


def fitted_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature of the least negative log-likelihood, in [1e-3, 1e3].

    The likelihood is concave in 1 / T, so halving the interval by the sign of its slope finds it.

    Args:
        logits: (N, C).
        targets: (N,).

    Raises:
        ValueError: a shape that does not fit, no rows, logits that are nan or inf, or a target outside [0, C).
    """
    logits, targets = labelled(logits, targets)
    own = logits.gather(1, targets[:, None])[:, 0].mean()
    low, high = math.log(1e-3), math.log(1e3)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        probabilities = (logits / math.exp(middle)).softmax(1)
        too_sharp = float((probabilities * logits).sum(1).mean()) > float(own)
        low, high = (middle, high) if too_sharp else (low, middle)
    return math.exp((low + high) / 2)


def temperature(held_out: Outputs, found: Outputs) -> Temperature:
    """Fits a temperature on held-out images and measures it on others."""
    value = fitted_temperature(held_out.logits, held_out.targets)

    def measured(logits: Tensor) -> tuple[float, float]:
        nll = torch.nn.functional.cross_entropy(logits, found.targets)
        ece = multiclass_calibration_error(logits.softmax(1), found.targets, logits.shape[1], n_bins=15)
        return float(nll), float(ece)

    before, after = measured(found.logits.double()), measured(found.logits.double() / value)
    return Temperature(
        temperature=value, images=len(held_out.targets), nll=(before[0], after[0]), ece=(before[1], after[1])
    )


def thresholds(scores: Tensor, targets: Tensor, num_classes: int, level: float, *, by_class: bool) -> Tensor:
    """The largest score that stays in a set, by class, (C,): the ceil((n + 1) level)-th smallest of n; else infinity.

    Args:
        scores: Of the true class of held-out images, (N,): 1 less its probability.
        targets: (N,).
        num_classes: C.
        level: Wanted coverage, in (0, 1).
        by_class: Whether each class has a threshold from its own images (Vovk 2012), or all have one.
    """
    found = torch.full((num_classes,), math.inf, dtype=scores.dtype)
    for c in range(num_classes):
        own = scores[targets == c] if by_class else scores
        place = math.ceil((len(own) + 1) * level)
        if place <= len(own):
            found[c] = own.sort().values[place - 1]
    return found


def sets(model: Model, held_out: Outputs, found: Outputs, level: float, *, by_class: bool) -> Sets:
    """Measures conformal sets, whose thresholds are of held-out images, on others."""
    held, others = (1 - part.logits.double().softmax(1) for part in (held_out, found))
    own = held.gather(1, held_out.targets[:, None])[:, 0]
    num_classes = held.shape[1]
    limits = thresholds(own, held_out.targets, num_classes, level, by_class=by_class)
    within = others <= limits
    covered = within.gather(1, found.targets[:, None])[:, 0].double()
    number = torch.bincount(found.targets, minlength=num_classes)
    by = torch.zeros(num_classes, dtype=torch.float64).index_add_(0, found.targets, covered) / number
    return Sets(
        kind="by class" if by_class else "all alike",
        level=level,
        coverage=_mean(by),
        **{group: _mean(by[mask]) for group, mask in _groups(model).items()},
        size=float(within.sum(1).double().mean()),
        unlimited=int(limits.isinf().sum()),
        per_class=[None if value != value else value for value in by.tolist()],
    )


def strangers(model: Model, found: Outputs, logits: Tensor) -> list[Strangers]:
    """Measures how images of the model's classes are told from images of none, by three scores.

    Args:
        model: The model.
        found: What it gives for images of its classes.
        logits: What it gives for images of no class, (M, C).
    """
    groups = _groups(model)
    rows = []
    for name, known, unknown in zip(SCORES, _scores(found.logits), _scores(logits), strict=True):
        by = {group: auroc(known[mask[found.targets]], unknown) for group, mask in groups.items()}
        total = auroc(known, unknown)
        assert total is not None
        rows.append(Strangers(score=name, images=len(logits), auroc=total, **by))
    return rows


def _scores(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three scores of `SCORES`, (N,) each, of logits (N, C)."""
    logits = logits.double()
    return logits.softmax(1).amax(1), logits.amax(1), logits.logsumexp(1)


def auroc(known: Tensor, unknown: Tensor) -> float | None:
    """The chance that a known score (N,) lies above an unknown one (M,), half of it where they are equal."""
    if not len(known) or not len(unknown):
        return None
    # Ranks in place of scores: torchmetrics takes the sigmoid of what is no probability, which would make ties.
    ranks = torch.unique(torch.cat([known, unknown]), return_inverse=True)[1].double()
    labels = torch.cat([torch.ones(len(known)), torch.zeros(len(unknown))]).long()
    return float(binary_auroc(ranks / ranks.max().clamp(min=1), labels))


def _groups(model: Model) -> Mapping[str, Tensor]:
    """Masks of the classes of each shot group, (C,); none of them where the model has no class counts."""
    if model.class_counts is None:
        return {group: torch.zeros(len(model.class_names), dtype=torch.bool) for group in GROUPS}
    return group_masks(torch.tensor(model.class_counts), model.groups.many, model.groups.few)


def _mean(values: Tensor) -> float | None:
    values = values[~values.isnan()]
    return float(values.mean()) if len(values) else None
