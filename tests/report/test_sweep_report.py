"""`drolt sweep`: the table, expected best of k and figures of a made-up sweep, also while it runs."""

import csv
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.report.sweep import expected_best, load_sweep, rows
from drolt_pl.report.sweep_plots import sensitivity

EPS, WEIGHTS, RATES = ("1", "5", "70"), ("0", "0.5", "1"), ("0.001", "0.01")


def accuracy(eps: float, weight: float, rate: float, seed: int) -> float:
    """A made-up landscape with its best at eps 5, ce_weight 0.5, lr 0.01."""
    return 0.5 + 0.2 * (eps == 5) + 0.1 * (weight == 0.5) + 0.05 * (rate == 0.01) + 0.01 * seed


def made_up_sweep(folder: Path, **changes: Any) -> Path:
    """A grid as our sweeper leaves it: eps is left out at ce_weight 1; job 3 failed, 4 was cut short, 5 is missing."""
    cells = itertools.product(RATES, WEIGHTS, EPS, (0, 1))
    jobs: dict[tuple[str, ...], tuple[float, int]] = {}
    for rate, weight, eps, seed in cells:
        typed = [f"loss.ce_weight={weight}", f"loss.eps={eps}", f"optimizer.lr={rate}", f"seed={seed}", "sweep=x"]
        radius = float(eps)
        if weight == "1":
            typed, radius = [value for value in typed if "eps" not in value], 0.0
        jobs.setdefault(tuple(typed), (accuracy(radius, float(weight), float(rate), seed), seed))
    (folder / "jobs.json").parent.mkdir(parents=True)
    (folder / "jobs.json").write_text(json.dumps({str(i): list(job) for i, job in enumerate(jobs)}))
    for number, (typed_, (acc, seed)) in enumerate(jobs.items()):
        run = folder / str(number)
        if number == 5:
            continue
        (run / ".hydra").mkdir(parents=True)
        (run / ".hydra" / "overrides.yaml").write_text(json.dumps([*typed_, "init_from='/x/0:ce_warmup'"]))
        if number == 3:
            failure = {"overrides": list(typed_), "exit_code": 1, "last_lines": ["a", "NonFiniteLossError: train/loss"]}
            (run / "failure.json").write_text(json.dumps(failure))
        if number in (3, 4):
            continue
        results = {
            "schema": 1, "dataset": "toy", "method": "dro_lt", "protocol": "holdout", "seed": seed,
            "val": {"acc": acc}, "test": {"acc": acc - 0.1, "many": acc, "medium": None, "few": 0.1, "acc_ncm": 0.4},
            "selection": {"metric": "val/acc", "epoch": 3}, "timing": {"train_s": 10.0}, **changes,
        }  # fmt: skip
        (run / "results.json").write_text(json.dumps(results))
    return folder


def test_the_table_ranks_by_validation_and_averages_over_seeds(tmp_path: Path) -> None:
    sweep = load_sweep(made_up_sweep(tmp_path / "sweep"))
    assert sweep.keys == ["loss.ce_weight", "loss.eps", "optimizer.lr"]
    assert len(sweep.settings) == 2 * (2 * 3 + 1)
    assert sweep.progress == "28 jobs: 25 finished, 1 failed, 1 unfinished, 1 missing"
    table = rows(sweep)
    assert table[0]["loss.eps"], table[0]["loss.ce_weight"] == ("5", "0.5")
    values = [100 * accuracy(5, 0.5, 0.01, seed) for seed in (0, 1)]
    assert table[0]["val acc"] == f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"
    assert table[0]["test medium"] == "-"
    assert [row["n"] for row in table].count("1, 1 failed") == 1
    assert table[-1]["n"] == "0, 1 unfinished, 1 missing"
    assert [row["loss.eps"] for row in table if row["loss.ce_weight"] == "1"] == ["-", "-"]


def test_expected_best_of_k_is_the_mean_over_all_draws(tmp_path: Path) -> None:
    sweep = load_sweep(made_up_sweep(tmp_path / "sweep"))
    means = [value for setting in sweep.settings if (value := setting.mean("val", "acc")) is not None]
    curve = expected_best(sweep)[""]
    assert len(curve) == len(means) == 13
    for k in (1, 2, 3):
        best = statistics.fmean(max(draw) for draw in itertools.product(means, repeat=k))
        assert curve[k - 1] == pytest.approx((best, best - 0.1))


def test_expected_best_is_one_curve_a_label(tmp_path: Path) -> None:
    sweep_dir = made_up_sweep(tmp_path / "sweep")
    for path in sweep_dir.glob("*/.hydra/overrides.yaml"):
        overrides = json.loads(path.read_text())
        path.write_text(json.dumps([*overrides, f"name={'a' if 'loss.eps=5' in overrides else 'b'}"]))
    curves = expected_best(load_sweep(sweep_dir))
    assert [(name, len(curve)) for name, curve in curves.items()] == [("a", 4), ("b", 9)]


def test_the_command_writes_page_tables_and_figures(tmp_path: Path) -> None:
    sweep_dir = made_up_sweep(tmp_path / "sweep")
    done = CliRunner().invoke(app, ["sweep", str(sweep_dir), "--top", "3"])
    assert done.exit_code == 0, done.output
    report = sweep_dir / "report"
    page = (report / "sweep.md").read_text()
    assert "exit code 1: `NonFiniteLossError: train/loss`" in page
    for name in ("heatmap.png", "sensitivity.png", "expected_best.png"):
        assert imread(report / name).std() > 0.05
        assert f"({name})" in page
    jobs = list(csv.DictReader((report / "jobs.csv").read_text().splitlines()))
    assert len(jobs) == 28
    assert [job["state"] for job in jobs[3:6]] == ["failed", "unfinished", "missing"]
    assert float(jobs[0]["val_acc"]) == pytest.approx(0.5)
    best = list(csv.DictReader((report / "expected_best.csv").read_text().splitlines()))
    assert [int(row["k"]) for row in best] == list(range(1, 14))
    first = {path.name: path.read_bytes() for path in report.iterdir()}
    assert CliRunner().invoke(app, ["sweep", str(sweep_dir)]).exit_code == 0
    assert {path.name: path.read_bytes() for path in report.iterdir()} == first


def test_sensitivity_is_one_point_a_value_also_where_the_best_setting_lacks_a_key(tmp_path: Path) -> None:
    sweep_dir = made_up_sweep(tmp_path / "sweep")
    for path in sweep_dir.glob("*/results.json"):
        if "loss.ce_weight=1" in (path.parent / ".hydra" / "overrides.yaml").read_text():
            results = json.loads(path.read_text())
            path.write_text(json.dumps({**results, "val": {"acc": 0.99}}))
    sweep = load_sweep(sweep_dir)
    assert "loss.eps" not in sweep.settings[0].values
    figure = sensitivity(sweep)
    assert figure is not None
    drawn = {axis.get_xlabel(): axis.lines[0].get_xdata().tolist() for axis in figure.axes}
    assert drawn == {"loss.ce_weight": [0, 0.5, 1], "loss.eps": [1, 5, 70], "optimizer.lr": [0.001, 0.01]}


def test_the_page_names_the_command(tmp_path: Path) -> None:
    sweep_dir = made_up_sweep(tmp_path / "sweep")
    typed = {
        "task": ["sweep=x", "seed=0,1"],
        "hydra": ["hydra/launcher=ray", "hydra.sweep.dir=/x", "hydra.mode=MULTIRUN"],
    }
    (sweep_dir / "multirun.yaml").write_text(json.dumps({"hydra": {"overrides": typed}}))
    assert load_sweep(sweep_dir).command == "python train.py -m sweep=x seed=0,1 hydra/launcher=ray"


def test_a_sweep_that_has_just_begun_has_a_table(tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(json.dumps({"0": ["loss.eps=1"], "1": ["loss.eps=2"]}))
    done = CliRunner().invoke(app, ["sweep", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "2 jobs: 2 missing" in done.output


def test_runs_without_validation_are_not_ranked(tmp_path: Path) -> None:
    sweep = load_sweep(made_up_sweep(tmp_path / "sweep", val=None, selection={"metric": None}))
    assert {row["val acc"] for row in rows(sweep)} == {"-"}
    assert expected_best(sweep) == {}


def test_runs_that_selected_by_the_nearest_centroid_are_ranked_by_it(tmp_path: Path) -> None:
    changes = {"val": {"acc": 0.1, "acc_ncm": 0.6}, "selection": {"metric": "val/acc_ncm"}}
    assert load_sweep(made_up_sweep(tmp_path / "sweep", **changes)).metric == "acc_ncm"


def test_another_folder_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["sweep", str(tmp_path)])
    assert done.exit_code == 1
    assert "is not the folder of a sweep" in done.output
