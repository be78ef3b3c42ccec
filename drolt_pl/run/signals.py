"""Signals that tell a run to stop: it finishes its step, keeps what it has saved, and says how it goes on."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn, Self

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
GRACE = 20.0  # seconds after which a run that was told to stop is ended, whatever it does
UNTAKEN = (signal.SIG_DFL, signal.default_int_handler)  # whoever else has a handler of his own keeps it


class Stopped(BaseException):
    """A signal has told this process, or another of its run, to stop.

    Args:
        number: The signal.
        sentence: What the user is told; of ranks only the first one speaks.

    Attributes:
        code: The exit code, as shells give it: 143 for SIGTERM.
    """

    def __init__(self, number: int, sentence: str = "") -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.code, self.sentence = number, 128 + number, sentence


def told_by(code: int | None) -> int | None:
    """The signal that ended a process of ours with an exit code, if one of `STOPPING` did."""
    number = -code if code is not None and code < 0 else (code or 0) - 128
    return number if number in STOPPING else None


def end_at_once(code: int) -> NoReturn:
    """Ends this process as it is, from any thread, with nothing tidied up."""
    sys.stdout.flush()
    os._exit(code)


class Signals:
    """Takes the signals in `STOPPING` while it is entered, in the main thread.

    The first one raises `Stopped`, but for a run that is `finishing` what it does. A second
    SIGINT, and the end of `GRACE`, end the process at once: a thread sees to it, since a main thread that waits for
    other ranks hears nothing.

    Args:
        last_words: Called with the signal before the process is ended at once.

    Attributes:
        number: The signal that came; None before.
        finishing: Whether the run looks at `number` itself, where it can stop, and is not interrupted.
    """

    def __init__(self, last_words: Callable[[int], None]) -> None:
        self.last_words = last_words
        self.number: int | None = None
        self.finishing = False
        self._taken: dict[signal.Signals, object] = {}
        self._pipe: tuple[int, int] | None = None

    def tell(self, number: int) -> None:
        """Tells this process what another process of its run was told, from any thread."""
        os.kill(os.getpid(), number)

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._taken = {number: handler for number in STOPPING if (handler := signal.getsignal(number)) in UNTAKEN}
        if not self._taken:
            return self
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in self._taken:
            signal.signal(number, self._hear)
        threading.Thread(target=self._watch, args=(self._pipe[0],), daemon=True, name="signals").start()
        _ACTIVE.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pipe is None:
            return
        _ACTIVE.remove(self)
        for number, handler in self._taken.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._before)
        write, self._pipe = self._pipe[1], None
        os.close(write)  # which ends the thread

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            if not self.finishing:
                raise Stopped(number)
        elif number == signal.SIGINT:
            self._end(number)

    def _watch(self, read: int) -> None:
        """Ends the process after `GRACE`, or at the second SIGINT, whether its main thread hears or not."""
        end, first, interrupts = None, 0, 0
        while True:
            wait = None if end is None else max(end - time.monotonic(), 0)
            numbers = _read(read, wait)
            if numbers is None:
                os.close(read)
                return
            for number in numbers:
                if number in self._taken:
                    end, first = (time.monotonic() + GRACE, number) if end is None else (end, first)
                    interrupts += number == signal.SIGINT
            if end is not None and (interrupts > 1 or time.monotonic() >= end):
                self._end(first)

    def _end(self, number: int) -> None:
        with suppress(Exception):
            self.last_words(number)
        end_at_once(128 + number)

    def forget_in_child(self) -> None:
        """In a forked process, a loader's worker: the signals are the parent's to hear, but for their common effect."""
        signal.set_wakeup_fd(-1)
        for descriptor in self._pipe or ():
            os.close(descriptor)
        for number in self._taken:
            # Ctrl-C reaches the whole group of processes: the worker must live until the step is finished.
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


_ACTIVE: list[Signals] = []


def _in_child() -> None:
    for active in _ACTIVE:
        active.forget_in_child()


os.register_at_fork(after_in_child=_in_child)


def _read(descriptor: int, wait: float | None) -> bytes | None:
    """The signals that have come, none after `wait` seconds; None once the other end is closed."""
    ready, _, _ = select.select([descriptor], [], [], wait)
    if not ready:
        return b""
    return os.read(descriptor, 64) or None
