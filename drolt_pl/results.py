"""A run's results.json, typed, and its per_class.csv."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from drolt_pl import escape
from drolt_pl.groups import FEW, MANY, group_of
from drolt_pl.records import Record, finite, read_record, write_atomically

SCHEMA: Literal[1] = 1


class Accuracies(Record):
    """The accuracies of one model on one set of images: fractions in [0, 1], null if there is nothing to average.

    Attributes:
        acc: Mean over classes; `many`, `medium` and `few` are means over the classes of a shot group.
        acc_micro: Share of correctly classified images.
        per_class: Accuracy by class index, (C,).
        ece: Expected calibration error.
        acc_ncm: `acc` of the nearest centroid by the loss's distance; fields that end in `_ncm` follow the same rule.
        acc_ncm_cosine: `acc` of the nearest centroid by the cosine.
    """

    acc: float | None = None
    acc_micro: float | None = None
    many: float | None = None
    medium: float | None = None
    few: float | None = None
    per_class: Sequence[float | None] | None = None
    ece: float | None = None
    acc_ncm: float | None = None
    acc_ncm_cosine: float | None = None
    many_ncm: float | None = None
    medium_ncm: float | None = None
    few_ncm: float | None = None
    per_class_ncm: Sequence[float | None] | None = None

    @classmethod
    def of(cls, values: Mapping[str, float | Sequence[float]]) -> Self:
        """Makes the record from values by name; nan becomes null."""
        return cls.model_validate(finite(values))

    def numbers(self) -> dict[str, float]:
        """The measured numbers by name."""
        return {name: value for name, value in self if isinstance(value, float)}

    def without_classes(self) -> "Accuracies":
        """The same without the values by class."""
        return self._without("per_class", "per_class_ncm")

    def without_nearest_by_class(self) -> "Accuracies":
        """The same without the nearest centroid's values by class; those of the classifier stay."""
        return self._without("per_class_ncm")

    def _without(self, *names: str) -> "Accuracies":
        return Accuracies.model_validate(self.model_dump(exclude_unset=True, exclude=set(names)))


class StageResults(Record):
    """The accuracies of a stage's final model; null for sets that were not measured, by class but for `val`."""

    train: Accuracies | None = None
    val: Accuracies | None = None
    test: Accuracies | None = None

    def sets(self) -> dict[str, Accuracies | None]:
        """The accuracies by set of images."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def without_classes(self) -> "StageResults":
        """The same without the values by class."""
        sets = {name: None if found is None else found.without_classes() for name, found in self.sets().items()}
        return StageResults(**sets)


class Groups(Record):
    """Limits of the shot groups: more than `many` training images, fewer than `few`."""

    many: int = MANY
    few: int = FEW


class Batch(Record):
    """The global batch, the share of each rank, and the factor on the learning rates."""

    global_: int = Field(validation_alias="global", serialization_alias="global")
    per_rank: int
    ranks: int
    lr_scale: float


class Selection(Record):
    """How the reported epoch was chosen: the best `metric` of `n_candidates` epochs; with a null metric the last."""

    metric: str | None = None
    stage: str | None = None
    epoch: int | None = None
    n_candidates: int | None = None


class Timing(Record):
    """Seconds of training and of centroid passes, and images a second.

    Attributes:
        taken_s: Seconds that another run spent on the stages which `init_from` takes; null if nobody knows them.
    """

    train_s: float | None = None
    taken_s: float | None = None
    centroid_s: float | None = None
    images_per_s: float | None = None

    @property
    def whole_s(self) -> float | None:
        """Seconds of training with the stages that `init_from` takes, where these are known."""
        return None if self.train_s is None else self.train_s + (self.taken_s or 0.0)


class Setting(Record):
    """The values that decide which result table a kept run belongs to.

    Attributes:
        folder: Name of the folder or file, for a data set that is a folder of images or a file of features.
        profile: Shape of the cut; null for a data set that is not cut, and so is `imbalance_ratio`.
    """

    folder: str | None = None
    profile: str | None = None
    imbalance_ratio: int | float | None = None
    backbone: str | None = None
    schedule: str | None = None


class Results(Record):
    """The content of a run's results.json.

    Attributes:
        test: Accuracies of the reported model on the test set; `val` has no values by class.
        images: Images by class of the sets `test` and `test_pool`.
        stages: Accuracies of each stage's final model, in the order of training.
        last_epochs: Epoch with which each stage ended, early by its `patience` or not; counted from 0 over all stages.
        objective: The best value of `selection.metric`, which sweeps maximise.
        eps: Radius by class; with a loss of several layers, by class and layer; null without the robust loss.
        eps_updates: Number of updates of each class's learned radius.
        chosen: The values that the classifier chose on validation images, by argument.
        overrides: The overrides of the command line.
        setting: Null in a run's own folder; `drolt keep` fills it in.
    """

    schema_: Literal[1] = Field(validation_alias="schema", serialization_alias="schema")
    dataset: str
    method: str
    protocol: str
    seed: int
    test: Accuracies
    name: str | None = None
    split_seed: int | None = None
    split_sha256: str | None = None
    class_counts: Sequence[int] = ()
    groups: Groups = Groups()
    num_parameters: int | None = None
    images_seen: int | None = None
    batch: Batch | None = None
    chosen: Mapping[str, float] = Field(default_factory=dict)
    selection: Selection = Selection()
    objective: float | None = None
    stages: Mapping[str, StageResults] = Field(default_factory=dict)
    last_epochs: Mapping[str, int] = Field(default_factory=dict)
    test_pool: Accuracies | None = None
    val: Accuracies | None = None
    images: Mapping[str, Sequence[int]] = Field(default_factory=dict)
    skipped_files: Sequence[str] = ()
    eps: Sequence[float | Sequence[float | None] | None] | None = None
    eps_updates: Sequence[int] | None = None
    warning: str | None = None
    timing: Timing = Timing()
    overrides: Sequence[str] = ()
    speed: Mapping[str, str | int] | None = None  # what speed=auto took, by key
    versions: Mapping[str, str] = Field(default_factory=dict)
    hardware: str | None = None
    git: str | None = None
    command: str | None = None
    setting: Setting | None = None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a results.json.

        Raises:
            SettingError: the file cannot be read, is not JSON, has another schema, lacks a field, or has one of a
                wrong type.
        """
        return read_record(Path(path), cls.model_validate_json)

    def dump(self) -> str:
        """The text of results.json: one line for each given field, in alphabetical order."""
        # Only the top level is sorted: the order of the stages is their order in time.
        lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(self.plain().items()))
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def write(self, path: str | Path) -> None:
        """Writes results.json, whole or not at all."""
        write_atomically(Path(path), self.dump())

    def sets(self) -> dict[str, Accuracies | None]:
        """The accuracies of the reported model by set of images."""
        return {"val": self.val, "test": self.test, "test_pool": self.test_pool}

    def number(self, part: str, metric: str) -> float | None:
        """A number of the reported model on `val`, `test` or `test_pool`; null if it was not measured."""
        found = self.sets()[part]
        return None if found is None else found.numbers().get(metric)

    @property
    def label(self) -> str:
        """The run's label in result tables: its name, else its method."""
        return self.name or self.method


def write_per_class(path: str | Path, results: Results, class_names: Sequence[str] | None = None) -> None:
    """Writes per_class.csv: `class, name, train_images, group, acc, acc_ncm, eps`, a row for each class.

    Args:
        path: The file.
        results: A run's results; a null value gives an empty cell.
        class_names: Names by class index; None writes the index.
    """
    counts, groups = results.class_counts, results.groups
    empty = [None] * len(counts)
    columns: list[Sequence[object]] = [
        range(len(counts)),
        class_names or range(len(counts)),
        counts,
        [group_of(count, groups.many, groups.few) for count in counts],
        results.test.per_class or empty,
        results.test.per_class_ncm or empty,
        results.eps or empty,
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["class", "name", "train_images", "group", "acc", "acc_ncm", "eps"])
    writer.writerows([escape.cell(finite(cell)) for cell in row] for row in zip(*columns, strict=True))
    write_atomically(Path(path), file.getvalue())
