"""ImageNet-shaped throughput: decoding alone, the model alone on resident images, and training with both.

    python benchmarks/gpu_imagenet.py [--images 4096] [--workers 16] [--batch 256]

ResNet-50, 224 px, bf16, JPEG files of ImageNet's usual size decoded for real. Goal: training at 0.9 of the slower
of its two parts.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from setup import fit_one_epoch, joint_module
from timing import head, line, seconds

from drolt_pl.backbones import TorchvisionResNet
from drolt_pl.data import CropFlip, ImageFolderLT


def write_images(folder: Path, count: int, num_classes: int) -> None:
    """500 x 375 JPEG files of smooth noise, about 60 kB each; a few of them test."""
    rng = np.random.default_rng(0)
    for number in range(count + num_classes):
        part = "test" if number < num_classes else "train"
        path = folder / part / f"{number % num_classes:03d}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(256, size=(94, 125, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)


def model_alone(batch_size: int, size: int, device: torch.device, steps: int) -> float:
    """Images a second of forward and backward on one resident batch."""
    model = torch.nn.Sequential(TorchvisionResNet("resnet50"), torch.nn.Linear(2048, 100)).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(batch_size, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(100, (batch_size,), device=device)

    def run(count: int) -> None:
        for _ in range(count):
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    run(2)
    return steps * batch_size / seconds(lambda: run(steps))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=32)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    head("ImageNet-shaped throughput, images a second")
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name), arguments.images, arguments.classes)
        data = ImageFolderLT(
            root=name,
            image_size=arguments.size,
            train_crop="random_resized",
            loader="workers",
            num_workers=arguments.workers,
            batch_size=arguments.batch,
            eval_batch_size=arguments.batch,
            imbalance_ratio=None,
            protocol="published",
            augment=CropFlip(padding=0),
        )
        data.setup()
        module = joint_module(TorchvisionResNet("resnet50"), data.class_counts)
        found: dict[str, list[float]] = {"decode alone": [], "model alone": [], "training": []}
        for _ in range(arguments.repetitions):
            loader = data.train_dataloader()
            count = sum(data.class_counts)
            found["decode alone"].append(count / seconds(lambda: [None for _ in loader.batches]))
            steps = max(2, count // arguments.batch)
            found["model alone"].append(model_alone(arguments.batch, arguments.size, device, steps))
            found["training"].append(count / fit_one_epoch(module, data, precision="bf16-mixed")[0])
        for part, rates in found.items():
            line(part, sorted(rates))
        shares = [t / min(d, m) for d, m, t in zip(*found.values(), strict=True)]
        line("training over the slower of its parts", sorted(shares), 0.9)
