"""What a sweep adds to the training of its jobs: goals under 1 s a job, and 0.6 of the time of as many commands.

python benchmarks/sweep.py
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import head, line, seconds

HOME = Path(__file__).resolve().parents[1]
JOB = ["dataset=digits_lt", "num_threads=1"]  # the short schedule of the digits, as the jobs of a grid have it
EPS = [1, 2, 3, 5, 10, 20, 30, 50, 70]


def run(*arguments: str) -> float:
    words = [sys.executable, "train.py", *arguments, *JOB]
    return seconds(lambda: subprocess.run(words, cwd=HOME, check=True, capture_output=True))


def swept(values: list[int], folder: Path) -> tuple[float, list[float]]:
    """Seconds of a sweep over radii, and those that its jobs trained."""
    shutil.rmtree(folder, ignore_errors=True)
    wall = run("-m", f"loss.eps={','.join(map(str, values))}", f"hydra.sweep.dir={folder}")
    timings = [json.loads(path.read_text())["timing"] for path in folder.glob("*/results.json")]
    return wall, [timing["train_s"] + timing["centroid_s"] for timing in timings]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    head("Sweep of the digits, one job at a time")
    ratios, beyond = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for repetition in range(arguments.repetitions):
            alone = [run(f"loss.eps={eps}", f"hydra.run.dir={folder}/{repetition}-{eps}") for eps in EPS[:3]]
            one, _ = swept(EPS[:1], folder / "one")
            all_jobs, trained = swept(EPS, folder / "all")
            beyond.append((all_jobs - one) / (len(EPS) - 1) - sum(trained) / len(trained))
            ratios.append((all_jobs - one) / (len(EPS) - 1) / (sum(alone) / len(alone)))
    line("seconds of a further job beyond its training", sorted(beyond), 1.0, at_least=False)
    line("time of a further job over a command's", sorted(ratios), 0.6, at_least=False)
