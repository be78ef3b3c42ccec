"""What befalls a run from outside: a full disk, too little memory, a worker or another rank that died."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drolt_pl.run import ranks

# torch's errors are known by their words: the command must not wait for torch before it needs it.
NO_MEMORY = re.compile(r"(can't|cannot|not enough|unable to) (allocate|memory)|out of memory", re.IGNORECASE)
LOST_PEER = re.compile(r"gloo/|NCCL|closed by peer|Connection reset by peer|TCPStore|client socket")
WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (.*)")


@dataclass(frozen=True)
class Mishap:
    """What happened.

    Attributes:
        sentence: It, and what to do about it.
        speaks: Whether this process says so; of ranks that end together the first one does.
    """

    sentence: str
    speaks: bool = True


def mishap(error: BaseException) -> Mishap | None:
    """What an error says of the machine; None for every other error."""
    for cause in _causes(error):
        text = " ".join(str(cause).split())
        of_torch = isinstance(cause, RuntimeError)
        if isinstance(cause, MemoryError) or ((of_torch or isinstance(cause, OSError)) and NO_MEMORY.search(text)):
            return Mishap(f"memory ran out ({text[:120] or 'MemoryError'}): {_smaller(text)}")
        worker = WORKER.search(text) if of_torch else None
        if worker is not None:
            remedy = "it may have had too little memory: lower dataset.num_workers or dataset.batch_size"
            return Mishap(f"a worker that reads images ended (process {worker[1]} {worker[2]}); {remedy}")
        if is_lost_peer(cause):
            return Mishap(f"another process of this run ended ({text[-120:]})", not ranks.is_started_by_another())
        if isinstance(cause, OSError):
            return Mishap(_of_the_system(cause, text))
    return None


class _Unraisable:
    """Tells of errors that nobody can catch, but not of a dead worker: its loader says so when it is asked again.

    torch raises at whatever line the signal of the death meets, also in a destructor or in a callback of Python's own.
    """

    def __init__(self, shown: "Callable[[sys.UnraisableHookArgs], object]") -> None:
        self.shown = shown

    def __call__(self, found: "sys.UnraisableHookArgs", /) -> None:
        if not (isinstance(found.exc_value, RuntimeError) and WORKER.search(str(found.exc_value))):
            self.shown(found)


def forget_late_workers() -> None:
    """From here on, nothing is said of a worker whose death shows where nobody can catch it."""
    if not isinstance(sys.unraisablehook, _Unraisable):
        sys.unraisablehook = _Unraisable(sys.unraisablehook)


def is_lost_peer(error: BaseException) -> bool:
    """Whether an exchange between ranks failed because one of them is gone."""
    return isinstance(error, RuntimeError) and LOST_PEER.search(str(error)) is not None


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    seen: list[BaseException] = []  # an error may be raised from one that it has caused itself
    while found is not None and found not in seen:
        yield found
        seen.append(found)
        found = found.__cause__


def _smaller(text: str) -> str:
    remedy = "lower dataset.batch_size, in evaluation dataset.eval_batch_size"
    if "CUDA" in text:
        return f"{remedy}, or take trainer.precision=bf16-mixed"
    return f"{remedy}, or take dataset.loader=workers where all images are held in memory"


def _of_the_system(error: OSError, text: str) -> str:
    if error.errno is None:
        return text
    what = error.strerror or os.strerror(error.errno)
    return f"{error.filename}: {what}" if error.filename else what
