"""`drolt_pl.train`: a run from Python is the run of the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.jobs import forked
from helpers.running import SHORT
from omegaconf import OmegaConf

from drolt_pl import train
from drolt_pl.errors import SettingError

SCRIPT = """
from drolt_pl import train
if __name__ == "__main__":
    train({overrides!r})
"""


def same_in_both(results: dict[str, object]) -> dict[str, object]:
    return {key: results[key] for key in ("stages", "test", "val", "eps", "overrides", "objective")}


def test_a_run_is_that_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train([*SHORT, "loss.eps=2", "logger=csv"])
    (run_dir,) = (tmp_path / "outputs").glob("*/*")
    assert forked(*SHORT, "loss.eps=2", "logger=csv", "hydra.run.dir=typed", cwd=tmp_path).returncode == 0
    ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (run_dir, tmp_path / "typed"))
    assert same_in_both(ours) == same_in_both(theirs)
    assert (run_dir / "csv" / "metrics.csv").exists()
    for name in ("config", "overrides"):
        assert (run_dir / ".hydra" / f"{name}.yaml").read_text() == (
            tmp_path / "typed" / ".hydra" / f"{name}.yaml"
        ).read_text()
    assert OmegaConf.load(run_dir / ".hydra" / "hydra.yaml").hydra.runtime.choices.logger == "csv"
    # Resumed from Python: only evaluated again.
    (run_dir / "results.json").unlink()
    train([f"resume={run_dir}", "logger=none"])
    assert json.loads((run_dir / "results.json").read_text())["test"] == ours["test"]
    assert (run_dir / ".hydra" / "resume_0" / "config.yaml").exists()


def test_wrong_values_are_one_exception_and_leave_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=r"^train takes overrides alone: .* command line, got '-m'$"):
        train(["-m", "loss.eps=1,2"])
    words = ["dataset=image_folder", "dataset.rot=photos"]  # the keys are those of the choice
    with pytest.raises(SettingError, match=r"^dataset.rot is not a key .*did you mean root"):
        train(words)
    with pytest.raises(SettingError, match=r"sed is not a key of the configuration \(did you mean seed"):
        train(["sed=1"])
    with pytest.raises(SettingError, match=r"loss\.eps_mode .*'lerned'"):
        train(["loss.eps_mode=lerned"])
    with pytest.raises(SettingError, match="resume=nowhere is not a run's folder"):
        train(["resume=nowhere"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_ranks_of_a_script_share_a_folder(tmp_path: Path) -> None:
    overrides = [*SHORT, "trainer.devices=2", "trainer.strategy=ddp"]
    (tmp_path / "script.py").write_text(SCRIPT.format(overrides=overrides))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, env=environment, timeout=300)
    (run_dir,) = (tmp_path / "outputs").glob("*/*")
    assert json.loads((run_dir / "results.json").read_text())["batch"]["ranks"] == 2
