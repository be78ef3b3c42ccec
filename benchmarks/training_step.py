"""What Lightning and the module add to a training step: an epoch in `Trainer.fit` over the same epoch in a bare loop.

    python benchmarks/training_step.py

Same model, batches, precision, augmentation and loss. Goal: at most 1.10.
"""

import argparse
import time
from contextlib import nullcontext

import torch
from setup import Noise, fit_one_epoch, joint_module, noise_pixels
from timing import head, line
from torch import nn

from drolt_pl import DROLTLoss, DROLTModule
from drolt_pl.backbones import CifarResNet, SmallConvNet
from drolt_pl.data import CropFlip
from drolt_pl.data.plan import Sampling

SHAPES = {
    "ResNet-32, 32 px, batch 128, bf16": (lambda: CifarResNet(32), 32, 2_560, 128, "bf16-mixed"),
    "SmallConvNet, 8 px, batch 32, fp32": (lambda: SmallConvNet(in_channels=3), 8, 6_400, 32, 32),
}


def class_aware(epoch: int) -> Sampling:
    """The sampling that both sides time."""
    return Sampling("class_aware")


def bare_epoch(module: DROLTModule, data: Noise, precision: object) -> float:
    """Seconds of an epoch over the module's parts."""
    backbone, classifier, loss = module.backbone.train(), module.classifier, module.loss
    assert isinstance(loss, DROLTLoss)
    optimizer = torch.optim.SGD([*backbone.parameters(), *classifier.parameters()], lr=0.01, momentum=0.9)
    criterion, centroids = nn.CrossEntropyLoss(), module.centroids.clone()
    low = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16-mixed" else nullcontext()
    start = time.perf_counter()
    for images, targets in data.train_dataloader():
        optimizer.zero_grad()
        with low:
            features = backbone(images.contiguous(memory_format=torch.channels_last))
            value = loss.mix(criterion(classifier(features), targets), loss(features, targets, centroids))
        value.backward()
        optimizer.step()
    return time.perf_counter() - start


def compare(name: str, repetitions: int) -> None:
    make, size, count, batch_size, precision = SHAPES[name]
    data = Noise(noise_pixels(count + 100, size), 100, CropFlip(padding=4), batch_size=batch_size, plan=class_aware)
    data.setup()
    module = joint_module(make(), data.class_counts)
    found = []
    for _ in range(repetitions + 1):
        fitted, _ = fit_one_epoch(module, data, precision=precision)
        found.append(fitted / bare_epoch(module, data, precision))
    line(f"{name}: Lightning over bare", sorted(found[1:]), 1.10, at_least=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    head("Training step")
    for shape_name in SHAPES:
        compare(shape_name, arguments.repetitions)
