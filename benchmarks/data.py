"""How fast training images come: each pipeline against a plain one, in ratios measured in alternation.

    python benchmarks/data.py                          # generates its images
    python benchmarks/data.py --images FOLDER          # decodes the JPEG files of an image folder

(a) The memory pipeline against torchvision's per-image transforms on PIL images in 2 DataLoader workers, CIFAR's size;
    goals: 5 times as fast with crop and flip, twice as fast with AutoAugment and Cutout.
(b) The worker pipeline (decode and collate) against bare PIL decoding in the same number of processes; goal: 0.9.

Each repetition measures both sides one after the other, in turn; the table shows the median ratio and its range.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from drolt_pl.data import AutoAugment, Catalogue, Chain, CropFlip, Cutout, ImageFolderLT, LongTailDataModule
from drolt_pl.data.augment.transforms import Augment
from drolt_pl.data.images.sources import ArraySource

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
BATCH_SIZE, WORKERS = 128, 2


class Noise(LongTailDataModule):
    """Random images of CIFAR's size."""

    def __init__(self, pixels: np.ndarray, augment: Augment) -> None:
        super().__init__(
            mean=MEAN, std=STD, imbalance_ratio=None, protocol="published", batch_size=BATCH_SIZE, augment=augment
        )
        self.pixels = pixels

    def catalogue(self) -> Catalogue:
        count = len(self.pixels)
        return Catalogue(
            names=np.arange(count).astype(np.bytes_),
            targets=np.arange(count) % 10,
            official=np.where(np.arange(count) < 10, "test", "train"),
            class_names=[str(number) for number in range(10)],
            source=ArraySource(self.pixels),
        )


class PerImage(Dataset[tuple[torch.Tensor, int]]):
    """The same images as torchvision's CIFAR-10 gives them: a PIL image, transformed alone."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), index % 10


def rate(count: int, run: Callable[[], object]) -> float:
    """Images a second."""
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def drain(batches: object) -> None:
    for _ in batches:  # type: ignore[attr-defined]
        pass


def compare(name: str, count: int, goal: float, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    """Print one line of the table; the first repetition warms up and is not counted."""
    pairs = [(rate(count, ours), rate(count, theirs)) for _ in range(REPETITIONS + 1)][1:]
    ratios = sorted(fast / plain for fast, plain in pairs)
    median = [statistics.median(side) for side in zip(*pairs, strict=True)]
    verdict = "reached" if statistics.median(ratios) >= goal else "MISSED"
    print(
        f"{name:44} {median[0]:>9,.0f} {median[1]:>9,.0f} {statistics.median(ratios):>7.2f} "
        f"{ratios[0]:>6.2f}-{ratios[-1]:<6.2f} {goal:>5.1f} {verdict}",
        flush=True,
    )


def memory_pipeline(count: int) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
    crop_flip = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    normal = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    learned = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    erase = transforms.RandomErasing(p=1, scale=(0.25, 0.25), ratio=(1, 1))
    cases = {
        "(a) crop, flip": (5.0, CropFlip(padding=4), [*crop_flip, *normal]),
        "(a) crop, flip, AutoAugment, Cutout": (
            2.0,
            Chain([CropFlip(padding=4), AutoAugment(), Cutout()]),
            [*crop_flip, learned, *normal, erase],
        ),
    }
    for name, (goal, augment, steps) in cases.items():
        module = Noise(pixels, augment)
        module.setup()
        plain = DataLoader(
            PerImage(pixels, transforms.Compose(steps)),
            BATCH_SIZE,
            shuffle=True,
            num_workers=WORKERS,
            persistent_workers=True,
        )
        compare(name, count, goal, lambda m=module: drain(m.train_dataloader()), lambda p=plain: drain(p))


def decode(paths: list[str]) -> None:
    for path in paths:
        with Image.open(path) as image:
            image.convert("RGB")


def decode_in_processes(paths: list[str]) -> None:
    shares = [paths[start : start + BATCH_SIZE] for start in range(0, len(paths), BATCH_SIZE)]
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        pool.map(decode, shares, chunksize=1)


def worker_pipeline(folder: Path) -> None:
    module = ImageFolderLT(
        root=folder,
        imbalance_ratio=None,
        protocol="published",
        loader="workers",
        num_workers=WORKERS,
        eval_batch_size=BATCH_SIZE,
    )
    module.setup()
    names = module.store.names(module.split.train)
    paths = [str(folder / name) for name in names]
    compare(
        "(b) decode and collate",
        len(paths),
        0.9,
        lambda: drain(module.centroid_dataloader().batches),
        lambda: decode_in_processes(paths),
    )


def write_folder(folder: Path, count: int) -> None:
    """64x64 JPEG files of smooth noise, about 2 kB each, in ten classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
        path = folder / "train" / str(number % 10) / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize((64, 64), Image.Resampling.BICUBIC).save(path)
    test = folder / "test" / "0" / "0.jpg"
    test.parent.mkdir(parents=True)
    small.resize((64, 64)).save(test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="an image folder of JPEG files, all of one size")
    parser.add_argument("--count", type=int, default=10_000, help="images of a generated set")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    REPETITIONS = arguments.repetitions
    print("\nData pipelines")
    machine = f"{torch.get_num_threads()} threads, {multiprocessing.cpu_count()} CPUs, {WORKERS} workers"
    print(f"torch {torch.__version__}, {machine}")
    print(f"{'images a second':44} {'here':>9} {'plain':>9} {'ratio':>7} {'range':^13} {'goal':>5}")
    memory_pipeline(arguments.count)
    if arguments.images:
        worker_pipeline(arguments.images)
    else:
        with tempfile.TemporaryDirectory() as name:
            write_folder(Path(name), arguments.count)
            worker_pipeline(Path(name))
