"""How time and memory grow: with images N, classes C, the batch B and ranks; fitted exponents, and one figure.

    python benchmarks/growth.py [--png FILE] [--quick]

Each curve varies one size and prints the exponent that fits its upper half, where fixed costs no longer count:
- images: the split, and the order of an epoch (class-aware), of N = 10^4 to 4 x 10^5 images of 10^3 classes;
- classes: the loss (forward and backward), and the statistics of one batch, for C = 10^2 to 10^4;
- batch: the loss for B = 64 to 2,048, whose work is B^2;
- ranks: seconds for an image of a rank, of statistics over a set that is shared among 1 and 2 ranks.
The goal is the exponent of the work. Memory is the most that is held at a time beyond what was there before.
"""

import argparse
import statistics
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from loss import peak_floats
from timing import head, line, seconds

from drolt_pl import DROLTLoss
from drolt_pl.centroids import StatisticsSums
from drolt_pl.data.samplers import ClassAwareSampler
from drolt_pl.data.split import SplitRules, make_split

WIDTH = 128  # features


@dataclass(frozen=True)
class Curve:
    """What a size costs.

    Attributes:
        name: What is done, and which size varies.
        sizes: The sizes.
        times: Seconds at each.
        floats: Numbers of four bytes held at most, at each.
        goal: The exponent of the work.
    """

    name: str
    sizes: list[int]
    times: list[float]
    floats: list[float]
    goal: float

    def slopes(self) -> tuple[float, float]:
        """Exponents of time and of memory."""
        return exponent(self.sizes, self.times), exponent(self.sizes, self.floats)


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Slope in log-log axes over the upper half."""
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(np.maximum(values[half:], 1e-9)), 1)[0])


def measured(
    name: str, sizes: list[int], goal: float, make: Callable[[int], Callable[[], object]], *, python: bool = False
) -> Curve:
    """Median of five calls of what `make` gives for each size, and its memory: of NumPy, or of torch."""
    times, floats = [], []
    for size in sizes:
        run = make(size)
        run()
        times.append(statistics.median(seconds(run) for _ in range(5)))
        if python:
            tracemalloc.start()
            run()
            floats.append(tracemalloc.get_traced_memory()[1] / 4)
            tracemalloc.stop()
        else:
            floats.append(peak_floats(run))
    return Curve(name, sizes, times, floats, goal)


def split_of(size: int) -> Callable[[], object]:
    targets = np.random.default_rng(0).permutation(np.arange(size) % 1_000)
    names = np.arange(size).astype(np.bytes_)
    official = np.where(np.arange(size) < size // 10, "test", "train")
    classes = [str(number) for number in range(1_000)]
    rules = SplitRules(imbalance_ratio=None, protocol="published")
    return lambda: make_split(targets, official, names, classes, rules)


def order_of(size: int) -> Callable[[], object]:
    targets = np.random.default_rng(0).permutation(np.arange(size) % 1_000)
    return lambda: ClassAwareSampler(targets).draw(np.random.default_rng(0))


def loss_of(batch: int, classes: int) -> Callable[[], object]:
    loss = DROLTLoss(classes, WIDTH, torch.full((classes,), 50))
    features, targets = torch.randn(batch, WIDTH, requires_grad=True), torch.randint(classes, (batch,))
    centroids = torch.randn(classes, WIDTH)
    return lambda: loss(features, targets, centroids).backward()


def statistics_of(classes: int) -> Callable[[], object]:
    sums = StatisticsSums(classes, WIDTH)
    features, targets = torch.randn(512, WIDTH), torch.randint(classes, (512,))
    return lambda: (sums.update(features, targets), sums.compute())


def rank_of(rank: int, world: int, folder: str, images: int) -> None:
    """Statistics of this rank's share; rank 0 writes its seconds."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
    features, targets = torch.randn(512, WIDTH), torch.randint(1_000, (512,))

    def run() -> None:
        sums = StatisticsSums(1_000, WIDTH)
        for _ in range(images // 512 // world):
            sums.update(features, targets)
        sums.compute()
        dist.barrier()

    run()
    taken = statistics.median(seconds(run) for _ in range(5))
    if rank == 0:
        Path(folder, f"{world}.txt").write_text(str(taken))
    dist.destroy_process_group()


def ranks(images: int) -> list[float]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for world in (1, 2):
            mp.spawn(rank_of, (world, folder, images), nprocs=world)  # type: ignore[attr-defined]
            found.append(float(Path(folder, f"{world}.txt").read_text()))
    return found


def draw(curves: Sequence[Curve], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(curves), 3.6), layout="constrained")
    for axes, curve in zip(figure.subplots(1, len(curves)), curves, strict=True):
        slope, memory = curve.slopes()
        axes.loglog(curve.sizes, np.array(curve.times) * 1e3, "o-", label=f"ms, exponent {slope:.2f}")
        axes.loglog(curve.sizes, np.array(curve.floats) * 4e-6, "s--", label=f"MB, exponent {memory:.2f}")
        axes.set_title(curve.name, fontsize=9)
        axes.set_xlabel(curve.name.rpartition(" ")[2])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    FigureCanvasAgg(figure).print_png(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--png", type=Path, help="where the curves are drawn")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    arguments = parser.parse_args()
    images, classes = [10_000, 30_000, 100_000, 400_000], [100, 300, 1_000, 3_000, 10_000]
    batches = [64, 128, 256, 512, 1_024, 2_048]
    if arguments.quick:
        images, classes, batches = images[:3], classes[:4], batches[:4]
    head("Growth: fitted exponents, and those of the work")
    drawn = [
        measured("split, images N", images, 1.0, split_of, python=True),
        measured("order of an epoch, images N", images, 1.0, order_of, python=True),
        measured("loss, classes C", classes, 1.0, lambda size: loss_of(256, size)),
        measured("statistics of a batch, classes C", classes, 1.0, statistics_of),
        measured("loss, batch B", batches, 2.0, lambda size: loss_of(size, 100)),
    ]
    for curve in drawn:
        slope, memory = curve.slopes()
        # Sorting and the caches' edges are not in the exponent of the work.
        line(f"{curve.name}: time", [slope], curve.goal + 0.15, at_least=False)
        line(f"{curve.name}: memory", [memory], curve.goal + 0.15, at_least=False)
        print("  " + ", ".join(f"{n:,}: {t * 1e3:.2f} ms" for n, t in zip(curve.sizes, curve.times, strict=True)))
    one, two = ranks(40_000 if arguments.quick else 200_000)
    line("statistics, ranks: time of one over that of two, a rank", [one / two / 2], 0.85)
    if arguments.png:
        draw(drawn, arguments.png)
