"""Reading the files that the large sets are published as: `path label` lines, and iNaturalist's annotations."""

import json
from pathlib import Path
from typing import NamedTuple

from drolt_pl.data.prepare.reading import SHOWN, read_text
from drolt_pl.errors import SettingError, reason

MAX_DIGITS = 9  # of a label


class Entries(NamedTuple):
    """One part of a data set."""

    paths: list[str]  # below the image root
    labels: list[int]


class Annotations(NamedTuple):
    """An annotation file of iNaturalist."""

    images: list[tuple[int, str]]  # image id and path
    categories: dict[int, str]  # name by category id
    category_of: dict[int, int]  # category id by image id


def read_lists(files: dict[str, Path]) -> tuple[dict[str, Entries], list[str]]:
    """Parts, and class names, from text files by part; labels are 0 ... C-1, and their numbers name the classes."""
    parts = {part: _read_list(path) for part, path in files.items()}
    num_classes = max(parts["train"].labels, default=-1) + 1
    if num_classes > len(parts["train"].labels):
        demand = f"must name training images of every class from 0 to {num_classes - 1}: there are fewer images"
        raise SettingError("lists", demand, remedy="give the whole training list")
    return parts, [str(class_id) for class_id in range(num_classes)]


def read_annotations(files: dict[str, Path]) -> tuple[dict[str, Entries], list[str]]:
    """Parts, and class names, from annotation files by part; classes are in the order of their category's id."""
    contents = {part: _read_annotations(path) for part, path in files.items()}
    categories = contents["train"].categories
    class_ids = {category: class_id for class_id, category in enumerate(sorted(categories))}
    parts = {part: _annotated(files[part], content, class_ids) for part, content in contents.items()}
    return parts, [categories[category] for category in class_ids]


def _read_list(path: Path) -> Entries:
    """Entries in the order of the file; empty lines are passed over."""
    paths, labels = [], []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not (label.isascii() and label.isdigit() and len(label) <= MAX_DIGITS):
            demand = f"must have lines '<path> <label>': line {number} of {str(path)!r} is {line.rstrip()[:SHOWN]!r}"
            raise SettingError("lists", demand)
        paths.append(name.strip())
        labels.append(int(label))
    return Entries(paths, labels)


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        demand = f"must be text in UTF-8: {str(path)!r} cannot be read as such ({reason(error)[:SHOWN]})"
        raise SettingError("lists", demand, remedy="fetch it again") from None


def _read_annotations(path: Path) -> Annotations:
    try:
        content = json.loads(read_text(path))
        return Annotations(
            images=[(image["id"], str(image["file_name"])) for image in content["images"]],
            categories={int(category["id"]): str(category["name"]) for category in content["categories"]},
            category_of={entry["image_id"]: int(entry["category_id"]) for entry in content["annotations"]},
        )
    except OSError as error:
        raise SettingError("lists", f"must be readable: {str(path)!r} is not ({reason(error)})") from None
    except KeyError as error:
        demand = f"must be iNaturalist annotation files: {str(path)!r} lacks {error}"
        raise SettingError("lists", demand, remedy="fetch it again") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # not JSON, or JSON of another kind
        demand = f"must be iNaturalist annotation files in JSON: {str(path)!r} is not ({reason(error)[:SHOWN]})"
        raise SettingError("lists", demand, remedy="fetch it again") from None


def _annotated(path: Path, content: Annotations, class_ids: dict[int, int]) -> Entries:
    """Entries in sorted order of the paths, whatever the order of the file."""
    entries = []
    for image, name in content.images:
        category = content.category_of.get(image)
        if category not in class_ids:
            demand = f"must give every image a known category: image {name[:SHOWN]!r} of {str(path)!r} has none"
            raise SettingError("lists", demand, remedy="fetch the file again")
        entries.append((name, class_ids[category]))
    entries.sort()
    return Entries([name for name, _ in entries], [class_id for _, class_id in entries])
