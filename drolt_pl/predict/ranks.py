"""Several processes that predict one list: each takes its share of the batches, and the first one joins the results.

`torchrun` starts them and says to each which one it is. What they hand over goes through files beside the output, so
processes on several machines need a file system that all of them see.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import torch.distributed as dist

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
        """As torchrun says; alone without it."""
        named = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
        return cls(*(int(value) for value in named if value is not None)) if None not in named else cls()

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


@dataclass
class Output:
    """A file that processes write together, batch by batch; it appears whole at its place, or not at all.

    Args:
        path: The file.
        ranks: The processes.
        head: What it begins with.
    """

    path: Path
    ranks: Ranks
    head: bytes
    _file: BinaryIO = field(init=False)

    def __post_init__(self) -> None:
        if self.path.is_dir():
            raise SettingError("-o", "must name a file, not a folder", str(self.path))
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Output":
        self._file = self._part(self.ranks.rank).open("wb")
        if self.ranks.world == 1:
            self._file.write(self.head)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._part(self.ranks.rank).unlink(missing_ok=True)

    def write(self, batch: bytes) -> None:
        """Adds the lines of this process's next batch."""
        if self.ranks.world > 1:
            self._file.write(LENGTH.pack(len(batch)))
        self._file.write(batch)

    def finish(self) -> None:
        """Puts the file in its place; every process calls it after its last batch."""
        self._file.close()
        self.ranks.gathered(self.ranks.rank)  # all have written
        if self.ranks.first and self.ranks.world > 1:
            joined = self._part(self.ranks.world)
            try:
                self._join(joined)
                os.replace(joined, self.path)
            finally:
                joined.unlink(missing_ok=True)
        elif self.ranks.first:
            os.replace(self._part(0), self.path)
        self.ranks.gathered(self.ranks.rank)  # the first has read

    def _join(self, joined: Path) -> None:
        with ExitStack() as stack, joined.open("wb") as file:
            parts: Sequence[BinaryIO] = [
                stack.enter_context(self._part(rank).open("rb")) for rank in range(self.ranks.world)
            ]
            file.write(self.head)
            turn = 0
            while length := parts[turn % len(parts)].read(LENGTH.size):
                file.write(parts[turn % len(parts)].read(LENGTH.unpack(length)[0]))
                turn += 1

    def _part(self, number: int) -> Path:
        alone = f"{os.getpid()}." if self.ranks.world == 1 else ""
        return self.path.with_name(f".{self.path.name}.{alone}{number}.part")
