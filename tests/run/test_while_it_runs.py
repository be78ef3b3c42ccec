"""What a run shows: its start, a bar for all stages, plain lines where nobody looks, and how long it will take."""

import io
import os
import pty
import re
import sys
import time
from collections import deque
from pathlib import Path

import pytest
from helpers.running import HOME, SHORT, train_composed

from drolt_pl.learning.schedule import Schedule
from drolt_pl.run.clock import Clock
from drolt_pl.run.durations import spelt
from drolt_pl.run.headway import headway, mark_jobs
from drolt_pl.run.jobs import _pass_on

STAGES = {
    "ce_warmup": {"epochs": 4},
    "joint": {"epochs": 2, "objective": "dro_lt"},
    "rebalance": {"epochs": 3, "trainable": ["classifier"]},
}


def test_the_clock_foresees_stages_that_have_not_begun() -> None:
    seconds = [0.0]
    clock = Clock(Schedule(STAGES), {"ce_warmup": 100, "joint": 300, "rebalance": 100}, lambda: seconds[0])
    clock.begin()
    assert clock.remaining(0, 0.0) is None
    seconds[0] = 2.0
    assert clock.remaining(0, 0.1) is None  # the first steps are slow
    seconds[0] = 20.0
    later = 2 * 3 * 40.0 + 3 * 40.0 / 3  # joint sees three times the images; a frozen backbone costs a third
    assert clock.remaining(0, 0.5) == pytest.approx(20.0 + 3 * 40.0 + later)
    seconds[0] = 40.0
    assert clock.end(0) == 40.0
    assert clock.remaining(0) == pytest.approx(3 * 40.0 + later)
    for epoch, now in ((1, 60.0), (2, 80.0), (3, 100.0)):
        seconds[0] = now
        clock.end(epoch)
    seconds[0] = 300.0
    clock.end(4)
    assert clock.remaining(4) == pytest.approx(200.0 + 3 * (25.0 + 200.0) / 400 * 100 / 3)
    clock.schedule.end(4)
    assert clock.remaining(4) == pytest.approx(3 * (25.0 + 200.0) / 400 * 100 / 3)


def test_durations_are_spelt_as_one_says_them() -> None:
    found = [spelt(seconds) for seconds in (0.42, 41.3, 59.7, 400, 1500, 7500)]
    assert found == ["0.4 s", "41 s", "1 min 0 s", "6 min 40 s", "25 min", "2 h 5 min"]


def said(tmp_path: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> list[str]:
    """The lines of a run that these overrides began, as its folder says."""
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides))
    train_composed(tmp_path, "trainer=cpu", *overrides)
    return capsys.readouterr().out.splitlines()


def test_a_run_begins_with_what_it_is_about_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (*SHORT[1:], "optimizer.lr=1e-4", "schedule.stages.joint.ema=0.999", "schedule.stages.rebalance.patience=3")
    lines = said(tmp_path, capsys, *words, "optimizer.backbone_factor=0.5")
    assert lines[0] == (
        "data: DigitsLT, 287 samples (1x8x8) of 10 classes train (1 many, 3 medium, 6 few), 200 validate, 500 test"
    )
    assert re.fullmatch(
        r"network: SmallConvNet, 23,408 parameters, 64 features; 1 CPU thread, \w+, precision 32-true", lines[1]
    )
    assert lines[2:5] == [
        "stage ce_warmup: 2 epochs; multistep, warm-up of 5, learning rates: backbone 0.05, classifier 0.05",
        "stage joint: 2 epochs; cosine learning rates: backbone 5e-05, classifier 0.0001; weights averaged, ema 0.999",
        "stage rebalance: 2 epochs at most, patience 3 by val/acc; cosine learning rates: classifier 0.01",
    ]
    assert lines[5] == (
        "warning: optimizer.lr=1e-4 reaches joint alone: ce_warmup (0.05) and rebalance (0.01) have rates of their "
        "own, see schedule.scratch.lr and schedule.rebalance.lr"
    )
    assert lines[6].startswith("warning: schedule.stages.joint.ema=0.999 averages over about 1000 steps, and the stage")
    assert re.fullmatch(r"ce_warmup 1/6  train/loss \d.*  val/acc 0\.\d+  [\d.]+ s left", lines[7])
    assert re.fullmatch(r"epoch 1 took [\d.]+ s: training takes about [\d.]+ s more", lines[8])
    assert "measuring rebalance: training set, validation set, test set" in lines


def test_a_rate_that_every_stage_takes_is_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    null = ("schedule.scratch.lr=null", "schedule.rebalance.lr=null")
    assert not [line for line in said(tmp_path, capsys, *SHORT[1:], "optimizer.lr=0.01", *null) if "warning" in line]


def test_a_rate_that_no_stage_takes_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(tmp_path, capsys, "method=ce", "schedule.stages.train.epochs=1", "optimizer.lr=0.3")
    (warning,) = [line for line in lines if line.startswith("warning: optimizer")]
    assert warning == (
        "warning: optimizer.lr=0.3 reaches no stage: train (0.05) has a rate of its own, see schedule.scratch.lr"
    )


def test_a_sweep_says_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DROLT_JOBS", raising=False)
    assert headway(tmp_path / "0") is None
    monkeypatch.setenv("DROLT_JOBS", f"5 {time.time() - 120}")
    assert headway(tmp_path / "0") == "job 1 of 5"
    for number, name in ((0, "results.json"), (1, "failure.json")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / name).touch()
    assert headway(tmp_path / "2") == "job 3 of 5, 3 min 0 s left"
    os.utime(tmp_path / "0" / "results.json", (0, 0))  # before the sweep was started again
    assert headway(tmp_path / "2") == "job 3 of 5, 6 min 0 s left"
    mark_jobs(7)
    assert headway(tmp_path / "2") == "job 3 of 7"


def test_a_jobs_table_is_passed_on_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    table = ["     DigitsLT, ce\n", "┏━━━┓\n", "┃ a ┃\n", "┡━━━┩\n", "│ b │\n", "└───┘\n"]
    written: list[str] = []
    monkeypatch.setattr(sys.stdout, "write", written.append)
    last: deque[str] = deque(maxlen=3)
    _pass_on(io.StringIO("".join(["train 1/1\n", *table, "run folder: x\n", *table[:2]])), last)
    assert written == ["train 1/1\n", "".join([*table, "run folder: x\n"]), "".join(table[:2])]
    assert list(last) == ["run folder: x", "     DigitsLT, ce", "┏━━━┓"]


@pytest.mark.slow
def test_a_terminal_has_a_bar_for_the_run_and_one_for_its_stage(tmp_path: Path) -> None:
    words = [sys.executable, str(HOME / "train.py"), *SHORT, f"hydra.run.dir={tmp_path / 'run'}"]
    process, terminal = pty.fork()
    if process == 0:
        os.execve(words[0], words, {**os.environ, "TERM": "xterm", "COLUMNS": "110", "OMP_NUM_THREADS": "1"})
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"run +━+ epoch 6/6", text)
    assert re.search(r"joint 2/2 +[━╸╺]+ \d+/9 ", text)
    assert re.search(r" val/acc 0\.\d{3} val/acc_ncm 0\.\d{3}", text)
    assert "rebalance: test set" in text
    assert "Testing" not in text
