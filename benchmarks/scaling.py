"""How costs grow: two ranks against one, the loss with the batch, the statistics with the classes.

    python benchmarks/scaling.py [--png FILE]

Two gloo ranks of one thread each against one rank with one thread, ResNet-32: efficiency, goal 0.85, of the training
epoch and of the centroid pass. Then the seconds of the loss (forward + backward, D = 128) for B = 64 ... 2,048 and of
one batch of statistics for C = 100 ... 10,000, with the exponent that fits them.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from setup import Noise, fit_one_epoch, joint_module, noise_pixels
from timing import head, line, seconds

from drolt_pl import DROLTLoss
from drolt_pl.backbones import CifarResNet
from drolt_pl.centroids import StatisticsSums
from drolt_pl.data import CropFlip
from drolt_pl.run.ranks import leave_group_at_exit


def one_run(devices: int) -> None:
    """Prints seconds of an epoch and of the pass, on rank 0; in a process of its own."""
    leave_group_at_exit()
    torch.set_num_threads(1)
    data = Noise(noise_pixels(1_280 + 100, 32), 100, CropFlip(padding=4), batch_size=128)
    data.setup()
    module = joint_module(CifarResNet(32), data.class_counts)
    strategy = {"strategy": "ddp", "accelerator": "cpu", "devices": devices} if devices > 1 else {"accelerator": "cpu"}
    times = [fit_one_epoch(module, data, precision=32, **strategy) for _ in range(2)]
    if module.global_rank == 0:
        print(json.dumps(times[-1]))


def ranks(repetitions: int) -> None:
    def measured(devices: int) -> list[float]:
        command = [sys.executable, __file__, "--devices", str(devices)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # its errors go with ours
        return list(json.loads(done.stdout.splitlines()[-1]))

    pairs = [(measured(1), measured(2)) for _ in range(repetitions)]
    for part, name in enumerate(("training epoch", "centroid pass")):
        line(f"efficiency of two ranks, {name}", sorted(one[part] / two[part] / 2 for one, two in pairs), 0.85)


def exponent(sizes: list[int], times: list[float]) -> float:
    """Slope in log-log axes over the upper half, where fixed costs no longer count."""
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(times[half:]), 1)[0])


def loss_times(sizes: list[int], repetitions: int) -> list[float]:
    found = []
    for size in sizes:
        loss = DROLTLoss(100, 128, torch.full((100,), 50))
        features, targets = torch.randn(size, 128, requires_grad=True), torch.randint(100, (size,))
        centroids = torch.randn(100, 128)
        found.append(
            statistics.median(
                seconds(lambda: loss(features, targets, centroids).backward()) for _ in range(repetitions)
            )
        )
    return found


def statistics_times(sizes: list[int], repetitions: int) -> list[float]:
    found = []
    for size in sizes:
        sums = StatisticsSums(size, 512)
        features, targets = torch.randn(512, 512), torch.randint(size, (512,))
        found.append(
            statistics.median(
                seconds(lambda: (sums.update(features, targets), sums.compute())) for _ in range(repetitions)
            )
        )
    return found


def draw(curves: dict[str, tuple[list[int], list[float], float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, (name, (sizes, times, slope)) in zip(figure.subplots(1, 2), curves.items(), strict=True):
        axes.loglog(sizes, np.array(times) * 1e3, "o-")
        axes.set(title=f"{name}; exponent {slope:.2f}", ylabel="milliseconds", xlabel=name.split(", ")[-1])
        axes.grid(alpha=0.3, which="both")
    FigureCanvasAgg(figure).print_png(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--devices", type=int, help="used by the benchmark itself")
    parser.add_argument("--png", type=Path, help="where the curves are drawn")
    arguments = parser.parse_args()
    if arguments.devices:
        one_run(arguments.devices)
        sys.exit()
    head("Scaling")
    ranks(arguments.repetitions)
    batches, classes = [64, 128, 256, 512, 1024, 2048], [100, 300, 1_000, 3_000, 10_000]
    drawn = {}
    for curve, points, times in (
        ("loss, batch size B", batches, loss_times(batches, 3 * arguments.repetitions)),
        ("statistics of a batch, classes C", classes, statistics_times(classes, 3 * arguments.repetitions)),
    ):
        slope = exponent(points, times)
        drawn[curve] = points, times, slope
        print(f"{curve}: " + ", ".join(f"{n:,}: {t * 1e3:.2f} ms" for n, t in zip(points, times, strict=True)))
        line(f"{curve}: fitted exponent of the upper half", [slope])
    if arguments.png:
        draw(drawn, arguments.png)
