"""The README's recipe for a method, word for word, in a fresh copy of the tree: three files and no other change."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.running import HOME

# The suites that list methods, or whose reports name them.
LISTING = ("tests/conf", "tests/sweeps/test_sweeps.py", "tests/report", "tests/analysis", "tests/test_architecture.py")


class Copy:
    """A copy of the checkout, with the recipe's files in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=HOME, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (HOME / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(HOME / name, folder / name)
        self.files = recipe()
        for name, text in self.files.items():
            assert not (folder / name).exists()
            (folder / name).write_text(text)

    def __call__(self, *words: str) -> str:
        """Runs `python WORDS` in the copy; its output."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def recipe() -> dict[str, str]:
    """The blocks of "Adding a method" as they stand, by the file that a comment at their head names."""
    readme = (HOME / "README.md").read_text()
    section = readme.split("## Adding a method")[1].split("\n## ")[0]
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", section, flags=re.DOTALL)
    files = {re.findall(r"^# (\S+/\S+)$", block, flags=re.MULTILINE)[0]: block for block in blocks}
    assert [Path(name).parts[0] for name in files] == ["drolt_pl", "conf", "tests"]
    return files


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


def test_it_is_tested_and_trains(copy: Copy) -> None:
    _, config, test = copy.files
    method = Path(config).stem
    assert copy("-c", "import drolt_pl; print(drolt_pl.__file__)").strip().startswith(str(copy.folder))
    copy("-m", "ruff", "check", *(name for name in copy.files if name.endswith(".py")))
    copy("-m", "ruff", "format", "--check", *(name for name in copy.files if name.endswith(".py")))
    assert "passed" in copy("-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    copy("train.py", "trainer=cpu", f"method={method}", "schedule.budget.alone=1", "hydra.run.dir=run")
    results = json.loads((copy.folder / "run" / "results.json").read_text())
    assert results["method"] == method
    assert list(results["stages"]) == ["train"]
    assert results["test"]["acc"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_else_lists_methods(copy: Copy) -> None:
    """The suites that read the folder of methods pass with one more in it."""
    copy("-m", "pytest", "-q", "-p", "no:cacheprovider", *LISTING)
    copy("-m", "mypy", *(name for name in copy.files if name.startswith("drolt_pl")))
