"""Reading what the large sets are published as: `path label` lines, and iNaturalist's annotation files."""

import json
from pathlib import Path
from typing import Any, NamedTuple


class Entries(NamedTuple):
    """One part of a data set."""

    paths: list[str]  # below the image root
    labels: list[int]


def read_lists(files: dict[str, Path]) -> tuple[dict[str, Entries], list[str]]:
    """Parts, and class names, from text files by part; labels are 0 ... C-1, and their numbers name the classes."""
    parts = {part: _read_list(path) for part, path in files.items()}
    num_classes = max(parts["train"].labels, default=-1) + 1
    return parts, [str(class_id) for class_id in range(num_classes)]


def read_annotations(files: dict[str, Path]) -> tuple[dict[str, Entries], list[str]]:
    """Parts, and class names, from annotation files by part; classes are in the order of their category's id."""
    contents = {part: _read_json(path) for part, path in files.items()}
    categories = sorted(contents["train"]["categories"], key=lambda category: int(category["id"]))
    class_ids = {category["id"]: class_id for class_id, category in enumerate(categories)}
    parts = {part: _annotated(files[part], content, class_ids) for part, content in contents.items()}
    return parts, [str(category["name"]) for category in categories]


def _read_list(path: Path) -> Entries:
    """In the order of the file; empty lines are passed over."""
    paths, labels = [], []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            name, _, label = line.strip().rpartition(" ")
            if not name or not (label.isascii() and label.isdigit()):
                raise ValueError(
                    f"lists: line {number} of {str(path)!r} is not '<path> <label>', got {line.rstrip()!r}"
                )
            paths.append(name.strip())
            labels.append(int(label))
    return Entries(paths, labels)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"lists: file {str(path)!r} is not JSON ({error}); fetch it again") from None
    wanted = ("images", "annotations", "categories")
    missing = [key for key in wanted if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f"lists: file {str(path)!r} lacks {missing}; give an iNaturalist annotation file")
    return dict(content)


def _annotated(path: Path, content: dict[str, Any], class_ids: dict[Any, int]) -> Entries:
    """In sorted order of the paths, whatever the order of the file."""
    category_of = {annotation["image_id"]: annotation["category_id"] for annotation in content["annotations"]}
    entries = []
    for image in content["images"]:
        category = category_of.get(image["id"])
        if category not in class_ids:
            raise ValueError(
                f"lists: image {image['file_name']!r} of {str(path)!r} has no known category; fetch the file again"
            )
        entries.append((image["file_name"], class_ids[category]))
    entries.sort()
    return Entries([name for name, _ in entries], [class_id for _, class_id in entries])
