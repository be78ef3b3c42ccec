"""Reading and writing a run's results.json and per_class.csv."""

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = 1
REQUIRED = ("dataset", "method", "protocol", "seed", "test")
DEFAULT_GROUPS = {"many": 100, "few": 20}  # more than 100 and fewer than 20 training images (Liu et al. 2019)


def write_results(path: str | Path, results: Mapping[str, Any]) -> None:
    """Writes results.json, whole or not at all: a reader never sees half a file.

    The file is plain JSON, one line per top-level key in alphabetical order; what is not a finite number is null.

    Args:
        path: The file; its folder is made where it is missing.
        results: Plain containers, numbers and strings; tensors and arrays are written as lists.

    Raises:
        ValueError: the results are of another schema.
        TypeError: a value that JSON has no form for.
    """
    if results.get("schema") != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA}, got {results.get('schema')!r}")
    write_atomically(Path(path), dump_results(results))


def load_results(path: str | Path) -> dict[str, Any]:
    """Reads a results.json; keys that this version does not know are kept.

    Raises:
        ValueError: the file is missing, is not JSON, is of another schema, or lacks a required key.
    """
    path = Path(path)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    schema = results.get("schema") if isinstance(results, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{path} must have schema {SCHEMA}, got {schema!r}")
    missing = [key for key in REQUIRED if key not in results]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    loaded: dict[str, Any] = results
    return loaded


def write_per_class(path: str | Path, results: Mapping[str, Any], class_names: Sequence[str] | None = None) -> None:
    """Writes per_class.csv: ``class, name, train_images, group, acc, acc_ncm, eps``, a row per class.

    Args:
        path: The file.
        results: A run's results: ``class_counts``, ``test.per_class`` and where present ``test.per_class_ncm``,
            ``eps`` and ``groups`` (limits of the shot groups). What is null or absent is left empty.
        class_names: Names by class index; the index where there are none.
    """
    counts = results["class_counts"]
    limits = results.get("groups") or DEFAULT_GROUPS
    test = results.get("test") or {}
    columns = [
        range(len(counts)),
        class_names or range(len(counts)),
        counts,
        [_group(count, **limits) for count in counts],
        *(values or [None] * len(counts) for values in (test.get("per_class"), test.get("per_class_ncm"))),
        results.get("eps") or [None] * len(counts),
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["class", "name", "train_images", "group", "acc", "acc_ncm", "eps"])
    writer.writerows(zip(*map(_plain, map(list, columns)), strict=True))
    write_atomically(Path(path), file.getvalue())


def dump_results(results: Mapping[str, Any]) -> str:
    """The text of results.json."""
    # Only the top level is sorted: the order of the stages is their order in time.
    lines = [f"  {json.dumps(key)}: {json.dumps(_plain(results[key]), allow_nan=False)}" for key in sorted(results)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write_atomically(path: Path, text: str) -> None:
    """Replaces the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _group(count: int, many: int, few: int) -> str:
    return "many" if count > many else "few" if count < few else "medium"
