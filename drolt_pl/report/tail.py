"""tail.json: the rare classes that a run confuses most, with thumbnails of training images, as its page shows them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from drolt_pl import escape
from drolt_pl.groups import group_of
from drolt_pl.records import Record, read_record
from drolt_pl.report.tables import percent
from drolt_pl.results import Results

NAME = "tail.json"
MOST_CLASSES = 6
MOST_IMAGES = 3
SIDE = 64  # pixels of a thumbnail, at most

Jpeg = Annotated[str, Field(pattern="^[A-Za-z0-9+/]+={0,2}$", max_length=20_000)]  # in base64
Jpegs = Annotated[Sequence[Jpeg], Field(max_length=MOST_IMAGES)]


class Taken(Record):
    """The class that another is taken for most often, and by how many of its test images."""

    name: str
    images: int
    pictures: Jpegs


class Confused(Record):
    """A class, its training images, its test accuracy, and what it is taken for, if that was recorded."""

    name: str
    train_images: int
    accuracy: float
    pictures: Jpegs
    taken: Taken | None = None


class Tail(Record):
    """The content of the file."""

    classes: Annotated[Sequence[Confused], Field(max_length=MOST_CLASSES)]


def most_confused(results: Results) -> list[int]:
    """The few-shot classes with the least test accuracy that make a mistake; of equals the first."""
    accuracies, groups = results.test.per_class or (), results.groups
    found = [
        (accuracy, index)
        for index, (accuracy, count) in enumerate(zip(accuracies, results.class_counts, strict=False))
        if accuracy is not None and accuracy < 1 and group_of(count, groups.many, groups.few) == "few"
    ]
    return [index for _, index in sorted(found)[:MOST_CLASSES]]


def tail_view(folder: Path) -> list[Mapping[str, object]] | None:
    """What the page shows of a run's file, texts escaped for a line; null where there is none.

    Raises:
        SettingError: the file cannot be read.
    """
    if not (folder / NAME).exists():
        return None
    return [
        {
            "name": escape.plain(found.name),
            "facts": f"{found.train_images} training image{'s' * (found.train_images != 1)}, "
            f"{percent(found.accuracy)} % of its test images right",
            "pictures": found.pictures,
            "taken": None if found.taken is None else {**found.taken.plain(), "name": escape.plain(found.taken.name)},
        }
        for found in read_record(folder / NAME, Tail.model_validate_json).classes
    ]
