"""Keeps the small files of a run: a result table can be made again from them after the weights are gone."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from drolt_pl import folders
from drolt_pl.errors import SettingError
from drolt_pl.records import write_atomically
from drolt_pl.results import Results, Setting

MAX_BYTES = 200_000
# These files are left out, in this order, while a run with thousands of classes or epochs is too large.
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
        SettingError: the run has no results, or ``dest`` holds some.
    """
    run_dir, dest = Path(run_dir), Path(dest)
    if not (run_dir / "results.json").exists():
        raise SettingError(
            f"run_dir {run_dir}", "holds no results.json: the run has not finished, or this is not a run"
        )
    if (dest / "results.json").exists():
        raise SettingError(f"dest {dest}", "holds a kept run already: choose another name")
    results = Results.load(run_dir / "results.json")
    if results.setting is None:
        results = results.model_copy(update={"setting": _setting(run_dir)})
    files = {"results.json": results.dump()}
    for name in EXPENDABLE:
        if (run_dir / name).exists():
            files[name] = _shortened((run_dir / name).read_text(encoding="utf-8"))
    if (run_dir / "split.json").exists():
        record = json.loads((run_dir / "split.json").read_text(encoding="utf-8"))
        files["split.json"] = json.dumps(_without_lists(record), indent=2) + "\n"
    compared = sorted(path.name for path in run_dir.glob("classifiers_*.json"))
    for name in (*compared, folders.OVERRIDES.as_posix(), folders.CONFIG.as_posix()):
        if (run_dir / name).exists():
            files[name] = (run_dir / name).read_text(encoding="utf-8")

    left_out = []
    if _size(files) > MAX_BYTES:
        shorter = results.model_copy(update={"test": results.test.without_classes(), "eps": None})
        files["results.json"] = shorter.dump()
        left_out.append("per-class values of results.json")
    for name in EXPENDABLE:
        if _size(files) > MAX_BYTES and files.pop(name, None) is not None:
            left_out.append(name)
    for name in reversed(files):  # results.json comes last: a folder that has it is complete
        write_atomically(dest / name, files[name])
    return left_out


def _setting(run_dir: Path) -> Setting:
    """The setting of a run, from the files that Hydra wrote; null where they do not say."""
    choices, dataset = folders.choices(run_dir), folders.dataset(run_dir)
    ratio = dataset.get("imbalance_ratio")
    # The same class reads every folder of images, so the name of the folder is part of the data set's name; so with
    # files of stored features.
    key = {"image_folder": "root", "features": "file"}.get(choices.get("dataset", ""))
    source = Path(str(dataset.get(key) or "")) if key else None
    return Setting.model_validate(
        {
            "folder": None if source is None else source.stem if key == "file" else source.name,
            "profile": dataset.get("profile") if ratio is not None else None,
            "imbalance_ratio": ratio,
            "backbone": choices.get("backbone"),
            "schedule": choices.get("schedule"),
        }
    )


def _shortened(text: str) -> str:
    """The CSV text with six significant digits in every number that is not whole."""
    rows = list(csv.reader(io.StringIO(text)))
    # Names stay as they are: a class may be called 1.50, or infinity.
    names = {index for index, column in enumerate(rows[0]) if "name" in column} if rows else set()

    def short(column: int, cell: str) -> str:
        try:
            return cell if column in names or cell.lstrip("-").isdigit() else f"{float(cell):.6g}"
        except ValueError:
            return cell

    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([short(*cell) for cell in enumerate(row)] for row in rows)
    return file.getvalue()


def _without_lists(record: Mapping[str, object]) -> dict[str, object]:
    return {
        key: _without_lists(value) if isinstance(value, Mapping) else value
        for key, value in record.items()
        if not isinstance(value, list)
    }


def _size(files: Mapping[str, str]) -> int:
    return sum(len(text.encode()) for text in files.values())
