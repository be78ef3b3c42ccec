"""The paper's schedule at CIFAR-100-LT's shape on one GPU: minutes, and accuracy beside the plain path.

    python benchmarks/gpu_recipe.py --root FOLDER [--seeds 0 1 2] [overrides ...]

FOLDER is an image folder of 100 classes (tiny-imagenet-100). Goals: `experiment=speed/cifar_shape` (200 + 80 + 20
epochs) under 5 minutes on an H200; mean accuracy within 1 point of the plain path (no compilation, no
fused optimizer). The floor stands in the experiment's file.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import head, line

HOME = Path(__file__).resolve().parents[1]
PATHS = {"fast": [], "plain": ["compile=null", "optimizer.algorithm.fused=false"]}


def trained(root: Path, seed: int, extra: list[str]) -> tuple[float, float]:
    """Seconds of training with its centroid passes, and test accuracy in percent."""
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        arguments = ["experiment=speed/cifar_shape", f"dataset.root={root}", "protocol=published", f"seed={seed}"]
        command = [sys.executable, "train.py", *arguments, *extra, f"hydra.run.dir={run}"]
        subprocess.run(command, cwd=HOME, check=True, stdout=subprocess.DEVNULL)
        results = json.loads(Path(run, "results.json").read_text())
    return results["timing"]["train_s"], 100 * results["test"]["acc"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments, overrides = parser.parse_known_args()
    head("GPU recipe, CIFAR-100-LT's shape")
    found = {
        name: [trained(arguments.root.resolve(), seed, [*options, *overrides]) for seed in arguments.seeds]
        for name, options in PATHS.items()
    }
    for name, runs in found.items():
        line(f"{name}: minutes", sorted(took / 60 for took, _ in runs), 5.0 if name == "fast" else None, at_least=False)
        line(f"{name}: test accuracy, %", sorted(accuracy for _, accuracy in runs))
    means = [statistics.mean(accuracy for _, accuracy in runs) for runs in found.values()]
    line("difference of the means, points", [abs(means[0] - means[1])], 1.0, at_least=False)
