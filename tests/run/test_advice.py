"""Advice at the start of a run: told where it is worth it, taken by `speed=auto`, the same for a run that goes on."""

import json
from pathlib import Path

import pytest
import torch
from helpers.running import HOME, SHORT, composed

from drolt_pl.errors import SettingError
from drolt_pl.run import advice
from drolt_pl.run.assemble import Run, assemble
from drolt_pl.run.opening import opening
from drolt_pl.run.tree import Tree

CPU = "trainer.accelerator=cpu"


def run_of(folder: Path, *overrides: str) -> Run:
    return assemble(composed(*SHORT, CPU, *overrides), folder, HOME / "conf")


def steps_of(monkeypatch: pytest.MonkeyPatch, plain: float, bf16: float) -> None:
    """Steps take so many seconds."""

    def step_seconds(backbone: object, shape: object, size: int, *, bf16: bool) -> float:
        return times[bf16] * size

    times = {False: plain, True: bf16}
    monkeypatch.setattr(advice, "step_seconds", step_seconds)


def test_a_short_run_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps_of(monkeypatch, 1e-6, 1e-7)
    run = run_of(tmp_path, "speed=auto")
    assert (run.speed.told, run.speed.taken) == ((), {})
    assert run.trainer.precision == "32-true"


def test_what_is_worth_it_is_told_and_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps_of(monkeypatch, 100.0, 50.0)
    told = run_of(tmp_path / "plain")
    assert told.trainer.precision == "32-true"
    assert told.speed.taken is None
    lines = list(opening(told, Tree(told.config), []))
    assert "speed: faster with trainer.precision=bf16-mixed: a step is 2.0 times as fast here" in lines
    assert any(line.startswith("speed: faster with compile=default: may pay in a run of about") for line in lines)
    words = ["loss.eps=2", "+loss.distance=cosine", "~objectives.bcl.weight", "mixing.mixup.alpha=1", "objectives=x"]
    assert [line.partition(" changes")[0] for line in opening(told, Tree(told.config), words) if "nothing" in line] == [
        "warning: objectives.bcl.weight", "warning: mixing.mixup.alpha"]  # fmt: skip
    run = run_of(tmp_path / "auto", "speed=auto")
    assert run.trainer.precision == "bf16-mixed"
    assert run.speed.taken == json.loads((tmp_path / "auto" / "speed.json").read_text())
    assert run.speed.taken == {"trainer.precision": "bf16-mixed"}
    assert "speed: takes trainer.precision=bf16-mixed" in "\n".join(opening(run, Tree(run.config), []))
    # A run that goes on takes the same, whatever is measured then.
    steps_of(monkeypatch, 100.0, 200.0)
    assert run_of(tmp_path / "auto", "speed=auto").trainer.precision == "bf16-mixed"
    assert run_of(tmp_path / "other", "speed=auto").trainer.precision == "32-true"


def test_a_precision_of_the_users_own_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps_of(monkeypatch, 100.0, 50.0)
    run = run_of(tmp_path, "speed=auto", "trainer.precision=64-true")
    assert run.trainer.precision == "64-true"
    assert run.speed.taken == {}


def test_measuring_leaves_everything_as_it_was(tmp_path: Path) -> None:
    backbone = run_of(tmp_path).module.backbone
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    state = torch.get_rng_state()
    for bf16 in (False, True):
        assert advice.step_seconds(backbone, (1, 8, 8), 4, bf16=bf16) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())


@pytest.mark.parametrize(
    "content",
    [
        '{"trainer.profiler": {"_target_": "builtins.print"}}',
        '{"trainer.max_epochs": 1}',
        '{"trainer.precision": "16-true"}',
        '{"dataset.num_workers": -1}',
        '{"dataset.num_workers": "2"}',
        "[]",
        "{",
    ],
)
def test_a_file_from_elsewhere_sets_nothing_else(tmp_path: Path, content: str) -> None:
    (tmp_path / "speed.json").write_text(content)
    with pytest.raises(SettingError, match=r"speed\.json") as refused:
        run_of(tmp_path, "speed=auto")
    assert "\n" not in str(refused.value)
