"""The examples run as they stand."""

import re
import subprocess
import sys

import pytest
from helpers.running import HOME

README = (HOME / "README.md").read_text()


@pytest.mark.parametrize("path", sorted((HOME / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example(path: object) -> None:
    done = subprocess.run([sys.executable, str(path)], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.findall(r"nearest centroid:? (0\.\d+)", done.stdout)[0])
    assert accuracy > 0.6  # 3 to 100 images a class; chance is 0.1


def test_the_readmes_python_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    alone = [block for block in blocks if not block.startswith("# ")]
    assert alone
    for block in alone:
        exec(compile(block, "README.md", "exec"), {})
