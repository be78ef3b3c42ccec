"""What Lightning and the module add to a training step: an epoch in `Trainer.fit` over the same epoch in a bare loop.

    python benchmarks/training_step.py

Same model, batches, precision, augmentation, loss and optimizer. Goal: at most 1.10. The limit, a second line: the bare
loop's lines as the `training_step` of a LightningModule, without callbacks, loggers, metrics or hooks.
"""

import argparse
import time
from contextlib import nullcontext

import pytorch_lightning as pl
import torch
from setup import MOMENTUM, WEIGHT_DECAY, EpochTime, Noise, fit_one_epoch, joint_module, noise_pixels, trainer_of
from timing import head, line
from torch import Tensor, nn

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


class Bare(pl.LightningModule):
    """The joint step over the parts of a module, and nothing else."""

    def __init__(self, module: DROLTModule) -> None:
        super().__init__()
        assert isinstance(module.loss, DROLTLoss)
        self.backbone, self.classifier, self.loss = module.backbone.train(), module.classifier, module.loss
        self.criterion, self.centroids = nn.CrossEntropyLoss(), module.centroids.clone()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        parameters = [*self.backbone.parameters(), *self.classifier.parameters()]
        return torch.optim.SGD(parameters, lr=0.01, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int = 0) -> Tensor:
        images, targets = batch
        features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        robust = self.loss(features, targets, self.centroids)
        return self.loss.mix(self.criterion(self.classifier(features), targets), robust)


def bare_epoch(module: DROLTModule, data: Noise, precision: object) -> float:
    """Seconds of an epoch over the module's parts."""
    bare = Bare(module)
    optimizer = bare.configure_optimizers()
    low = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16-mixed" else nullcontext()
    start = time.perf_counter()
    for batch in data.train_dataloader():
        optimizer.zero_grad()
        with low:
            value = bare.training_step(batch)
        value.backward()
        optimizer.step()
    return time.perf_counter() - start


def plain_epoch(module: DROLTModule, data: Noise, precision: object) -> float:
    """Seconds of the same epoch in `Trainer.fit`."""
    clock = EpochTime()
    trainer_of([clock], precision=precision, accelerator="cpu").fit(Bare(module), datamodule=data)
    return clock.seconds


def compare(name: str, repetitions: int) -> None:
    make, size, count, batch_size, precision = SHAPES[name]
    data = Noise(noise_pixels(count + 100, size), 100, CropFlip(padding=4), batch_size=batch_size, plan=class_aware)
    data.setup()
    module = joint_module(make(), data.class_counts)
    found = []
    for _ in range(repetitions + 1):
        fitted, _ = fit_one_epoch(module, data, precision=precision)
        plain = plain_epoch(module, data, precision)
        bare = bare_epoch(module, data, precision)
        found.append((fitted / bare, plain / bare))
    ours, limits = zip(*found[1:], strict=True)
    line(f"{name}: Lightning over bare", sorted(ours), 1.10, at_least=False)
    line("  its limit: a LightningModule of the step alone", sorted(limits))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    head("Training step")
    for shape_name in SHAPES:
        compare(shape_name, arguments.repetitions)
