"""Sweeps: which jobs there are, that each ends as it should whatever happens to the others or to the sweep."""

import json
import math
import random
import re
import signal
from pathlib import Path

import pytest
from helpers.running import HOME, composed
from helpers.tiny_app import TinyApp, ends, wait_for
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext
from hydra.utils import instantiate
from omegaconf import OmegaConf

from drolt_pl.errors import SettingError
from drolt_pl.learning.schedule import Schedule
from drolt_pl.sweeps import joblist


@pytest.fixture
def app(tmp_path: Path) -> TinyApp:
    return TinyApp(tmp_path)


def test_a_grid_runs_each_distinct_job_once(app: TinyApp) -> None:
    app("loss.ce_weight=0.5,1", "loss.eps=1,2,5", "seed=3")
    assert app.jobs() == [
        *(["loss.ce_weight=0.5", f"loss.eps={eps}", "seed=3"] for eps in (1, 2, 5)),
        ["loss.ce_weight=1", "seed=3"],
    ]
    assert app.folders() == {"0", "1", "2", "3"}
    assert all(app.log(number) == [["ce_warmup", "joint", "rebalance"]] for number in range(4))


def test_a_failed_job_is_recorded_and_the_others_go_on(app: TinyApp) -> None:
    jobs = ("optimizer.lr=0.9,0.2", "fails_above=0.5")
    assert "1 of 2 jobs failed (0;" in app(*jobs, code=1)
    failure = json.loads((app.sweep / "0" / "failure.json").read_text())
    assert failure["overrides"] == ["optimizer.lr=0.9", "fails_above=0.5"]
    assert failure["exit_code"] == 1
    assert failure["last_lines"][-2] == "RuntimeError: diverged"
    assert len(failure["last_lines"]) <= 20
    assert app.results(1)["objective"] == pytest.approx(0.9)
    # Started again: the failed job is tried again, the other one is not.
    app(*jobs, code=1)
    assert [line[-1] for line in app.log(0)] == ["rebalance", "resumed"]
    assert len(app.log(1)) == 1


def test_a_wrong_job_fails_with_its_sentence(app: TinyApp) -> None:
    assert app("loss.epps=1,2", code=1).splitlines()[-1].startswith("error: loss.epps is not a key")
    assert not app.folders()
    out = app("init_from=nowhere", "resume=x", "optimizer.lr=1", code=1)
    assert "resume" in out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("loss.eps=range(3,3)", "must have a value at least"),
        ("loss.eps=interval(2,1)", "the smaller one first"),
        ("loss.eps=interval(0,inf)", "of finite numbers"),
        ("loss.eps=tag(log,interval(0,1))", "must begin above 0 with the tag log"),
    ],
)
def test_values_that_are_none_are_refused(word: str, said: str) -> None:
    with pytest.raises(SettingError, match=rf"^{re.escape(word)} .*{said}"):
        joblist.parse([word])


def test_other_overrides_than_those_that_began_a_job_are_refused(app: TinyApp) -> None:
    app("seed=0")
    out = app("seed=1,2", code=1)
    assert "holds a job with other overrides (seed=0, seed=1 differ)" in out
    app("seed=0,1")
    assert [len(app.log(number)) for number in range(2)] == [1, 1]


def test_a_sweep_goes_on_whose_keys_refer_to_each_other(app: TinyApp) -> None:
    app("seed=1,2", "optimizer.lr=${seed}")
    assert "finished before" in app("seed=1,2", "optimizer.lr=${seed}")
    assert "seed=3" in app("seed=3,2", "optimizer.lr=${seed}", code=1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_a_sweep_and_it_goes_on_where_it_was(number: signal.Signals, app: TinyApp) -> None:
    arguments = ("optimizer.lr=0.2,0.9", "sleeps_above=0.5", "children=true")
    sweep = app.start(*arguments)
    child = int(wait_for(app.sweep / "1" / "child"))
    job = int(wait_for(app.sweep / "1" / "log.txt").split()[0])
    sweep.send_signal(number)
    sweep.communicate(timeout=30)
    assert sweep.returncode == (130 if number == signal.SIGINT else -number)
    assert ends(job)
    assert ends(child)
    assert not (app.sweep / "1" / "failure.json").exists()
    app(*arguments)
    assert len(app.log(0)) == 1
    assert [line[-1] for line in app.log(1)] == ["rebalance", "resumed"]
    assert ends(int((app.sweep / "1" / "child").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("launcher", ["ray", "submitit_local"])
def test_nothing_outlives_a_sweep_by_another_launcher(launcher: str, number: signal.Signals, app: TinyApp) -> None:
    cluster = ["hydra.launcher.init.num_cpus=2"] if launcher == "ray" else []
    sweep = app.start(
        f"hydra/launcher={launcher}", *cluster, "optimizer.lr=0.8,0.9", "sleeps_above=0.5", "children=true"
    )
    started = [int(wait_for(app.sweep / job / "child")) for job in "01"]
    started += [int(wait_for(app.sweep / job / "log.txt").split()[0]) for job in "01"]
    sweep.send_signal(number)
    sweep.communicate(timeout=60)
    assert all(ends(process) for process in started)


def test_a_shared_stage_is_trained_once(app: TinyApp) -> None:
    app("sweep=paper_grid", "loss.eps=1", "loss.ce_weight=0.5,1", "loss.eps_mode=zero", "optimizer.lr=0.1", "seed=0,1")
    assert [job[-1] for job in app.jobs()] == ["seed=0", "seed=1"] * 2
    assert [app.log(number)[0][0] for number in range(4)] == ["ce_warmup", "ce_warmup", "joint", "joint"]


def test_the_next_job_trains_a_stage_that_the_first_could_not(app: TinyApp) -> None:
    shared = "hydra.sweeper.warmup={stage: ce_warmup, shared_over: [optimizer.lr, seed]}"
    app("optimizer.lr=0.9,0.2", "seed=0,1", "fails_above=0.5", shared, code=1)
    assert [app.log(number) for number in (2, 3)] == [[["ce_warmup", "joint", "rebalance"]], [["joint", "rebalance"]]]


def test_a_stage_with_the_swept_rate_is_not_shared_over_it(app: TinyApp) -> None:
    app("sweep=paper_grid", "loss.eps=1", "loss.ce_weight=0.5", "loss.eps_mode=shared", "optimizer.lr=0.1,0.2",
        "schedule.stages.ce_warmup.lr=null")  # fmt: skip
    assert [app.log(number)[0][0] for number in (0, 1)] == ["ce_warmup", "ce_warmup"]


STUDY = ("sweep=optuna", "optimizer.lr=interval(0,1)", "fails_above=0.7", "hydra.sweeper.n_trials=4")


def test_a_study_survives_a_diverged_trial_and_goes_on_where_it_was(app: TinyApp, tmp_path: Path) -> None:
    out = app(*STUDY)
    failed = {number for number in range(4) if (app.sweep / str(number) / "failure.json").exists()}
    assert 0 < len(failed) < 4
    assert f"{4 - len(failed)} of 4 trials finished; best" in out
    best = max(app.results(number)["objective"] for number in set(range(4)) - failed)
    assert f"best {best:.4f}" in out
    # A study that was killed in its second trial tries the same configurations.
    killed = TinyApp(tmp_path / "killed")
    study = killed.start(*STUDY, "sleeps_above=0.4")
    wait_for(killed.sweep / "1" / "log.txt")
    study.kill()
    study.communicate()
    killed(*STUDY, "sleeps_above=0.4")
    assert [job[:3] for job in killed.jobs()] == [job[:3] for job in app.jobs()]
    assert len(killed.log(1)) == 2


def test_a_published_protocol_is_not_tuned(app: TinyApp) -> None:
    assert "protocol=published has no validation" in app(*STUDY, "protocol=published", code=1)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_other_launchers_run_the_same_jobs(launcher: str, app: TinyApp) -> None:
    cluster = ["hydra.launcher.init.num_cpus=2"] if launcher == "ray" else []
    jobs = ("sweep=paper_grid", "loss.eps=1,2", "loss.ce_weight=0.5", "loss.eps_mode=shared", "optimizer.lr=0.2,0.9")
    app(f"hydra/launcher={launcher}", *cluster, *jobs, "fails_above=0.5", code=1)
    assert app.folders() == {"0", "1", "2", "3"}
    assert [app.log(number)[0][0] for number in range(4)] == ["ce_warmup", "joint", "joint", "joint"]
    assert [(app.sweep / str(number) / "failure.json").exists() for number in range(4)] == [False, True] * 2


def test_a_package_that_is_missing_is_named(app: TinyApp) -> None:
    for package in ("ray", "optuna", "hydra_plugins/hydra_submitit_launcher"):
        shadow = app.folder / f"{package}.py"
        shadow.parent.mkdir(exist_ok=True)
        shadow.write_text("raise ModuleNotFoundError('not here')")
    assert "pip install 'drolt-pl[ray]'" in app("hydra/launcher=ray", "seed=0", code=1)
    assert "pip install 'drolt-pl[optuna]'" in app(*STUDY, code=1)


# ---- what the shipped sweeps consist of ----


def shipped(name: str, *typed: str) -> list[list[str]]:
    """The jobs of `sweep=NAME`."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(HOME / "conf"), version_base="1.3"):
        config = compose("config", [f"sweep={name}"], return_hydra_config=True)
        sweeper = instantiate(config.hydra.sweeper)
        sweeper.config = config
        sweeper.hydra_context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        return [list(job.values()) for job in sweeper.jobs(sweeper.space(typed))]


def test_the_paper_grid_has_147_jobs() -> None:
    jobs = shipped("paper_grid")
    assert len(jobs) == len({frozenset(job) for job in jobs}) == 147
    assert sum("loss.ce_weight=1" in job for job in jobs) == 3
    assert len(shipped("grid", "loss.eps=1,2,5,10,30,70", "loss.ce_weight=0,0.3,0.5,0.7,1", "optimizer.lr=1,2,3")) == 75


def test_eps_runs_each_distinct_radius() -> None:
    assert len(shipped("eps")) == 3 * 6 + 2


def test_table4_is_representation_by_classifier() -> None:
    jobs = shipped("table4")
    names = [job[-1] for job in jobs]
    assert names == [f"name={a}-{b}" for a in ("ce", "rs", "dro_lt") for b in ("ce", "crt", "lws")]
    for job in jobs:
        assert Schedule(OmegaConf.to_container(composed(*job).schedule.stages, resolve=True)).epochs


METHODS = sorted(path.stem for path in (HOME / "conf" / "method").glob("*.yaml"))
FIRST_RATE = "schedule.scratch.lr"
# What sweep=fair draws: lowest and highest value, the law, and the labels that have the key.
FAIR = {
    FIRST_RATE: (5e-3, 5e-1, "log", {*METHODS, "no_eps"}),
    "optimizer.weight_decay": (1e-5, 1e-2, "log", {*METHODS, "no_eps"}),
    "optimizer.lr": (1e-4, 1e-1, "log", {"dro_lt", "no_eps"}),
    "loss.ce_weight": (0, 0.9, "uniform", {"dro_lt", "no_eps"}),
    "loss.eps": (1, 70, "log", {"dro_lt"}),
    "criterion.tau": (0.25, 2, "uniform", {"logit_adjustment"}),
}


def drawn(key: str, number: int) -> str:
    low, high, law, _ = FAIR[key]
    generator = random.Random(f"0 {number} {key}")
    value = math.exp(generator.uniform(math.log(low), math.log(high))) if law == "log" else generator.uniform(low, high)
    return f"{key}={value:.4g}"


def test_fair_gives_every_method_the_same_budget() -> None:
    """The jobs, spelt out: eight for each file of conf/method, and for DRO-LT without radii."""
    expected = []
    for label in [*METHODS, "no_eps"]:
        method = ["method=dro_lt", "loss.eps_mode=zero"] if label == "no_eps" else [f"method={label}"]
        keys = [key for key, (*_, labels) in FAIR.items() if label in labels]
        expected += [[*(drawn(key, number) for key in keys), *method, f"name={label}"] for number in range(8)]
    jobs = shipped("fair")
    assert sorted(jobs) == sorted(expected)
    of_each_kind = {frozenset(word.split("=")[0] for word in job): job for job in jobs}
    assert len(of_each_kind) == 4
    for job in of_each_kind.values():
        assert f"method={composed(*job).method_name}" in job


def test_a_typed_key_reaches_only_methods_that_have_it() -> None:
    jobs = shipped("fair", "loss.eps=3", "seed=7")
    assert all("seed=7" in job for job in jobs)
    assert {job[-1] for job in jobs if "loss.eps=3" in job} == {"name=dro_lt"}
    assert not any(text.startswith("loss.eps=") and text != "loss.eps=3" for job in jobs for text in job)


def test_what_a_method_tunes_is_in_its_configuration() -> None:
    for method in METHODS:
        config = composed(f"method={method}")
        assert all(OmegaConf.select(config, key) is not None for key in config.tuned)
        # A method with a stage that leaves its rate to optimizer.lr, or with the robust loss, tunes them.
        stages = [stage for stage in config.schedule.stages.values() if stage.epochs]
        assert any(stage.lr is None for stage in stages) == ("optimizer.lr" in config.tuned), method
        robust = any(stage.get("objective", "ce") == "dro_lt" for stage in stages)
        assert robust == any(key.startswith("loss.") for key in config.tuned), method


@pytest.mark.parametrize("name", sorted(path.stem for path in (HOME / "conf" / "sweep").glob("*.yaml")))
def test_a_sweep_sets_nothing_but_its_jobs(name: str) -> None:
    assert composed(f"sweep={name}") == composed("~sweep")
