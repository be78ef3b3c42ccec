"""Tries command lines one after the other, each in a fork that ends before it trains, and tells how each ended."""

import contextlib
import io
import json
import os
import select
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

SECONDS = 60.0


def attempts(lines: list[list[str]]) -> list[dict[str, Any]]:
    """How command lines end, from a process of their own: `code`, `said`, `left` (files), `signal` and `hung`."""
    import subprocess

    from helpers.running import HOME

    done = subprocess.run(
        [sys.executable, "-m", "helpers.attempts"],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=HOME / "tests",
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HOME}:{HOME / 'tests'}", "WANDB_MODE": "disabled"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def attempt(words: list[str]) -> dict[str, Any]:
    """One command line as `python train.py` takes it, in an empty folder; all but the training."""
    from hydra.core.global_hydra import GlobalHydra

    from drolt_pl.run import command
    from drolt_pl.run.conf import CONF
    from drolt_pl.run.train import prepared
    from drolt_pl.sweeps.plugins import register

    def check(config: Any, run_dir: Path) -> None:
        run = prepared(config, run_dir)
        for stage in run.module.schedule.trained[:1]:
            next(iter(run.datamodule.epoch_loader(0, stage)))

    GlobalHydra.instance().clear()
    register()
    sys.argv = ["train.py", *words, "hydra.job.name=train"]
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = command.main(_task(check, command.start), CONF)
        left = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))
    return {"code": code, "said": said.getvalue(), "left": left}


def _task(check: Any, start: Any) -> Any:
    def task(config: Any) -> None:
        start(config, check)

    return task


def _forked(words: list[str]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        with open(writing, "w") as answer:
            try:
                result = attempt(words)
            except BaseException as error:
                result = {"code": -1, "said": f"Traceback: {error!r}", "left": []}
            answer.write(json.dumps(result))
        os._exit(0)
    os.close(writing)
    text, hung = b"", False
    while True:
        if not select.select([reading], [], [], SECONDS)[0]:
            hung = True
            break
        chunk = os.read(reading, 65536)
        if not chunk:
            break
        text += chunk
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(text) if text else {"code": None, "said": "", "left": []}
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) and not text else 0
    return {**found, "hung": hung, "signal": number}


if __name__ == "__main__":
    import timm  # noqa: F401 - what every fork would import
    import torch
    from sklearn.datasets import load_digits

    import drolt_pl.run.train
    import drolt_pl.run.validate  # noqa: F401

    load_digits()
    torch.set_num_threads(1)
    for line in json.load(sys.stdin):
        print(json.dumps(_forked(line)), flush=True)
