"""Long-tail profiles, and the rules by which a pool of images becomes a long-tailed data set."""

import math
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from drolt_pl.checked import checked
from drolt_pl.errors import SettingError, require, require_choice, require_int
from drolt_pl.ranges import Count, Ratio, SplitSeed

IntArray = NDArray[np.int64]

Profile = Literal["exp", "step"]
Protocol = Literal["holdout", "published", "test_selected"]
ClassOrder = Literal["label", "shuffled"]
Subset = Literal["seeded", "ldam"]
PROFILES: tuple[str, ...] = get_args(Profile)


def profile_counts(num_classes: int, n_max: int, imbalance_ratio: float, profile: str = "exp") -> IntArray:
    r"""Images per class, most frequent first, as the long-tailed CIFAR sets are cut (Cao et al. 2019, LDAM-DRW).

    `exp`: \(n_c = \lfloor n_{max} \rho^{-c / (C - 1)} \rfloor\), \(\rho\) the imbalance ratio.
    `step`: the first half of the classes keeps \(n_{max}\), the others \(\lfloor n_{max} / \rho \rfloor\).

    Args:
        num_classes: C, at least 2.
        n_max: Images of the most frequent class.
        imbalance_ratio: n_max / n_min, at least 1.
        profile: One of `PROFILES`.

    Returns:
        Counts, (C,), int64, not increasing. They are truncated, not rounded: only so are the totals the published
        ones. A class is empty where n_max is below the ratio.

    Raises:
        SettingError: a value out of range.
    """
    require_choice("profile", profile, PROFILES)
    require_int("num_classes", num_classes, at_least=2)
    require_int("n_max", n_max, at_least=1)
    require("imbalance_ratio", imbalance_ratio, 1 <= imbalance_ratio < math.inf, "must be finite and >= 1")
    rank = np.arange(num_classes)
    if profile == "exp":
        share = float(imbalance_ratio) ** (-rank / (num_classes - 1))
    else:
        share = np.where(rank < num_classes // 2, 1.0, 1.0 / imbalance_ratio)
    # A product such as 500 * 100 ** -1 may come out a hair below the whole number that it is.
    return np.floor(n_max * share + 1e-9).astype(np.int64)


class RuleSettings(TypedDict, total=False):
    """The fields of `SplitRules` as keyword arguments."""

    protocol: Protocol
    imbalance_ratio: Ratio | None
    profile: Profile
    n_max: Count | None
    class_order: ClassOrder
    subset: Subset
    val_per_class: Count
    test_per_class: Count
    split_seed: SplitSeed


@checked
@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """How a pool of images becomes a long-tailed data set.

    Attributes:
        protocol: `holdout` keeps validation images out of the pool (unless the data set brings official ones),
            `published` trains on the full pool without validation, `test_selected` validates on the test set.
        imbalance_ratio: n_max / n_min of the cut, >= 1, or None to keep the pool's own (natural) tail.
        profile: Shape of the cut, one of `PROFILES`.
        n_max: Images of the most frequent class; None takes the size of the pool's largest class.
        class_order: `label` makes class 0 the most frequent; `shuffled` lets `split_seed` decide the order.
        subset: Which images a cut keeps. `seeded` is our own draw; `ldam` keeps the images that LDAM-DRW's code
            draws for the seed `split_seed` (theirs is 0).
        val_per_class: Validation images a class under `holdout`; a natural tail gives at most a fifth of a class.
        test_per_class: Test images a class, taken first, when the data set brings no test images of its own.
        split_seed: Decides the subset, alone.
    """

    protocol: Protocol = "holdout"
    imbalance_ratio: Ratio | None = 100.0
    profile: Profile = "exp"
    n_max: Count | None = None
    class_order: ClassOrder = "label"
    subset: Subset = "seeded"
    val_per_class: Count = 20
    test_per_class: Count = 20
    split_seed: SplitSeed = 0

    def __post_init__(self) -> None:
        if self.imbalance_ratio is None:
            for name, value, default in (("class_order", self.class_order, "label"), ("subset", self.subset, "seeded")):
                demand = f"must be {default!r} when imbalance_ratio is null, since nothing is cut"
                require(name, value, value == default, demand)
        if self.subset == "ldam" and self.split_seed >= 2**32:
            raise SettingError("split_seed", "must be below 2**32 for subset='ldam'", self.split_seed)
