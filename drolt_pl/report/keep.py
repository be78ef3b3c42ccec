"""Keeps a finished run as one small file: a result table can be made again from it after the weights are gone."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from drolt_pl import escape, folders
from drolt_pl.comparison import Comparison
from drolt_pl.errors import SettingError
from drolt_pl.kept import OF_A_RUN, Kept
from drolt_pl.records import read_record
from drolt_pl.regular import read_text
from drolt_pl.results import Results, Setting

MAX_BYTES = 200_000
VALUES = TypeAdapter(dict[str, JsonValue])


def keep_run(run_dir: str | Path, dest: str | Path, brief: bool = False) -> list[str]:
    """Writes what tables and figures need of a finished run into one file of less than 200 kB, without weights.

    Kept are results.json (with a ``setting``: the backbone, schedule, profile and ratio that the run was composed of),
    the names of the classes, metrics.csv (six significant digits), split.json (without its index lists; the hashes
    stay), classifiers_<stage>.json of `drolt classifiers`, and .hydra/config.yaml.

    Args:
        run_dir: A run's folder.
        dest: The file to make.
        brief: Leave out the values of single classes, and of metrics.csv all but the last epoch of each stage: about
            10 kB, for studies of hundreds of runs.

    Returns:
        What was left out, asked for or because it was too large: ``per-class values``, ``epochs`` or ``metrics.csv``.

    Raises:
        SettingError: the run has no results, a file of it cannot be read, or ``dest`` exists.
    """
    run_dir, dest = Path(run_dir), Path(dest)
    if not (run_dir / OF_A_RUN).exists():
        raise SettingError(
            f"run_dir {run_dir}", "holds no results.json: the run has not finished, or this is not a run"
        )
    if dest.exists():
        raise SettingError(f"dest {dest}", "holds a kept run already: choose another name")
    results = Results.load(run_dir / OF_A_RUN)
    if results.setting is None:
        results = results.model_copy(update={"setting": setting_of(run_dir)})
    compared = (Comparison.load(_own(run_dir, path.name)) for path in sorted(run_dir.glob("classifiers_*.json")))
    kept = Kept(
        kept=1,
        results=results,
        class_names=_class_names(run_dir),
        config=_config(run_dir),
        split=_split(run_dir),
        classifiers={comparison.stage: comparison for comparison in compared},
        metrics=_shortened(_text(run_dir, "metrics.csv")) if (run_dir / "metrics.csv").exists() else None,
    )
    left_out = []
    if brief or _size(kept) > MAX_BYTES:
        kept = _without_classes(kept)
        left_out.append("per-class values")
    if brief and kept.metrics:
        kept = kept.model_copy(update={"metrics": _last_epochs(kept.metrics)})
        left_out.append("epochs")
    if _size(kept) > MAX_BYTES and kept.metrics is not None:
        kept = kept.model_copy(update={"metrics": None})
        left_out.append("metrics.csv")
    kept.write(dest)
    return left_out


def _without_classes(kept: Kept) -> Kept:
    results = kept.results
    shorter = results.model_copy(
        update={
            "test": results.test.without_classes(),
            "test_pool": results.test_pool.without_classes() if results.test_pool is not None else None,
            "eps": None,
            "stages": {name: stage.without_classes() for name, stage in results.stages.items()},
            "images": {},
        }
    )
    return kept.model_copy(update={"results": shorter, "class_names": None})


def _last_epochs(lines: Sequence[str]) -> list[str]:
    """The header and the last line of each stage."""
    header, *rows = [(line, next(csv.reader([line]))) for line in lines if line] or [("", [])]
    place = header[1].index("stage_name") if "stage_name" in header[1] else len(header[1])
    return [header[0], *{"".join(cells[place : place + 1]): line for line, cells in rows}.values()]


def _own(run_dir: Path, name: str) -> Path:
    folders.require_own(run_dir, name)
    return run_dir / name


def _text(run_dir: Path, name: str) -> str:
    return read_text(_own(run_dir, name), "CSV")


def _config(run_dir: Path) -> dict[str, JsonValue]:
    _own(run_dir, folders.CONFIG.as_posix())
    try:
        return VALUES.validate_python(folders.config(run_dir))
    except ValidationError as error:
        raise SettingError(str(run_dir / folders.CONFIG), "must hold plain values of JSON alone") from error


def _split(run_dir: Path) -> dict[str, JsonValue]:
    if not (run_dir / folders.SPLIT).exists():
        return {}
    record = read_record(_own(run_dir, folders.SPLIT), VALUES.validate_json)
    return VALUES.validate_python(_without_lists(record))


def _class_names(run_dir: Path) -> list[str] | None:
    """The names in per_class.csv; null where there is no such file."""
    if not (run_dir / "per_class.csv").exists():
        return None
    rows = _rows(_text(run_dir, "per_class.csv"))
    if not rows or "name" not in rows[0]:
        return None
    column = rows[0].index("name")
    return [row[column] for row in rows[1:] if len(row) > column]


def setting_of(run_dir: Path) -> Setting:
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


def _shortened(text: str) -> list[str]:
    """The lines of a CSV text with six significant digits in every number that is not whole."""
    rows = _rows(text)
    # Names stay as they are: a stage may be called infinity.
    names = {index for index, column in enumerate(rows[0]) if "name" in column} if rows else set()

    def short(column: int, cell: str) -> str:
        try:
            return cell if column in names or cell.lstrip("-").isdigit() else f"{float(cell):.6g}"
        except ValueError:
            return cell

    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(
        [escape.cell(short(*cell)) for cell in enumerate(row)] for row in rows
    )
    return file.getvalue().splitlines()


def _rows(text: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise SettingError("run_dir", f"must hold whole tables: one cannot be read ({error})") from error


def _without_lists(record: Mapping[str, object]) -> dict[str, object]:
    return {
        key: _without_lists(value) if isinstance(value, Mapping) else value
        for key, value in record.items()
        if not isinstance(value, list)
    }


def _size(kept: Kept) -> int:
    return len(kept.dump().encode())
