"""Many files: `drolt predict` keeps up with a bare loop, and takes no more memory than for few."""

import re
import subprocess
import sys

import pytest
from helpers.running import HOME


@pytest.mark.slow
def test_many_files() -> None:
    """A short run of the benchmark. On a busy machine times are rough, so the ratio may be below its goal of 0.9."""
    words = ["--files", "1000", "--many", "10000", "--repetitions", "5"]
    done = subprocess.run(
        [sys.executable, str(HOME / "benchmarks" / "predict.py"), *words], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    ratios = re.findall(r"files, 0 workers +(\d+\.\d+) ", done.stdout)
    growths = re.findall(r"MB\) +(\d+\.\d+) ", done.stdout)
    assert len(ratios) == len(growths) == 2, done.stdout
    assert all(float(ratio) > 0.7 for ratio in ratios), done.stdout
    assert all(float(growth) < 1.05 for growth in growths), done.stdout
