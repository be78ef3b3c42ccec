"""Several processes that predict one list: each takes its share of the batches, and the first one joins the results.

`torchrun` starts them and says to each which one it is. What they hand over goes through files beside the output, so
processes on several machines need a file system that all of them see.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

from drolt_pl.disk import replacing
from drolt_pl.errors import SettingError
from drolt_pl.predict.names import Names

T = TypeVar("T")
LENGTH = struct.Struct("<q")  # of the batch that follows
WAIT = timedelta(days=7)  # for the slowest; torchrun ends all where one fails


@dataclass(frozen=True)
class Ranks:
    """Which process of how many this is."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @classmethod
    def of_environment(cls) -> "Ranks":
        """As torchrun says; alone without it.

        Raises:
            SettingError: it has said but a part.
        """
        if "TORCHELASTIC_RUN_ID" not in os.environ:  # what another program has left there, nobody would join
            return cls()
        remedy = "start by torchrun, or unset TORCHELASTIC_RUN_ID"
        if not os.environ.get("MASTER_ADDR"):
            raise SettingError("MASTER_ADDR", "must be in the environment, as TORCHELASTIC_RUN_ID is", remedy=remedy)
        said = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")}
        for name, text in said.items():
            if not text.isascii() or not text.isdigit():
                raise SettingError(name, "must be a whole number in the environment", text, remedy=remedy)
        return cls(int(said["RANK"]), int(said["WORLD_SIZE"]), int(said["LOCAL_RANK"]))

    @property
    def first(self) -> bool:
        """Whether this process joins the results and speaks."""
        return self.rank == 0

    def require_shareable(self, names: Names) -> None:
        """Refuses names from standard input, which one of several processes alone would read."""
        if self.world > 1 and not names.repeatable:
            raise SettingError("images", "must not be - (standard input) for several processes", remedy="give @FILE")

    def share(self, batches: Iterable[T]) -> Iterator[T]:
        """Batch i belongs to process i % world."""
        return islice(batches, self.rank, None, self.world)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Joins the processes for what happens inside."""
        if self.world == 1 or dist.is_initialized():
            yield
            return
        dist.init_process_group("gloo", timeout=WAIT)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def gathered(self, value: T) -> list[T]:
        """The values of all processes in their order; it waits for the slowest."""
        if self.world == 1:
            return [value]
        found: list[T | None] = [None] * self.world
        dist.all_gather_object(found, value)
        return [entry for entry in found if entry is not None]


@contextmanager
def shared_output(path: Path, ranks: Ranks, head: bytes) -> Iterator[Callable[[bytes], object]]:
    """A file that processes write together; it appears whole at its place once all are done, or not at all.

    Args:
        path: The file.
        ranks: The processes.
        head: What it begins with.

    Yields:
        A function that takes the lines of this process's next batch.
    """
    if path.is_dir():
        raise SettingError("-o", "must name a file, not a folder", str(path))
    if ranks.world == 1:
        with replacing(path) as file:
            file.write(head)
            yield file.write
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [path.with_name(f".{path.name}.{rank}.part") for rank in range(ranks.world)]
    try:
        with parts[ranks.rank].open("wb") as own:
            yield lambda batch: own.write(LENGTH.pack(len(batch)) + batch)
        ranks.gathered(ranks.rank)  # all have written
        if ranks.first:
            _join(parts, path, head)
        ranks.gathered(ranks.rank)  # the first has read
    finally:
        parts[ranks.rank].unlink(missing_ok=True)


def _join(parts: Sequence[Path], path: Path, head: bytes) -> None:
    """Takes a batch of each part in turn."""
    with ExitStack() as stack, replacing(path) as joined:
        files = [stack.enter_context(part.open("rb")) for part in parts]
        joined.write(head)
        turn = 0
        while length := files[turn % len(files)].read(LENGTH.size):
            joined.write(files[turn % len(files)].read(LENGTH.unpack(length)[0]))
            turn += 1
