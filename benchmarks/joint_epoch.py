"""A whole epoch of the joint stage, per training image, against research-style code; goal: 3 times as fast.

    python benchmarks/joint_epoch.py

The research-style side, written for this comparison and fixed: torchvision's transforms image by image on PIL images
in 2 DataLoader workers, float32, the class-aware loader passed twice an epoch (once for features, once to train), and
class means recomputed from all features at every step. Ours: images in memory, augmented in batches, bf16, one
un-augmented pass for the centroids; then the same with `compile=default`, whose compilation is not counted: half a
minute once, then cached. The last line is the limit of what can be had without compilation: the forward and backward of
the training batches and the forward of the pass in bf16, and nothing else.
"""

import argparse
import time

import numpy as np
import torch
from PIL import Image
from setup import MEAN, STD, Noise, fit_one_epoch, joint_module, noise_pixels
from timing import head, line
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from drolt_pl.backbones import CifarResNet
from drolt_pl.data import ClassAwareSampler, CropFlip

COUNT, CLASSES, BATCH_SIZE, WORKERS = 2_560, 100, 128, 2


class PilImages(Dataset[tuple[Tensor, int]]):
    """Noise as PIL images, cropped, flipped and normalised one by one."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), index % CLASSES


class ResearchStyle:
    """The joint stage as research code does it."""

    def __init__(self, pixels: np.ndarray) -> None:
        targets = np.arange(len(pixels)) % CLASSES
        sampler = ClassAwareSampler(targets, samples_per_class=4)
        self.loader = DataLoader(
            PilImages(pixels), BATCH_SIZE, sampler=sampler, num_workers=WORKERS, persistent_workers=True
        )
        self.backbone, self.classifier = CifarResNet(32), nn.Linear(64, CLASSES)
        parameters = [*self.backbone.parameters(), *self.classifier.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)

    def epoch(self) -> float:
        """Seconds."""
        start = time.perf_counter()
        self.backbone.eval()
        with torch.no_grad():
            passed = [(self.backbone(images), targets) for images, targets in self.loader]
        stored, labels = (torch.cat(parts) for parts in zip(*passed, strict=True))
        self.backbone.train()
        for images, targets in self.loader:
            features = self.backbone(images)
            loss = 0.5 * nn.functional.cross_entropy(self.classifier(features), targets)
            for c in targets.unique():
                d = (features - stored[labels == c].mean(0)).norm(dim=1)
                own = targets == c
                hostile = torch.exp(-d + 2 * 0.1 * ~own)
                loss = loss - 0.5 * torch.log(torch.exp(-d[own]) / hostile.sum()).mean() / len(targets.unique())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return time.perf_counter() - start


def network_alone(backbone: CifarResNet, batches: int) -> float:
    """Seconds of an epoch's forward and backward of the backbone, and of the centroid pass's forward, in bf16."""
    images = torch.randn(BATCH_SIZE, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    start = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        backbone.eval()
        with torch.no_grad():
            for _ in range(batches):
                backbone(images)
        backbone.train()
        for _ in range(batches):
            backbone(images).sum().backward()
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    images = noise_pixels(COUNT + CLASSES, 32)
    data = Noise(images, CLASSES, CropFlip(padding=4), batch_size=BATCH_SIZE)
    data.setup()
    research = ResearchStyle(images[CLASSES:])
    head("Joint epoch, ResNet-32: time of research-style code over ours")
    ours = {"fp32 and PIL over bf16 and batches": CifarResNet(32), "fp32 and PIL over bf16, compiled": CifarResNet(32)}
    ours["fp32 and PIL over bf16, compiled"].compile(mode="default")
    modules = {name: joint_module(backbone, data.class_counts) for name, backbone in ours.items()}
    names, alone = [*modules, "  its limit: fp32 and PIL over the network alone in bf16"], CifarResNet(32)
    times = []
    for _ in range(arguments.repetitions + 1):
        slow = research.epoch()
        seconds = [sum(fit_one_epoch(module, data, precision="bf16-mixed")) for module in modules.values()]
        seconds.append(network_alone(alone, COUNT // BATCH_SIZE))
        times.append([slow / fast for fast in seconds])
    for name, measured in zip(names, zip(*times[1:], strict=True), strict=True):
        line(name, sorted(measured), 3.0 if name in modules else None)
