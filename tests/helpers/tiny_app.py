"""An application with the sweeps of train.py whose runs take no time: the same configuration, launcher and folders."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from helpers.running import HOME

SCRIPT = """
import json, os, sys, time
from pathlib import Path
from drolt_pl.run.command import main, start
from drolt_pl.sweeps.plugins import register

HERE = Path(__file__).resolve().parent

def task(config):
    return start(config, train)

def train(config, run_dir):
    stages = [name for name in config.schedule.stages if config.init_from is None or name != "ce_warmup"]
    with (run_dir / "log.txt").open("a") as log:
        print(os.getpid(), *stages, *(["resumed"] if config.resume else []), file=log)
    print("epoch 1", flush=True)
    if config.optimizer.lr > config.fails_above:
        raise RuntimeError("diverged")
    (run_dir / "checkpoints").mkdir(exist_ok=True)
    for stage in stages:
        (run_dir / "checkpoints" / f"{stage}.ckpt").touch()
    if config.children:
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (run_dir / "child").write_text(str(child.pid))
    if config.optimizer.lr > config.sleeps_above and not config.resume:
        time.sleep(600)
    accuracy = None if config.protocol == "published" else 1 - abs(config.optimizer.lr - 0.3)
    results = {"schema": 1, "dataset": "tiny", "method": "none", "protocol": config.protocol, "seed": config.seed,
               "test": {"acc": 0.0}, "objective": accuracy}
    (run_dir / "results.json").write_text(json.dumps(results))
    return accuracy

if __name__ == "__main__":
    register()
    sys.exit(main(task, HERE / "conf"))
"""
CONFIG = """
defaults: [_self_, {sweep: grid}]
loss: {eps: 1, eps_mode: sqrt_n, ce_weight: 0.5}
optimizer: {lr: 0.1}
schedule: {stages: {ce_warmup: {lr: 0.1, sampling: instance}, joint: {lr: null},
  rebalance: {lr: 0.1, sampling: class_balanced, classifier: keep}}}
trainer: {devices: 1}
protocol: holdout
seed: 0
name: null
resume: null
init_from: null
fails_above: 10
sleeps_above: 10
children: false
hydra: {sweep: {dir: sweep}}
"""


class TinyApp:
    """The application, in a folder of its own; its sweeps write to `sweep` there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sweep = folder, folder / "sweep"
        for group in ("hydra", "sweep"):
            shutil.copytree(HOME / "conf" / group, folder / "conf" / group)
        (folder / "conf" / "config.yaml").write_text(CONFIG)
        (folder / "train.py").write_text(SCRIPT)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`python train.py -m ARGUMENTS`."""
        return subprocess.Popen(
            [sys.executable, "train.py", "-m", *arguments],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background commands, and so what they start, ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Runs a sweep to its end; its output, both streams."""
        started = self.start(*arguments)
        out, err = started.communicate(timeout=200)
        assert started.returncode == code, out + err
        return out + err

    def jobs(self) -> list[list[str]]:
        """Overrides of all jobs, by number."""
        listed = json.loads((self.sweep / "jobs.json").read_text())
        assert list(listed) == [str(number) for number in range(len(listed))]
        return list(listed.values())

    def log(self, number: int) -> list[list[str]]:
        """What a job trained, a line each time that it was started, without process ids."""
        lines = (self.sweep / str(number) / "log.txt").read_text().splitlines()
        return [line.split()[1:] for line in lines]

    def results(self, number: int) -> dict[str, Any]:
        """A job's results.json."""
        return json.loads((self.sweep / str(number) / "results.json").read_text())

    def folders(self) -> set[str]:
        """The folders in the sweep's."""
        return {path.name for path in self.sweep.iterdir() if path.is_dir() and not path.name.startswith(".")}


def wait_for(path: Path, seconds: float = 60) -> str:
    """The text of a file that another process is about to write."""
    end = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)
    return path.read_text(errors="replace")


def ends(pid: int, seconds: float = 20) -> bool:
    """Whether a process ends in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
