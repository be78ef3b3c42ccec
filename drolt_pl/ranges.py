"""Types with ranges, for the arguments of constructors and the keys of a configuration; `checked` holds values to them.

No number is nan or infinite, and none is so large that float32 or the memory of a machine would not hold what it makes.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le, Len, Lt

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Holds:
    """A demand that is no bound: its words, which follow those of the type, and the function that tests it."""

    demand: str
    test: Callable[[Any], bool]

    def __get_pydantic_core_schema__(self, source: object, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from pydantic_core import PydanticCustomError, core_schema

        def hold(value: object) -> object:
            if not self.test(value):
                raise PydanticCustomError("demand", "does not hold")  # the words are those of `describe`
            return value

        return core_schema.no_info_after_validator_function(hold, handler(source))


def _is_rising(values: Sequence[float]) -> bool:
    return all(low < high for low, high in itertools.pairwise(values))


def _is_ordered(values: Sequence[float]) -> bool:
    return all(low <= high for low, high in itertools.pairwise(values))


def _is_distinct(values: Sequence[str]) -> bool:
    return len(set(values)) == len(values)


def _can_be_path(text: str) -> bool:
    return "\0" not in text and all(len(os.fsencode(part)) <= 255 for part in text.split("/"))


def _is_printable(text: str) -> bool:
    return text.isprintable()


def _names_a_stage(name: str) -> bool:
    word = name.replace("_", "a").isalnum()
    return word and name not in ("last", "previous", "best") and not name.endswith(("_best", "_init"))


LARGE = 1e6

Number = Annotated[float, Ge(-LARGE), Le(LARGE)]
NonNegative = Annotated[float, Ge(0), Le(LARGE)]
Positive = Annotated[float, Gt(0), Le(LARGE)]
Ratio = Annotated[float, Ge(1), Le(LARGE)]
Fraction = Annotated[float, Ge(0), Le(1)]
PositiveFraction = Annotated[float, Gt(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
Inside = Annotated[float, Gt(0), Lt(1)]
Rate = Annotated[float, Ge(0), Le(1000)]  # of learning, or of decay

Whole = Annotated[int, Ge(0), Le(1_000_000)]
Count = Annotated[int, Ge(1), Le(1_000_000)]
Width = Annotated[int, Ge(1), Le(65_536)]  # of a layer
Images = Annotated[int, Ge(1), Le(100_000_000)]  # of an epoch
Few = Annotated[int, Ge(1), Le(64)]  # what is repeated within a step
Workers = Annotated[int, Ge(0), Le(1024)]  # processes
Threads = Annotated[int, Ge(1), Le(1024)]
Pixels = Annotated[int, Ge(1), Le(8192)]  # of a side of an image
Area = Annotated[int, Ge(1), Le(1_000_000_000)]  # pixels of a whole image
Padding = Annotated[int, Ge(0), Le(8192)]
Level = Annotated[int, Ge(0), Le(255)]  # of a pixel
Seed = Annotated[int, Ge(0), Lt(2**32)]  # what NumPy takes
SplitSeed = Annotated[int, Ge(0), Lt(2**63)]

Text = Annotated[str, Len(1, 1000), Holds("printable", _is_printable)]
PathText = Annotated[str, Len(1, 4096), Holds("can be a path", _can_be_path)]
AnyPath = PathText | os.PathLike[str]

# Names of stages are names of files beside these.
StageName = Annotated[
    str,
    Len(1, 100),
    Holds(
        "of letters, digits and _, and not that of another checkpoint (last, previous, best, *_best, *_init)",
        _names_a_stage,
    ),
]
Names = Annotated[Sequence[Text], Len(1), Holds("no name twice", _is_distinct)]
Milestones = Annotated[Sequence[Inside], Len(1), Holds("rising", _is_rising)]
Means = Annotated[Sequence[Number], Len(1, 64)]
Deviations = Annotated[Sequence[Positive], Len(1, 64)]
Shares = Annotated[Sequence[PositiveFraction], Len(2, 2), Holds("the smaller first", _is_ordered)]
Proportions = Annotated[Sequence[Annotated[float, Gt(0), Le(100)]], Len(2, 2), Holds("the smaller first", _is_ordered)]
FileName = Annotated[str, Len(0, 200), Holds("a name without /", lambda name: "/" not in name and name.isprintable())]
