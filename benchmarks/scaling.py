"""Two gloo ranks of one thread each against one rank with one thread, ResNet-32.

    python benchmarks/scaling.py

Efficiency, goal 0.85, of the training epoch and of the centroid pass.
"""

import argparse
import json
import subprocess
import sys

import torch
from setup import Noise, fit_one_epoch, joint_module, noise_pixels
from timing import head, line

from drolt_pl.backbones import CifarResNet
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--devices", type=int, help="used by the benchmark itself")
    arguments = parser.parse_args()
    if arguments.devices:
        one_run(arguments.devices)
        sys.exit()
    head("Scaling")
    ranks(arguments.repetitions)
