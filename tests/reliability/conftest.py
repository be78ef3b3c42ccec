"""A short run whose folder the tests copy and spoil."""

import shutil
from pathlib import Path

import pytest
from helpers.running import SHORT, folder_of_a_run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = [word.replace("epochs=2", "epochs=1") for word in SHORT]
    return folder_of_a_run(tmp_path_factory.mktemp("trained") / "run", *one)


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run's folder."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
