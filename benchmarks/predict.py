"""Predictions of many JPEG files: against a bare loop with the same network and decoder, and the memory it takes."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from setup import noise_pixels
from timing import head, line

from drolt_pl.data.images.decoding import read_rgb
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.data.images.view import View
from drolt_pl.model import Description, Model
from drolt_pl.model.parts import build_backbone, build_classifier
from drolt_pl.predict.files import Pace, predict_files

NETWORKS = {  # by name: its description, and pixels per side of what it sees
    "small network, 32 px": ({"_target_": "drolt_pl.backbones.SmallConvNet", "num_features": 64, "in_channels": 3}, 32),
    "ResNet-20, 32 px": ({"_target_": "drolt_pl.backbones.CifarResNet", "depth": 20}, 32),
}


def build(backbone: dict[str, object], size: int) -> Model:
    """A network of random weights with ten classes and centroids."""
    torch.manual_seed(0)
    network = build_backbone(backbone)
    linear = {
        "_target_": "drolt_pl.classifiers.LinearClassifier",
        "num_features": network.num_features,
        "num_classes": 10,
    }
    description = Description(
        backbone=backbone,
        classifiers={"train": linear},
        class_names=tuple(map(str, range(10))),
        class_counts=(100,) * 10,
        preprocessing=Preprocessing(image_size=size, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    centroids, radii = torch.randn(10, network.num_features), torch.ones(10)
    return Model(
        network,
        build_classifier(linear),
        description=description,
        stage="train",
        centroids=centroids,
        centroid_counts=torch.full((10,), 100),
        radii=radii,
    ).eval()


@torch.inference_mode()
def bare(model: Model, names: list[str], out: Path, batch_size: int) -> None:
    """What one would write: read, decode, crop, stack, normalise, forward, argmax, a line a file."""
    size = model.preprocessing.image_size
    with out.open("w") as file:
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            views = [View(size).of(read_rgb(name)) for name in batch]
            pixels = torch.stack([torch.tensor(view) for view in views])
            images = pixels.permute(0, 3, 1, 2).float() / 255
            found = model((images - 0.5) / 0.25).softmax(1).max(1)
            for name, label, value in zip(batch, found.indices.tolist(), found.values.tolist(), strict=True):
                file.write(f"{name},{label},{value}\n")


def write_files(folder: Path, count: int, width: int, height: int) -> list[str]:
    """JPEGs of smooth noise: some hundred different ones, the rest links to them."""
    pixels = noise_pixels(200, 8)
    names = [folder / f"{number // 1000:03d}" / f"{number:06d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        name.parent.mkdir(exist_ok=True)
        if number < len(pixels):
            Image.fromarray(pixels[number]).resize((width, height), Image.Resampling.BICUBIC).save(name, quality=90)
        else:
            name.hardlink_to(names[number % len(pixels)])
    return [str(name) for name in names]


def seconds(names: list[str], network: str, workers: int | None) -> float:
    """Time that `drolt predict` takes in a process of its own, or with workers null the bare loop in one."""
    listed = Path(names[0]).parents[1] / "names.txt"
    listed.write_text("\n".join(names))
    code = f"import predict; predict.print_seconds({str(listed)!r}, {network!r}, {workers})"
    settings = dict(os.environ)
    if workers is not None:
        settings.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
        env=settings,
    )
    return float(done.stdout.split()[-1])


def print_seconds(listed: str, network: str, workers: int | None) -> None:
    """One side of the comparison, after a first batch that is not counted."""
    names, model = Path(listed).read_text().splitlines(), build(*NETWORKS[network])
    out = Path(listed).with_name("out.csv")
    for part in (names[:128], names):
        start = time.perf_counter()
        if workers is None:
            bare(model, part, out, 64)
        else:
            predict_files(model, part, out, pace=Pace(workers=workers))
        taken = time.perf_counter() - start
    print(taken)


def speeds(names: list[str], repetitions: int) -> None:
    """Images a second of `drolt predict` over those of the bare loop, in turn."""
    head("Predictions of JPEG files: images a second over the bare loop's")
    for title in NETWORKS:
        for workers in (0, 2):
            ours = [(seconds(names, title, workers), seconds(names, title, None)) for _ in range(repetitions)]
            found = sorted(theirs / own for own, theirs in ours)
            line(f"{title}, {len(names):,} files, {workers} workers", found, 0.9 if workers == 0 else None)


def peak(folder: Path, count: int, workers: int) -> float:
    """Peak memory in MB of a process that predicts the first files of a folder, and of its workers at their largest."""
    code = (
        "import resource, sys; from itertools import islice; from pathlib import Path; import predict as p; "
        "torch = p.torch; torch.set_num_threads(1); from drolt_pl.predict.names import Names; "
        f"model = p.build(*p.NETWORKS['small network, 32 px']); names = islice(Names([{str(folder)!r}]), {count}); "
        f"p.predict_files(model, names, Path({str(folder / 'out.csv')!r}), pace=p.Pace(workers={workers})); "
        "own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)); "
        f"print((own + {workers} * child) / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=50_000, help="files of the second measurement of memory")
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = write_files(folder, max(chosen.files, chosen.many), 160, 120)
        speeds(names[: chosen.files], chosen.repetitions)
        head("Predictions of JPEG files: peak memory, over that of 1,000 files")
        for workers in (0, 2):
            few, many = peak(folder, 1_000, workers), peak(folder, chosen.many, workers)
            title = f"{chosen.many:,} files, {workers} workers (1,000: {few:,.0f} MB)"
            line(title, [many / few], 1.05, at_least=False)


if __name__ == "__main__":
    main()
