"""Keeping a run: its small files, so that a result table can be made again long after the weights are gone."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from drolt_pl.results import dump_results, load_results, write_atomically

MAX_BYTES = 200_000
# Given up in this order where a run with thousands of classes or epochs is too large.
EXPENDABLE = ("per_class.csv", "metrics.csv")


def keep_run(run_dir: str | Path, dest: str | Path) -> list[str]:
    """Copies what a result table needs of a finished run into a folder of less than 200 kB, without weights.

    Kept are results.json (with a ``setting``: the backbone, schedule, profile and ratio that the run was composed of),
    per_class.csv and metrics.csv (six significant digits), split.json (without its index lists; the hashes stay),
    classifiers_<stage>.json of `drolt classifiers`, .hydra/overrides.yaml and .hydra/config.yaml.

    Args:
        run_dir: A run's folder.
        dest: The folder to make.

    Returns:
        What was left out because it was too large: names of files, or ``per-class values of results.json``.

    Raises:
        ValueError: the run has no results, or ``dest`` holds some.
    """
    run_dir, dest = Path(run_dir), Path(dest)
    if not (run_dir / "results.json").exists():
        raise ValueError(f"run_dir {run_dir} holds no results.json: the run has not finished, or this is not a run")
    if (dest / "results.json").exists():
        raise ValueError(f"dest {dest} holds a kept run already: choose another name")
    results = load_results(run_dir / "results.json")
    results.setdefault("setting", _setting(run_dir))
    files = {"results.json": dump_results(results)}
    for name in EXPENDABLE:
        if (run_dir / name).exists():
            files[name] = _shortened((run_dir / name).read_text(encoding="utf-8"))
    if (run_dir / "split.json").exists():
        record = json.loads((run_dir / "split.json").read_text(encoding="utf-8"))
        files["split.json"] = json.dumps(_without_lists(record), indent=2) + "\n"
    compared = sorted(path.name for path in run_dir.glob("classifiers_*.json"))
    for name in (*compared, ".hydra/overrides.yaml", ".hydra/config.yaml"):
        if (run_dir / name).exists():
            files[name] = (run_dir / name).read_text(encoding="utf-8")

    left_out = []
    if _size(files) > MAX_BYTES:
        results["test"] = {key: value for key, value in results["test"].items() if not key.startswith("per_class")}
        files["results.json"] = dump_results({**results, "eps": None})
        left_out.append("per-class values of results.json")
    for name in EXPENDABLE:
        if _size(files) > MAX_BYTES and files.pop(name, None) is not None:
            left_out.append(name)
    for name in reversed(files):  # results.json last: where it is, the rest is
        write_atomically(dest / name, files[name])
    return left_out


def _setting(run_dir: Path) -> dict[str, Any]:
    """What decides which result table the run belongs to; null where Hydra's files do not say."""
    choices = _yaml(run_dir / ".hydra" / "hydra.yaml").get("hydra", {}).get("runtime", {}).get("choices", {})
    dataset = _yaml(run_dir / ".hydra" / "config.yaml").get("dataset", {})
    # One class reads any folder: which folder it was is part of the data set's name.
    folder = Path(dataset.get("root") or "").name if choices.get("dataset") == "image_folder" else None
    return {
        "folder": folder,
        "profile": dataset.get("profile") if dataset.get("imbalance_ratio") is not None else None,
        "imbalance_ratio": dataset.get("imbalance_ratio"),
        "backbone": choices.get("backbone"),
        "schedule": choices.get("schedule"),
    }


def _yaml(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def _shortened(text: str) -> str:
    """The CSV text with six significant digits in every number that is not whole."""
    rows = list(csv.reader(io.StringIO(text)))
    # A class may be called 1.50, or infinity.
    names = {index for index, column in enumerate(rows[0]) if "name" in column} if rows else set()

    def short(column: int, cell: str) -> str:
        try:
            return cell if column in names or cell.lstrip("-").isdigit() else f"{float(cell):.6g}"
        except ValueError:
            return cell

    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([short(*cell) for cell in enumerate(row)] for row in rows)
    return file.getvalue()


def _without_lists(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_lists(value) if isinstance(value, Mapping) else value
        for key, value in record.items()
        if not isinstance(value, list)
    }


def _size(files: Mapping[str, str]) -> int:
    return sum(len(text.encode()) for text in files.values())
