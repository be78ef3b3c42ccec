"""An epoch of the joint stage on stored features of ImageNet-LT's size; goal: twice what its bytes and products take.

    python benchmarks/features.py                    # 115,846 x 2,048 float16, 1,000 classes, batches of 512
    python benchmarks/features.py --count 20000      # a sixth of it

A last line has the minutes of `drolt classifiers` on a run of one epoch on this file, as users start it; goal: five.

The other side reads the same rows in the same order and computes the matrix products alone: those of the network and
its gradients, and the distances of each batch to its centroids. It has no loss, no optimizer and no metrics. The
centroid pass is on both sides: every row once more, the sums by class, and the float64 product from which the effective
dimension follows; at 2,048 features this product takes longer than the training steps.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from setup import fit_one_epoch, joint_module
from timing import head, line
from torch import Tensor

from drolt_pl.backbones import MLP, Backbone, Identity
from drolt_pl.data import profile_counts
from drolt_pl.data.sets.features import FeaturesLT
from drolt_pl.data.stored import StoredFeatures

BATCH_SIZE = 512


def features_file(path: Path, count: int, width: int, classes: int) -> Path:
    """Noise with the tail of ImageNet-LT, a test sample a class."""
    counts = profile_counts(classes, 10**6, 256)
    targets = np.repeat(np.arange(classes), np.maximum(counts * count // counts.sum(), 1))
    targets = np.concatenate([targets, np.arange(classes)])
    rows = torch.empty(len(targets), width, dtype=torch.float16)
    for part in rows.split(8192):
        part.copy_(torch.randn(part.shape))
    StoredFeatures(
        features=rows,
        targets=targets,
        official=np.where(np.arange(len(targets)) < len(targets) - classes, "train", "test"),
        class_names=[str(number) for number in range(classes)],
        names=np.arange(len(targets)).astype(np.bytes_),
        views=None,
        metadata={},
    ).save(path)
    return path


class Products:
    """Reads what an epoch reads, and multiplies what it multiplies."""

    def __init__(self, features: Tensor, targets: Tensor, layers: list[tuple[int, int]], classes: int) -> None:
        self.features, self.targets, self.classes = features, targets, classes
        self.weights = [torch.randn(inner, outer) for inner, outer in layers]
        self.order = torch.randperm(len(targets))

    def epoch(self) -> None:
        """One epoch, centroid pass included."""
        width = self.weights[-1].shape[0]
        sums = torch.zeros(self.classes, width, dtype=torch.float64)
        outer = torch.zeros(width, width, dtype=torch.float64)
        for rows, targets in zip(self.features.split(2048), self.targets.split(2048), strict=True):
            features = self._forward(rows.float(), self.weights[:-1])[-1].double()
            sums.index_add_(0, targets, features)
            outer.addmm_(features.T, features)
        centroids = sums.float()
        for batch in self.order.split(BATCH_SIZE):
            outputs = self._forward(self.features.index_select(0, batch).float(), self.weights)
            gradient = outputs[-1]
            for place in range(len(self.weights) - 1, -1, -1):
                _ = outputs[place].T @ gradient  # of the weights
                gradient = gradient @ self.weights[place].T if place else gradient  # of the layer below
            own = centroids.index_select(0, self.targets[batch])
            distances = own @ outputs[-2].T
            _ = distances @ outputs[-2]  # its gradient

    def _forward(self, rows: Tensor, weights: list[Tensor]) -> list[Tensor]:
        outputs = [rows]
        for weight in weights:
            outputs.append(outputs[-1] @ weight)
        return outputs


def measure(name: str, backbone: Backbone, layers: list[tuple[int, int]], path: Path, repetitions: int) -> None:
    """Prints a line: the epoch over its reading and products."""
    sizes = {"batch_size": BATCH_SIZE, "eval_batch_size": 2048}
    data = FeaturesLT(file=path, imbalance_ratio=None, protocol="published", **sizes)
    data.setup()
    loader = data.centroid_dataloader()
    rows, targets = (torch.cat(parts) for parts in zip(*loader.batches, strict=True))
    products = Products(rows, targets, layers, data.num_classes)
    module = joint_module(backbone, data.class_counts, sampling="instance")
    found = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        products.epoch()
        between = time.perf_counter()
        ours = sum(fit_one_epoch(module, data, precision="32-true", accelerator="cpu"))
        found.append(ours / (between - start))
        print(f"# {name}: {ours:.1f} s an epoch, {between - start:.1f} s of reading and products", flush=True)
    line(name, sorted(found[1:]), 2.0, at_least=False)


def compare_classifiers(file: Path, folder: Path) -> None:
    """Prints a line: the minutes of a comparison of classifiers."""
    precision = "bf16-mixed" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "32-true"
    words = ["dataset=features", f"dataset.file={file}", f"dataset.batch_size={BATCH_SIZE}", "protocol=published"]
    words += ["backbone=identity", "method=ce", "schedule.stages.train.epochs=1", "report=false", "trainer=cpu"]
    words += [f"trainer.precision={precision}", f"hydra.run.dir={folder}"]
    subprocess.run([sys.executable, "-m", "drolt_pl", "train", *words], check=True, stdout=subprocess.DEVNULL)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "drolt_pl", "classifiers", str(folder)], check=True, stdout=subprocess.DEVNULL
    )
    line(f"drolt classifiers, {precision}, minutes", [(time.perf_counter() - start) / 60], 5.0, at_least=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=115_846)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    head("Joint epoch on stored features over reading them and the matrix products")
    with tempfile.TemporaryDirectory() as folder:
        width, classes = arguments.width, arguments.classes
        file = features_file(Path(folder) / "noise.safetensors", arguments.count, width, classes)
        sizes = [(width, 512), (512, 256), (256, classes)]
        measure("features as they are", Identity(width), [(width, classes)], file, arguments.repetitions)
        measure("MLP 512, 256", MLP(width), sizes, file, arguments.repetitions)
        compare_classifiers(file, Path(folder) / "run")
