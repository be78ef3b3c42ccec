"""Sweeps of real runs on the digits: with two ranks a job, with a cluster, killed half-way."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.running import HOME, SHORT
from helpers.tiny_app import wait_for

pytestmark = pytest.mark.slow
DDP = ("trainer.devices=2", "trainer.strategy=ddp")


def start(sweep: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HOME / "train.py"), "-m", *SHORT, *arguments, f"hydra.sweep.dir={sweep}"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TEST_SWEEP": str(sweep)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(sweep: Path, *arguments: str, code: int = 0) -> str:
    started = start(sweep, *arguments)
    out = started.communicate(timeout=1500)[0]
    assert started.returncode == code, out
    assert none_is_left(sweep)
    return out


def processes(sweep: Path) -> list[str]:
    """Command lines of what a sweep has started, and of what that has: they all inherit its mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"TEST_SWEEP={sweep}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def none_is_left(sweep: Path, seconds: float = 20) -> bool:
    """Whether no process of a sweep is there any more, so that none holds a port, or soon none will be."""
    end = time.monotonic() + seconds
    while processes(sweep) and time.monotonic() < end:
        time.sleep(0.1)
    return not processes(sweep)


def results(sweep: Path, number: int) -> dict[str, Any]:
    return json.loads((sweep / str(number) / "results.json").read_text())


def folders(sweep: Path) -> set[str]:
    return {path.name for path in sweep.iterdir() if path.is_dir() and path.name.isdigit()}


def test_a_grid_of_jobs_with_two_ranks_each_survives_its_failing_first(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    out = run(sweep, *DDP, "optimizer.lr=1e20,0.01", "loss.eps=1,2", code=1)
    assert "2 of 4 jobs failed (0, 1;" in out
    assert folders(sweep) == {"0", "1", "2", "3"}
    assert "train/loss" in " ".join(json.loads((sweep / "0" / "failure.json").read_text())["last_lines"])
    assert results(sweep, 2)["eps"] != results(sweep, 3)["eps"]
    assert results(sweep, 2)["images_seen"] == results(sweep, 3)["images_seen"]
    assert not (tmp_path / "multirun").exists()


def test_a_killed_sweep_of_jobs_with_two_ranks_goes_on(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    arguments = (*DDP, "loss.eps=1,2", "schedule.stages.joint.epochs=30")
    killed = start(sweep, *arguments)
    wait_for(sweep / "0" / "results.json", 400)
    wait_for(sweep / "1" / "checkpoints" / "ce_warmup.ckpt", 400)
    killed.kill()
    killed.communicate()
    assert none_is_left(sweep)
    before = (sweep / "0" / "results.json").stat().st_mtime_ns
    assert not (sweep / "1" / "results.json").exists()
    assert "finished before" in run(sweep, *arguments)
    assert (sweep / "0" / "results.json").stat().st_mtime_ns == before
    assert (sweep / "1" / ".hydra" / "resume_0").is_dir()
    assert results(sweep, 1)["images_seen"] == results(sweep, 0)["images_seen"]


def test_a_study_with_a_diverged_trial(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    study = ("sweep=optuna", "optimizer.lr=tag(log,interval(1e-2,1e20))", "hydra.sweeper.n_trials=3")
    out = run(sweep, *study)
    failed = [number for number in range(3) if (sweep / str(number) / "failure.json").exists()]
    assert 0 < len(failed) < 3
    assert f"{3 - len(failed)} of 3 trials finished; best" in out


def test_a_ray_cluster_of_this_machine(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    run(
        sweep,
        "hydra/launcher=ray",
        "hydra.launcher.init.num_cpus=2",
        "sweep=eps",
        "loss.eps_mode=sqrt_n",
        "loss.eps=1,2,5",
    )
    assert folders(sweep) == {"0", "1", "2"}
    warm = [results(sweep, number)["stages"]["ce_warmup"]["test"]["acc"] for number in range(3)]
    assert len(set(warm)) == 1
    assert (sweep / "2" / "checkpoints" / "ce_warmup_init.ckpt").exists()


def test_submitit_on_this_machine(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    run(sweep, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=20", *DDP, "loss.eps=1,2")
    assert folders(sweep) == {"0", "1"}
    assert results(sweep, 0)["test"]["acc"] > 0
