"""A kept run: one small file that holds what tables and figures need after the weights are gone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue

from drolt_pl.comparison import Comparison
from drolt_pl.errors import SettingError
from drolt_pl.folders import parse_metrics
from drolt_pl.records import Record, read_record, write_atomically
from drolt_pl.results import Results

SUFFIX = ".json"
OF_A_RUN = "results.json"


class Kept(Record):
    """The content of a file that `drolt keep` writes.

    Attributes:
        kept: Version of the format.
        results: The run's results.json, with its `setting`.
        class_names: Names by class index; null if they were left out.
        config: The configuration that the run was composed of.
        split: The record of the split, without its lists of images; the hashes stay.
        classifiers: The comparisons of `drolt classifiers`, by stage.
        metrics: The lines of metrics.csv, with six significant digits; null if they were left out.
    """

    kept: Literal[1]
    results: Results
    class_names: Sequence[str] | None = None
    config: Mapping[str, JsonValue] = Field(default_factory=dict)
    split: Mapping[str, JsonValue] = Field(default_factory=dict)
    classifiers: Mapping[str, Comparison] = Field(default_factory=dict)
    metrics: Sequence[str] | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file.

        Raises:
            SettingError: the file cannot be read, or `drolt keep` did not write it.
        """
        if path.name == OF_A_RUN:
            remedy = f"keep the run by `drolt keep {path.parent}`, and remove the folder"
            raise SettingError(
                str(path), "is a file of a run's own folder, which tables are not made from", remedy=remedy
            )
        return read_record(path, cls.model_validate_json)

    def metric_rows(self) -> list[dict[str, str]]:
        """The rows of metrics.csv; none where they were left out.

        Raises:
            SettingError: the lines are no such table.
        """
        return parse_metrics("\n".join(self.metrics), "metrics of a kept run") if self.metrics else []

    def dump(self) -> str:
        """The text of the file: one line for each field of the results, key of the configuration and epoch."""
        parts = {key: _lines(value) for key, value in self.plain().items()}
        parts["results"] = self.results.dump().rstrip()
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {text}" for key, text in parts.items()) + "\n}\n"

    def write(self, path: Path) -> None:
        """Writes the file in one step."""
        write_atomically(path, self.dump())


def load_all(root: str | Path) -> dict[str, Kept]:
    """Loads all kept runs under a folder, by path, in the order of their paths.

    Raises:
        SettingError: there is none, or one cannot be read.
    """
    paths = sorted(Path(root).rglob(f"*{SUFFIX}"), key=lambda path: path.as_posix())
    if not paths:
        raise SettingError(f"root {root}", "holds no kept run: put runs there by `drolt keep RUN_DIR`")
    return {path.as_posix(): Kept.load(path) for path in paths}


def _lines(value: object) -> str:
    """JSON, a line an entry of a mapping or of a list of texts."""
    if isinstance(value, Mapping) and value:
        return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items()) + "\n}"
    if isinstance(value, list | tuple) and value:
        return "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in value) + "\n]"
    return json.dumps(value)
