"""Large images: how fast photographs of 500 x 375 become batches of 224 x 224, against torchvision's way.

    python benchmarks/photos.py                        # JPEG files cut from two photographs
    python benchmarks/photos.py --images FOLDER        # JPEG files of an image folder's small photographs, enlarged

Both sides run in as many worker processes and give normalised float32 batches: `ImageFolderLT` with its workers, and
torchvision's ImageFolder, whose transforms are those of ImageNet's usual recipe. Goal: twice as fast.

Before that, the limit: milliseconds of one core for the parts of an image's way. Decoding to an eighth of the size does
hardly more than to read the bytes (Huffman's code); the rest of decoding is the inverse transform and the colours.
Last, what faster ways change: mean absolute difference of the pixels, in levels of 255, from decoding everything and
resizing by PIL.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timing import head, line, seconds
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from drolt_pl.data import CropFlip, ImageFolderLT
from drolt_pl.data.images.decoding import read_rgb, read_view
from drolt_pl.data.images.view import BILINEAR, View

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH_SIZE, WORKERS, SIZE, CLASSES = 64, 2, 224, 10
KINDS = {"quality 75, 4:2:0": (75, 2), "quality 90, 4:2:0": (90, 2), "quality 95, 4:4:4": (95, 0)}
NORMAL = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
RECIPES = {
    "random crop": [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *NORMAL],
    "centre crop": [transforms.Resize(256), transforms.CenterCrop(SIZE), *NORMAL],
}


def photographs(folder: Path | None, count: int) -> list[Image.Image]:
    """Images of 500 x 375: parts of scikit-learn's photographs, or enlarged ones of a folder."""
    rng = np.random.default_rng(0)
    if folder is not None:
        paths = rng.permutation(sorted(folder.rglob("*.jp*g"), key=str))[:count]
        return [Image.open(path).convert("RGB").resize((500, 375), Image.Resampling.LANCZOS) for path in paths]
    found = []
    for number in range(count):
        photo = Image.fromarray(load_sample_images().images[number % 2])
        left, top = rng.integers(photo.width - 500 + 1), rng.integers(photo.height - 375 + 1)
        found.append(photo.crop((left, top, left + 500, top + 375)))
    return found


def write_folder(folder: Path, photos: Sequence[Image.Image], count: int, quality: int, subsampling: int) -> None:
    """An image folder of JPEG files, of which `count` train; beyond the photographs they are links."""
    rows = [(number, "train") for number in range(count)] + [(number, "test") for number in range(CLASSES)]
    first: dict[tuple[str, int], Path] = {}
    for number, part in rows:
        path = folder / part / str(number % CLASSES) / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        place = number % len(photos)
        if (part, place) in first:
            path.hardlink_to(first[part, place])
        else:
            photos[place].save(path, quality=quality, subsampling=subsampling)
            first[part, place] = path


def drain(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> int:
    return sum(len(targets) for _, targets in batches)


def loaders(folder: Path) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """By recipe: one epoch of ours, and one of torchvision's."""
    ours = ImageFolderLT(
        root=folder,
        mean=MEAN,
        std=STD,
        image_size=SIZE,
        train_crop="random_resized",
        augment=CropFlip(padding=0),
        imbalance_ratio=None,
        protocol="published",
        loader="workers",
        num_workers=WORKERS,
        batch_size=BATCH_SIZE,
        eval_batch_size=BATCH_SIZE,
        allow_duplicates=True,
    )
    ours.setup()
    plain = {
        name: DataLoader(
            ImageFolder(str(folder / "train"), transforms.Compose(steps)),
            BATCH_SIZE,
            shuffle=name == "random crop",
            num_workers=WORKERS,
        )
        for name, steps in RECIPES.items()
    }
    return {
        "random crop": (lambda: drain(ours.train_dataloader()), lambda: drain(plain["random crop"])),
        "centre crop": (lambda: drain(ours.centroid_dataloader()), lambda: drain(plain["centre crop"])),
    }


def rates(folder: Path, kind: str, repetitions: int) -> None:
    for name, (ours, theirs) in loaders(folder).items():
        ours()
        theirs()
        ratios = sorted(seconds(theirs) / seconds(ours) for _ in range(repetitions))
        line(f"{kind}, {name}: torchvision's time over ours", ratios, 2.0)


def milliseconds(work: Callable[[str], object], paths: list[str]) -> float:
    """Of one core for an image, the median of five passes."""

    def once() -> float:
        start = time.process_time()
        for path in paths:
            work(path)
        return (time.process_time() - start) / len(paths) * 1e3

    return statistics.median(once() for _ in range(5))


def eighth(path: str) -> None:
    with Image.open(path) as image:
        image.draft(None, (image.width // 8, image.height // 8))
        image.load()


def limits(paths: list[str], kind: str) -> None:
    torch.set_num_threads(1)
    sized = statistics.mean(os.path.getsize(path) for path in paths) / 1e3
    recipe = transforms.Compose(RECIPES["centre crop"])
    parts: dict[str, Callable[[str], object]] = {
        "read": lambda path: Path(path).read_bytes(),
        "bytes to an eighth": eighth,
        "to all pixels": read_rgb,
        "to the view": lambda path: read_view(path, View(SIZE, "random_resized")),
        "torchvision's": lambda path: recipe(Image.open(path).convert("RGB")),
    }
    times = ", ".join(f"{name} {milliseconds(work, paths):.2f}" for name, work in parts.items())
    print(f"{kind}, {sized:.0f} kB; ms a core for an image: {times}", flush=True)


def plain_view(data: bytes, view: View) -> np.ndarray:
    """Everything decoded, then cut and resized by PIL."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    cut = view.cut(image.width, image.height)
    if not cut.whole:
        return np.asarray(image.resize((view.size, view.size), cut.filter, box=cut.box))
    left, top, right, bottom = cut.box
    return np.asarray(image.crop((left, top, right, bottom)).resize((view.size, view.size), BILINEAR))


def differences(paths: list[str], kind: str) -> None:
    for crop, size in (("random_resized", SIZE), ("random_resized", 128), ("center", 64), ("random_resized", 32)):
        view = View(size, crop)
        found = [
            float(np.abs(read_view(path, view).astype(int) - plain_view(Path(path).read_bytes(), view)).mean())
            for path in paths
        ]
        reduced = view.cut(500, 375).reduction()
        print(f"{kind}, {crop} to {size} (decoded at 1/{reduced}): difference {statistics.mean(found):.2f} levels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of small photographs")
    parser.add_argument("--count", type=int, default=1_000, help="images of an epoch")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    head("Large images: JPEG files of 500 x 375 to 224 x 224, in 2 workers")
    pictures = photographs(arguments.images, 200)
    with tempfile.TemporaryDirectory() as name:
        for number, (kind, options) in enumerate(KINDS.items()):
            root = Path(name) / str(number)
            write_folder(root, pictures, arguments.count, *options)
            files = sorted(str(path) for path in root.rglob("train/*/000*.jpg"))
            rates(root, kind, arguments.repetitions)
            limits(files, kind)
            differences(files, kind)
