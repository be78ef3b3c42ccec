"""What the benchmarks share: alternating measurements of two sides, and the line that says what they came to."""

import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

LONG_ENOUGH = 0.2  # seconds of a measurement


def machine() -> str:
    """Hardware and versions, for the head of a table."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        device = f"{len(names)} x {names[0]}" if names else platform.processor()
    return (
        f"{device}; torch {torch.__version__}, {torch.get_num_threads()} threads, Python {sys.version.split()[0]}, "
        f"{platform.system()}"
    )


def seconds(run: Callable[[], object]) -> float:
    """Time of one call, the device's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ratios(slow: Callable[[], object], fast: Callable[[], object], repetitions: int = 5) -> list[float]:
    """Time of one side over the other's, sorted: both run for 0.2 s, or once, in turn."""
    calls = [max(1, round(LONG_ENOUGH / min(seconds(side) for _ in range(3)))) for side in (slow, fast)]

    def mean(side: Callable[[], object], count: int) -> float:
        return seconds(lambda: [side() for _ in range(count)]) / count

    return sorted(mean(slow, calls[0]) / mean(fast, calls[1]) for _ in range(repetitions))


def head(title: str, goal: str = "goal") -> None:
    """The head of a table."""
    print(f"\n{title}\n{machine()}")
    print(f"{'':58} {'median':>8} {'range':^17} {goal:>8}", flush=True)


def line(name: str, values: list[float], goal: float | None = None, *, at_least: bool = True) -> None:
    """One line of a table: median, range, and whether the goal was reached."""
    median = statistics.median(values)
    reached = goal is not None and (median >= goal if at_least else median <= goal)
    sign = ">=" if at_least else "<="
    verdict = "" if goal is None else f"{sign} {goal:<5.2f} {'reached' if reached else 'MISSED'}"
    print(f"{name:58} {median:>8.2f} {values[0]:>8.2f}-{values[-1]:<8.2f} {verdict}", flush=True)
