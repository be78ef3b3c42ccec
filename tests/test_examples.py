"""The examples run as they stand."""

import re
import subprocess
import sys

import pytest
from running import HOME


@pytest.mark.parametrize("path", sorted((HOME / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example(path: object) -> None:
    done = subprocess.run([sys.executable, str(path)], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.findall(r"nearest centroid (0\.\d+)", done.stdout)[0])
    assert accuracy > 0.6  # 3 to 100 images a class; chance is 0.1


def test_the_readmes_python_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (HOME / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
