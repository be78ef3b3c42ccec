"""Signals end a run after its step, in one line and with their own code; what is resumed ends as the whole run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.faults import default_signals, kill_override, require_same
from helpers.running import HOME, SHORT, train_here
from helpers.tiny_app import TinyApp, ends, wait_for

from drolt_pl.run.signals import Stopped

CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGINT: 130}
STAGES = ("ce_warmup", "joint", "rebalance")
MOMENTS = {  # by the hook: the epochs that are saved then, counted from the stage's first
    "on_train_batch_end": 1,
    "on_train_epoch_start": 1,
    "on_validation_batch_end": 2,
    "on_train_epoch_end": 2,
}
CASES = [
    *((number, "joint", "on_train_batch_end") for number in CODES),
    *((signal.SIGTERM, stage, moment) for stage in STAGES for moment in MOMENTS if stage != "joint"),
    (signal.SIGUSR1, "joint", "on_validation_batch_end"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    train_here(run_dir)
    return run_dir


@pytest.mark.parametrize(("number", "stage", "moment"), CASES)
def test_a_run_stops_at_the_next_step_or_epoch(
    number: signal.Signals, stage: str, moment: str, tmp_path: Path, whole: Path
) -> None:
    run_dir = tmp_path / "run"
    with default_signals():
        before = signal.getsignal(number)
        with pytest.raises(Stopped) as stopped:
            train_here(run_dir, kill_override(number, stage, moment))
        assert signal.getsignal(number) == before
    saved = STAGES.index(stage) * 2 + MOMENTS[moment]
    assert stopped.value.code == CODES[number]
    said = f"stopped by {number.name} after {saved} of 6 epochs; go on with: drolt train resume={run_dir}"
    assert stopped.value.sentence == said
    train_here(run_dir, f"resume={run_dir}")
    require_same(run_dir, whole)


def test_a_signal_during_the_test_ends_it_at_once(tmp_path: Path, whole: Path) -> None:
    run_dir = tmp_path / "run"
    with default_signals(), pytest.raises(Stopped) as stopped:
        train_here(run_dir, kill_override(signal.SIGTERM, "ce_warmup", "on_test_batch_end"))
    assert "after 6 of 6 epochs" in stopped.value.sentence
    assert not (run_dir / "results.json").exists()
    train_here(run_dir, f"resume={run_dir}")
    require_same(run_dir, whole)


def test_whoever_has_a_handler_keeps_it(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        train_here(tmp_path / "run", kill_override(signal.SIGTERM, "joint", "on_train_batch_end"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


# ---- commands ----


class Started:
    """`python train.py`, once it has come to an epoch."""

    def __init__(self, run_dir: Path, *overrides: str, after: str = "ce_warmup 2/") -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME / "tests")}
        long = ("schedule.stages.ce_warmup.epochs=200", f"hydra.run.dir={run_dir}", *overrides)
        self.process = subprocess.Popen(
            [sys.executable, str(HOME / "train.py"), *SHORT, *long],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdout is not None
        assert any(after in line for line in self.process.stdout), self.process.communicate()[1]

    def ranks(self) -> list[int]:
        """The processes that it has started."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        return [int(number) for number in found]

    def ended(self, seconds: float = 30) -> tuple[int, str]:
        """Its code and what it said, once it and all it has started are gone, in time."""
        end = time.monotonic() + seconds
        _, said = self.process.communicate(timeout=seconds)
        group = ["pgrep", "-g", str(self.process.pid)]
        while subprocess.run(group, capture_output=True).stdout and time.monotonic() < end:
            time.sleep(0.1)
        assert not subprocess.run(group, capture_output=True).stdout
        return self.process.returncode, said


def test_the_command_says_how_to_go_on(tmp_path: Path) -> None:
    started = Started(tmp_path / "run")
    started.process.send_signal(signal.SIGTERM)
    code, said = started.ended()
    assert code == 143
    assert said.count("\n") == 1
    assert said.startswith("stopped by SIGTERM after ")
    assert said.endswith(f"go on with: python {HOME / 'train.py'} resume={tmp_path / 'run'}\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_the_code_is_the_signals(number: signal.Signals, tmp_path: Path) -> None:
    started = Started(tmp_path / "run")
    started.process.send_signal(number)
    code, said = started.ended()
    assert (code, said.count("\n")) == (CODES[number], 1)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    started = Started(tmp_path / "run")
    for _ in range(2):
        started.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    begun = time.monotonic()
    assert started.ended()[0] == 130
    assert time.monotonic() - begun < 5


DDP = ("trainer.devices=2", "trainer.strategy=ddp")


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("told", ["first", "second", "both"])
def test_ranks_hear_of_it_from_each_other(told: str, number: signal.Signals, tmp_path: Path) -> None:
    started = Started(tmp_path / "run", *DDP)
    (second,) = started.ranks()
    if told == "both":
        os.killpg(started.process.pid, number)
    else:
        os.kill(started.process.pid if told == "first" else second, number)
    code, said = started.ended()
    assert code == CODES[number]
    assert said.count(f"stopped by {number.name}") == 1
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["first", "second"])
def test_a_rank_that_dies_takes_the_others_with_it(dies: str, tmp_path: Path) -> None:
    started = Started(tmp_path / "run", *DDP)
    (second,) = started.ranks()
    os.kill(started.process.pid if dies == "first" else second, signal.SIGKILL)
    code, said = started.ended()
    assert "Traceback" not in said
    if dies == "second":
        assert code == 1
        assert "rank 1 of this run ended with exit code -9, see above for what it said; go on with: python" in said


@pytest.mark.slow
@pytest.mark.parametrize("told", ["job", "sweep"])
def test_a_sweep_stops_with_its_job(told: str, tmp_path: Path) -> None:
    app = TinyApp(tmp_path)
    sweep = app.start("optimizer.lr=0.1,0.9", "sleeps_above=0.05")
    job = int(wait_for(app.sweep / "0" / "log.txt").split()[0])
    os.kill(job if told == "job" else sweep.pid, signal.SIGTERM)
    _, said = sweep.communicate(timeout=60)
    assert sweep.returncode == 143
    assert f"the sweep was stopped by SIGTERM; the same command with hydra.sweep.dir={app.sweep} goes on" in said
    assert ends(job)
    assert not (app.sweep / "1").exists()
    assert not (app.sweep / "0" / "failure.json").exists()
