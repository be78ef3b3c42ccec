"""Shot groups: many, medium and few training images. No other file knows the rule."""

from typing import Protocol, Self, TypeVar

from drolt_pl.errors import require

MANY, FEW = 100, 20  # more than 100, fewer than 20 training images (Liu et al. 2019)
GROUPS = ("many", "medium", "few")
COLOURS = {"many": "#0072b2", "medium": "#009e73", "few": "#d55e00"}  # in figures; Okabe and Ito 2008


class Mask(Protocol):
    """A boolean array or tensor."""

    def __and__(self, other: Self, /) -> Self: ...
    def __invert__(self) -> Self: ...


M = TypeVar("M", bound=Mask, covariant=True)


class Counts(Protocol[M]):
    """An array or tensor of image counts."""

    def __gt__(self, other: int, /) -> M: ...
    def __lt__(self, other: int, /) -> M: ...


def group_of(count: int, many: int = MANY, few: int = FEW) -> str:
    """The group of a class with `count` training images.

    Examples:
        >>> group_of(101), group_of(100), group_of(20), group_of(19)
        ('many', 'medium', 'medium', 'few')
    """
    return "many" if count > many else "few" if count < few else "medium"


def group_masks(class_counts: Counts[M], many: int = MANY, few: int = FEW) -> dict[str, M]:
    """Which classes belong to each group: a boolean mask of the kind of `class_counts`, a tensor or an array (C,).

    Raises:
        SettingError: the limits overlap.
    """
    require(
        "groups.few", few, few <= many + 1, f"must be at most groups.many + 1 = {many + 1}, else the groups overlap"
    )
    is_many, is_few = class_counts > many, class_counts < few
    return {"many": is_many, "medium": ~is_many & ~is_few, "few": is_few}
