"""How much the centroid pass adds to an epoch: its time over that of the same epoch's training; goal 0.40.

    python benchmarks/centroid_pass.py

The limit is 1/3: one forward against a forward and a backward that costs two. Also the memory of the statistics at
iNaturalist's size (8,142 classes, 2,048 features): goal under 1.5 GB.
"""

import argparse
import resource

import torch
from setup import Noise, fit_one_epoch, joint_module, noise_pixels
from timing import head, line

from drolt_pl.backbones import CifarResNet, TorchvisionResNet
from drolt_pl.centroids import StatisticsSums
from drolt_pl.data import CropFlip

SHAPES = {
    "ResNet-32, 32 px, bf16": (lambda: CifarResNet(32), 32, 2_560, 128, "bf16-mixed"),
    "ResNet-32, 32 px, fp32": (lambda: CifarResNet(32), 32, 1_280, 128, 32),
    "ResNet-50, 64 px, bf16": (lambda: TorchvisionResNet("resnet50"), 64, 256, 32, "bf16-mixed"),
}


def compare(name: str, repetitions: int) -> None:
    make, size, count, batch_size, precision = SHAPES[name]
    data = Noise(noise_pixels(count + 100, size), 100, CropFlip(padding=4), batch_size=batch_size, eval_batch_size=256)
    data.setup()
    module = joint_module(make(), data.class_counts)
    times = [fit_one_epoch(module, data, precision=precision) for _ in range(repetitions + 1)][1:]
    shares = sorted(pass_s / epoch_s for epoch_s, pass_s in times)
    line(f"{name}: pass over training", shares, 0.40, at_least=False)


def memory() -> None:
    def resident() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2

    before = resident()
    sums = StatisticsSums(8_142, 2_048)
    for _ in range(4):
        sums.update(torch.randn(512, 2_048), torch.randint(8_142, (512,)))
    sums.compute()
    line("statistics of 8,142 x 2,048: peak memory, GB", [resident() - before], 1.5, at_least=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    head("Centroid pass")
    memory()
    for shape_name in SHAPES:
        compare(shape_name, arguments.repetitions)
