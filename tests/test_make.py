"""`make` takes the newest Python that starts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.running import HOME

WORKS = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
BROKEN = "#!/bin/sh\necho 'command not found' >&2\nexit 127\n"  # a shim of pyenv for a version that is not chosen
OLD = "#!/bin/sh\nexit 1\n"  # what an older Python answers to the question


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        ({"python3.13": WORKS, "python3.11": WORKS}, "python3.13"),
        ({"python3.13": BROKEN, "python3.12": WORKS}, "python3.12"),
        ({"python3": WORKS}, "python3"),
        ({"python3": OLD}, None),
    ],
)
def test_the_newest_python_that_starts(pythons: dict[str, str], taken: str | None, tmp_path: Path) -> None:
    for tool in ("make", "sh", "test", "touch"):
        os.symlink(str(shutil.which(tool)), tmp_path / tool)
    for name, text in pythons.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    words = ["make", "--dry-run", "setup", f"VENV={tmp_path / 'venv'}"]
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run(words, cwd=HOME, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{taken or ''} -m venv {tmp_path / 'venv'}" in done.stdout
    if taken is None:
        words.remove("--dry-run")
        done = subprocess.run(words, cwd=HOME, env=environment, capture_output=True, text=True)
        assert done.returncode != 0
        assert "no Python from 3.11 on was found" in done.stdout
