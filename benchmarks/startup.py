"""How long a user waits before anything happens: goals 4 s for `--cfg job`, 0.5 s for the import beyond its libraries.

python benchmarks/startup.py
"""

import argparse
import subprocess
import sys
from pathlib import Path

from timing import head, line, seconds

HOME = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> float:
    return seconds(lambda: subprocess.run([sys.executable, *arguments], cwd=HOME, check=True, capture_output=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    head("Start-up, seconds")
    composing, beyond = [], []
    for _ in range(arguments.repetitions + 1):
        composing.append(run("train.py", "--cfg", "job"))
        libraries = run("-c", "import torch, pytorch_lightning")
        beyond.append(run("-c", "import torch, pytorch_lightning, drolt_pl") - libraries)
    line("python train.py --cfg job", sorted(composing[1:]), 4.0, at_least=False)
    line("import drolt_pl, beyond torch and pytorch_lightning", sorted(beyond[1:]), 0.5, at_least=False)
