"""Predictions of any number of image files, written as they come."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from drolt_pl.errors import SettingError, require_int
from drolt_pl.model import Model
from drolt_pl.model.stream import Decoded, batched, decoded
from drolt_pl.predict.ranks import Ranks, shared_output
from drolt_pl.predict.table import encoded, header, rows

NAMED = 20  # unreadable files that the summary names; the table has all of them


@dataclass
class Summary:
    """What became of a list of files.

    Attributes:
        files: How many there were.
        unreadable: How many of them could not be read.
        examples: The sentences about the first of these.
    """

    files: int = 0
    unreadable: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, errors: Iterable[str | None]) -> None:
        """Counts a batch."""
        for error in errors:
            self.files += 1
            if error is not None:
                self.unreadable += 1
                self.examples = [*self.examples, error][:NAMED]

    @classmethod
    def joined(cls, parts: Iterable["Summary"]) -> "Summary":
        """The summaries of all processes as one."""
        whole = cls()
        for part in parts:
            whole.files += part.files
            whole.unreadable += part.unreadable
            whole.examples = [*whole.examples, *part.examples][:NAMED]
        return whole


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How predictions are made: no choice here changes them by more than the last digits of a float.

    Attributes:
        batch_size: Images that go forward together.
        workers: Processes that decode; 0 decodes in threads.
        device: Where the network runs.
    """

    batch_size: int = 64
    workers: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        require_int("batch_size", self.batch_size, at_least=1)
        require_int("workers", self.workers, at_least=0)

    def batches(self, names: Iterable[str], model: Model, ranks: Ranks) -> Iterator[Decoded]:
        """Batches of the files that fall to this process, decoded ahead."""
        return decoded(ranks.share(batched(names, self.batch_size)), model.preprocessing, workers=self.workers)


def predict_files(
    model: Model,
    names: Iterable[str],
    out: Path,
    *,
    top: int = 5,
    prior_shift: Tensor | None = None,
    scale: float = 1.0,
    pace: Pace | None = None,
    ranks: Ranks | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Writes a row for each file, in the order of the names.

    Args:
        model: The model; it is moved to the device of `pace`.
        names: Files; they are read as they are needed.
        out: The CSV file.
        top: Classes that a row names.
        prior_shift: See `Model.judge`.
        scale: With `prior_shift`, see `Model.judge`.
        pace: See `Pace`.
        ranks: The processes that share the work; this one alone where None.
        progress: Called with the number of files that are newly done, by all processes as far as this one can know.

    Raises:
        SettingError: no names.
    """
    pace, ranks = pace or Pace(), ranks or Ranks()
    require_int("top", top, at_least=1)
    top = min(top, len(model.class_names))
    model.to(pace.device)
    summary = Summary()
    with ranks.together(), shared_output(out, ranks, encoded([header(top)])) as output:
        for batch in pace.batches(names, model, ranks):
            errors = [None if error is None else str(error) for error in batch.errors]
            found = model.judge(batch.pixels, top=top, prior_shift=prior_shift, scale=scale)
            output(encoded(rows([str(image) for image in batch.images], errors, found, top)))
            summary.add(errors)
            progress(len(errors) * ranks.world)
        summary = Summary.joined(ranks.gathered(summary))
        if not summary.files:
            raise SettingError("images", "must name at least one file")
    return summary


def automatic_device(wish: str, ranks: Ranks) -> torch.device:
    """The device of a wish: `auto` is a GPU of this process's own where there are some, else the CPU.

    Raises:
        SettingError: torch knows or has no such device.
    """
    if wish == "auto":
        available = torch.cuda.is_available()
        return torch.device("cuda", ranks.local_rank % torch.cuda.device_count()) if available else torch.device("cpu")
    try:
        return torch.empty(0, device=wish).device
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise SettingError(
            "--device", f"must be auto, cpu, or a device that this machine has ({reason})", wish
        ) from error
