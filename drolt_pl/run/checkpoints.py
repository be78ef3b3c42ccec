"""The checkpoints of one run: written by it alone, read if they are whole and its own, and the newest of them."""

import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import CheckpointIO

from drolt_pl import checkpoint_file
from drolt_pl.checkpoint_file import HEADER, RUN, DamagedError
from drolt_pl.errors import SettingError
from drolt_pl.learning.schedule import Schedule, Stage
from drolt_pl.regular import read_text
from drolt_pl.run import ranks
from drolt_pl.run.arguments import PLACES

LAST, PREVIOUS = "last", "previous"  # names of the last epoch's checkpoint, and of the one before it
MAY_DIFFER = (
    "resume",
    "trust",
    "speed",
    "trainer",
    "logger",
    "callbacks",
    "guard",
    "report",
)  # keys in which commands for one run may differ
CONTENT = "sha256_content"  # key of split.json


class ForeignError(DamagedError):
    """A checkpoint of another run."""


def identity(config: Mapping[str, Any], split_sha256: str) -> dict[str, str]:
    """What tells a run from others: hashes of its split and of its configuration, plain values.

    Two runs that agree in both learn the same. Where the data lies is no part of it: data may move.
    """
    kept = {key: value for key, value in config.items() if key not in MAY_DIFFER}
    kept["dataset"] = {key: value for key, value in config.get("dataset", {}).items() if key not in PLACES}
    text = json.dumps(kept, sort_keys=True, default=str)
    return {"split": split_sha256, "configuration": hashlib.sha256(text.encode()).hexdigest()}


class CheckpointFiles(CheckpointIO):
    """Writes and reads the checkpoints of a run, in place of Lightning's, which go through $TMPDIR.

    Args:
        identity: See `identity`.
    """

    def __init__(self, identity: Mapping[str, str]) -> None:
        self.identity = dict(identity)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Writes a checkpoint; the one of the epoch before stays as `previous.ckpt`."""
        path = Path(path)
        checkpoint[HEADER] = {**checkpoint[HEADER], RUN: self.identity}
        keep = path.with_stem(PREVIOUS) if path.stem == LAST else None
        checkpoint_file.write(path, checkpoint, keep=keep)

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: object = None
    ) -> dict[str, Any]:
        """Reads a checkpoint of this run, to the CPU.

        Raises:
            DamagedError: it is damaged, or another run's.
        """
        content = checkpoint_file.read(Path(path))
        theirs = content[HEADER].get(RUN) if isinstance(content.get(HEADER), Mapping) else {}
        if theirs is None:
            return content  # of an earlier version, which did not say
        differing = [part for part, value in self.identity.items() if theirs.get(part) != value]
        if differing:
            raise ForeignError(str(path), f"is of another run: its {' and '.join(differing)} differ from this run's")
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def require_same_data(name: str, run_dir: Path, record: Mapping[str, object]) -> str | None:
    """Refuses a data set that has changed since a run began, as far as split.json says so; warns of changed images.

    Args:
        name: What a user would type, for the sentence.
        run_dir: The run's folder.
        record: `split_record()` of the data set as it is.

    Returns:
        The warning: images have changed under their names, which may be a repair; None where they have not.

    Raises:
        SettingError: names, labels or parts are others.
    """
    if saved_split(run_dir) not in (None, record["sha256"]):
        demand = "the data set has changed since this run began; restore it, or start a new run"
        raise SettingError(f"{name}:", demand)
    if saved_split(run_dir, CONTENT) in (None, record[CONTENT]):
        return None
    changed = "images have changed under their names since this run began, in size or in bytes"
    if ranks.is_first():
        print(f"warning: {name}: {changed}", file=sys.stderr, flush=True)
    return changed


def saved_split(run_dir: Path, key: str = "sha256") -> str | None:
    """A hash of a run's split by its split.json; None where that is missing or damaged, and so written anew."""
    try:
        return str(json.loads(read_text(run_dir / "split.json", "JSON"))[key])
    except (
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ):  # what cannot be read is a SettingError, and so a ValueError
        return None


@dataclass(frozen=True)
class Found:
    """Where a run goes on.

    Attributes:
        path: The checkpoint; None for the start.
        sentence: Which one it is, and what is lost.
        ended: Stages that have ended before their time, with the epochs that they had.
    """

    path: Path | None
    sentence: str
    ended: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Intact:
    path: Path
    epochs: int  # that were trained when it was written
    best: Mapping[str, int]  # epoch of the best by stage, as far as it knew
    ended: Mapping[str, int]  # stages that had ended before their time, with the epochs that they had


def newest(run_dir: Path, schedule: Schedule, files: CheckpointFiles) -> Found:
    """The newest checkpoint that a run can go on from: itself whole, and so are those that the run still needs.

    Raises:
        ForeignError: there are whole ones, and all of them are another run's: to start again would overwrite them.
    """
    intact: dict[str, _Intact] = {}
    wrong: list[str] = []
    foreign = False
    for path in _candidates(run_dir / "checkpoints", schedule):
        if not path.exists():
            continue
        try:
            content = files.load_checkpoint(path)
            ended = {str(name): int(had) for name, had in content.get(HEADER, {}).get("ended", {}).items()}
            intact[path.stem] = _Intact(path, int(content["epoch"]) + 1, _best_epochs(content), ended)
        except DamagedError as error:
            wrong.append(f"{path.name} {error.demand}")
            foreign |= isinstance(error, ForeignError)
        except (KeyError, TypeError, ValueError, AttributeError):
            wrong.append(f"{path.name} is no checkpoint of a run")
    usable = [one for one in intact.values() if _is_complete(one, schedule.after(one.ended), intact)]
    chosen = max(usable, key=lambda one: one.epochs, default=None)
    kept: Mapping[str, int] = {} if chosen is None else chosen.ended
    if foreign and not intact:
        remedy = "restore the folder, or start a new run in another one"
        raise ForeignError(f"resume={run_dir}", f"finds no checkpoint of this run: {'; '.join(wrong)}", remedy=remedy)
    trained, done = _epochs_in(run_dir / "metrics.csv"), 0 if chosen is None else chosen.epochs
    if (
        chosen is not None
        and chosen.path.stem != LAST
        and LAST not in intact
        and not any(LAST in text for text in wrong)
    ):
        wrong.insert(0, f"{LAST}.ckpt is missing")
    sentence = _sentence(chosen, done, max(trained, done), wrong, schedule.after(kept))
    return Found(None if chosen is None else chosen.path, sentence, kept)


def _sentence(chosen: _Intact | None, done: int, trained: int, wrong: list[str], schedule: Schedule) -> str:
    if chosen is None:
        begun = trained > 0 or bool(wrong)
        start = "no checkpoint is left to go on from: it starts again" if begun else "no epoch had ended: it starts"
        where = f"{start} at epoch 1 of {schedule.epochs}"
    else:
        stage = schedule.stage_at(max(done - 1, 0)).name
        where = f"it goes on from {chosen.path.name}, after epoch {done} of {schedule.epochs} (stage {stage})"
    lost = f"epochs {done + 1} to {trained} are" if trained > done + 1 else f"epoch {trained} is"
    again = f"; {lost} trained again" if trained > done else ""
    return f"resume: {'; '.join([*wrong, where])}{again}"


def _candidates(folder: Path, schedule: Schedule) -> Iterator[Path]:
    """The files that a run can go on from; of equally old ones the first is taken."""
    ends = ("", "_best", "_init")
    for name in (LAST, PREVIOUS, *(f"{stage.name}{end}" for stage in reversed(schedule.stages) for end in ends)):
        yield folder / f"{name}.ckpt"


def _best_epochs(content: Mapping[str, Any]) -> dict[str, int]:
    states = [state for key, state in content.get("callbacks", {}).items() if "StageCheckpoint" in key]
    return {stage: int(best["epoch"]) for state in states for stage, best in state["best"].items()}


def _is_complete(one: _Intact, schedule: Schedule, intact: Mapping[str, _Intact]) -> bool:
    """Whether all is there that a run which goes on from a checkpoint reads, and will not write again itself."""
    taken_over = [place for place, stage in enumerate(schedule.trained) if f"{stage.name}_init" in intact]
    for stage in schedule.trained[max(taken_over, default=0) :]:
        if schedule.last_epoch(stage.name) < one.epochs and not {stage.name, f"{stage.name}_init"} & intact.keys():
            return False
        if stage.name in one.best and f"{stage.name}_best" not in intact and _needs_best(stage, one.epochs, schedule):
            return False
    return True


def _needs_best(stage: Stage, epochs: int, schedule: Schedule) -> bool:
    """Whether the best epoch of a stage is still to be read, after so many epochs."""
    followers = [other for other in schedule.stages if schedule.before(other.name) is stage]
    ahead = [other for other in followers if not other.epochs or schedule.first_epoch(other.name) >= epochs]
    return stage is schedule.trained[-1] or any(other.start_from == "best" for other in ahead)


def _epochs_in(path: Path) -> int:
    """How many epochs metrics.csv has rows of; 0 where it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return max((int(row["epoch"]) + 1 for row in csv.DictReader(file)), default=0)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return 0
