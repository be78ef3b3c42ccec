"""Long-tail profiles, and the rules by which a pool of images becomes a long-tailed data set."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

PROFILES = ("exp", "step")
PROTOCOLS = ("holdout", "published", "test_selected")
CLASS_ORDERS = ("label", "shuffled")
SUBSETS = ("seeded", "ldam")


def require_int(field: str, value: object, *, at_least: int) -> None:
    """Refuse a setting that is not an integer or too small, in one sentence that names it."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{field} must be an integer >= {at_least}, got {value!r}")


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
        Counts, (C,), int64, not increasing. Truncated, not rounded: the published totals come out that way.
    """
    rank = np.arange(num_classes)
    if profile == "exp":
        share = float(imbalance_ratio) ** (-rank / (num_classes - 1))
    elif profile == "step":
        share = np.where(rank < num_classes // 2, 1.0, 1.0 / imbalance_ratio)
    else:
        raise ValueError(f"profile must be one of {PROFILES}, got {profile!r}")
    # A product such as 500 * 100 ** -1 may come out a hair under the integer that it is.
    return np.floor(n_max * share + 1e-9).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """How a pool of images becomes a long-tailed data set.

    Attributes:
        protocol: `holdout` keeps validation images out of the pool (unless the data set brings official ones),
            `published` trains on the full pool without validation, `test_selected` validates on the test set.
        imbalance_ratio: n_max / n_min of the cut, >= 1, or None to keep the pool's own (natural) tail.
        profile: Shape of the cut, one of `PROFILES`.
        n_max: Images of the most frequent class; None is the largest class of the pool.
        class_order: `label`: class 0 is the most frequent; `shuffled`: `split_seed` decides which classes are.
        subset: Which images a cut keeps: `seeded`, or `ldam`, those that LDAM-DRW's code draws for the seed
            `split_seed` (theirs is 0).
        val_per_class: Validation images a class under `holdout`; a natural tail gives at most a fifth of a class.
        test_per_class: Test images a class, taken first, when the data set has no test part of its own.
        split_seed: Decides the subset, alone.
    """

    protocol: str = "holdout"
    imbalance_ratio: float | None = 100.0
    profile: str = "exp"
    n_max: int | None = None
    class_order: str = "label"
    subset: str = "seeded"
    val_per_class: int = 20
    test_per_class: int = 20
    split_seed: int = 0

    def __post_init__(self) -> None:
        choices = {"protocol": PROTOCOLS, "profile": PROFILES, "class_order": CLASS_ORDERS, "subset": SUBSETS}
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} must be one of {allowed}, got {getattr(self, field)!r}")
        ratio = self.imbalance_ratio
        if ratio is not None and (not isinstance(ratio, int | float) or not ratio >= 1):
            raise ValueError(f"imbalance_ratio must be >= 1, or null to keep the natural tail, got {ratio!r}")
        for field, default in (("class_order", "label"), ("subset", "seeded")):
            if ratio is None and getattr(self, field) != default:
                raise ValueError(
                    f"{field} must be {default!r} when imbalance_ratio is null (the data decide), got "
                    f"{getattr(self, field)!r}"
                )
        if self.n_max is not None:
            require_int("n_max", self.n_max, at_least=1)
        require_int("val_per_class", self.val_per_class, at_least=1)
        require_int("test_per_class", self.test_per_class, at_least=1)
        require_int("split_seed", self.split_seed, at_least=0)
        if self.subset == "ldam" and self.split_seed >= 2**32:
            raise ValueError(f"split_seed must be below 2**32 for subset='ldam', got {self.split_seed}")
