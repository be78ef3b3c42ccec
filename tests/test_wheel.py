"""The wheel in an empty environment, outside the checkout, trains as the checkout does."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from helpers.running import HOME, SHORT

pytestmark = pytest.mark.slow


class Installed:
    """An environment with the wheel in it, and a folder to work in.

    The wheel is installed without its dependencies: the packages of this environment are on the path as a plain
    folder, where the editable install of the checkout is not followed.
    """

    def __init__(self, folder: Path) -> None:
        self.cwd, self.bin = folder / "work", folder / "env" / "bin"
        self.cwd.mkdir()
        subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, HOME], check=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
        (site,) = (folder / "env" / "lib").glob("python*/site-packages")
        (site / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
        (wheel,) = folder.glob("*.whl")
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python", "install", "--no-deps", wheel]
        subprocess.run(pip, check=True)

    def __call__(self, program: str, *arguments: str, code: int = 0) -> str:
        """Runs a program of the environment; its output, both streams."""
        variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.cwd,
            env={**variables, "OMP_NUM_THREADS": "1", "PYTHONNOUSERSITE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def results(self, run: str) -> dict[str, Any]:
        return json.loads((self.cwd / run / "results.json").read_text())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_nothing_comes_from_the_checkout(installed: Installed) -> None:
    said = installed("python", "-c", "import drolt_pl.run.conf as c; from drolt_pl import Model, train; print(c.CONF)")
    assert Path(said.strip()).is_relative_to(installed.bin.parent)
    listed = installed("python", "-c", "import sys; print(*sys.path, sep='\\n')").splitlines()
    assert str(HOME) not in listed
    conf = {str(path.relative_to(HOME / "conf")) for path in (HOME / "conf").rglob("*.yaml")}
    inside = Path(said.strip())
    assert conf == {str(path.relative_to(inside)) for path in inside.rglob("*.yaml")}


def test_it_says_what_it_can(installed: Installed) -> None:
    assert "Train one run" in installed("drolt", "--help")
    assert "dataset: " in installed("drolt", "train", "--help")
    assert "did you mean seed" in installed("drolt", "train", "sed=1", code=1)
    assert installed("python", "-m", "drolt_pl", "train", "--cfg", "job") == installed("drolt", "train", "--cfg", "job")


def test_it_trains_and_resumes_and_predicts(installed: Installed) -> None:
    installed("drolt", "train", *SHORT, "hydra.run.dir=run")
    first = installed.results("run")
    (installed.cwd / "run" / "results.json").unlink()
    checkpoints = installed.cwd / "run" / "checkpoints"
    (checkpoints / "ce_warmup.ckpt").replace(checkpoints / "last.ckpt")
    installed("drolt", "train", "resume=run")
    assert installed.results("run")["test"] == first["test"]
    code = (
        "import torch; from drolt_pl import Model, train\n"
        f"train([*{SHORT}, 'hydra.run.dir=python'])\n"
        "print(Model.load('python')(torch.zeros(2, 1, 8, 8)).shape)"
    )
    assert "torch.Size([2, 10])" in installed("python", "-c", code)
    assert installed.results("python")["test"] == first["test"]


def test_two_ranks_train(installed: Installed) -> None:
    installed("drolt", "train", *SHORT, "trainer.devices=2", "trainer.strategy=ddp", "hydra.run.dir=ranks")
    assert installed.results("ranks")["batch"]["ranks"] == 2


@pytest.mark.parametrize("launcher", ["basic", "ray"])
def test_it_sweeps(launcher: str, installed: Installed) -> None:
    cluster = ["hydra.launcher.init.num_cpus=2"] if launcher == "ray" else []
    sweep = [f"hydra/launcher={launcher}", *cluster, f"hydra.sweep.dir={launcher}"]
    installed("drolt", "train", "-m", *SHORT, "loss.eps=1,2", *sweep)
    assert installed.results(f"{launcher}/0")["eps"] != installed.results(f"{launcher}/1")["eps"]


def test_another_application_of_the_environment_does_not_see_our_plugins(installed: Installed) -> None:
    code = (
        "from hydra.core.plugins import Plugins\n"
        "print([kind.__module__ for kind in Plugins.instance().discover() if 'drolt' in kind.__module__])"
    )
    assert installed("python", "-c", code).strip() == "[]"
