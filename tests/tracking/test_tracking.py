"""W&B, CSV and TensorBoard: what they hold of a run, read back by their own readers; runs that W&B cannot hold up."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.jobs import forked
from helpers.running import HOME, SHORT
from helpers.servers import KEY, WandbServer, black_hole, refusing

from drolt_pl.tracking.dashboard import LINES, build_workspace

GROUPS = ("many", "medium", "few")
EVERY_EPOCH = {
    *(
        "epoch",
        "images_seen",
        "stage",
        "batch/global",
        "batch/per_rank",
        "train/loss",
        "train/loss_ce",
        "train/acc",
        "val/acc",
        "val/ece",
    ),
    *(f"val/{group}" for group in GROUPS),
    *("lr/backbone", "lr/classifier", "lr/eps", "time/epoch_s", "time/images_per_s", "time/centroid_s"),
}
WITH_CENTROIDS = {
    *("train/loss_robust", "train/loss_prior", "val/acc_ncm", "val/acc_ncm_cosine"),
    *("train/own_mass", "train/grad_ratio", "train/grad_cosine"),
    *(f"val/{group}_ncm" for group in GROUPS),
    *(f"{name}/{group}" for name in ("eps", "drift", "drift_over_eps", "coverage", "inflation") for group in GROUPS),
    *(f"{name}/{group}" for name in ("coverage_held_out", "coverage_held_out_expected") for group in GROUPS),
}
FINAL = {f"final/{part}/{key}" for part in ("val", "test") for key in ("acc", *GROUPS, "acc_ncm", "ece")}


def synced(folder: Path) -> WandbServer:
    """What `wandb sync` reads out of the offline runs below a folder."""
    runs = sorted(folder.rglob("offline-run-*"))
    with WandbServer() as server:
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", "--include-synced", *map(str, runs)],
            cwd=folder,  # it makes a folder wandb there
            env={**os.environ, "WANDB_BASE_URL": server.address, "WANDB_API_KEY": KEY},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    return server


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks with all loggers at once."""
    run_dir = tmp_path_factory.mktemp("tracking") / "run"
    done = forked(
        *("loss.eps_mode=learned", "loss.eps_prior=0.01", *SHORT, "trainer.devices=2", "trainer.strategy=ddp"),
        *("logger=[wandb,csv,tensorboard]", "logger.wandb.mode=offline", "logger.wandb.artifacts=true"),
        f"hydra.run.dir={run_dir}",
    )
    assert done.returncode == 0, done.stderr
    return run_dir


@pytest.fixture(scope="module")
def sent(logged: Path) -> dict[str, Any]:
    """Its runs as W&B receives them, by identifier."""
    return synced(logged).runs


def test_an_offline_run_holds_what_is_promised(logged: Path, sent: dict[str, Any]) -> None:
    assert list(sent) == [(logged / "wandb_id").read_text()], "one run, of rank 0"
    (run,) = sent.values()
    assert run.exit_code == 0
    assert run.config["loss"]["eps_mode"] == "learned"
    assert run.fields["jobType"] == "train"
    assert "loss.eps_mode=learned" in run.fields["displayName"]
    by_epoch: dict[int, dict[str, Any]] = {}
    for row in run.rows.values():
        by_epoch.setdefault(row["epoch"], {}).update(row)
    assert sorted(by_epoch) == list(range(6))
    for epoch, row in by_epoch.items():
        assert row.keys() >= EVERY_EPOCH, f"epoch {epoch}"
    assert by_epoch[3].keys() >= WITH_CENTROIDS | {"eps_by_class"}
    assert run.keys >= FINAL | {"results", "per_class", "confusion_table", "accuracy_by_class_table"}
    assert [by_epoch[epoch]["stage"] for epoch in range(6)] == [0, 0, 1, 1, 2, 2]
    assert run.files >= {"artifact/model", "artifact/split"}


def test_tables_hold_every_stage_and_class(logged: Path) -> None:
    tables = {
        path.name.split("_")[0]: json.loads(path.read_text()) for path in logged.rglob("media/table/*.table.json")
    }
    results = json.loads((logged / "results.json").read_text())
    by_set = {(row[0], row[1]): row for row in tables["results"]["data"]}
    assert by_set["reported", "test"][2] == pytest.approx(results["test"]["acc"])
    assert ("joint, final", "val") in by_set
    per_class = tables["per"]
    assert len(per_class["data"]) == 10
    updates = per_class["columns"].index("updates")
    assert [row[updates] for row in per_class["data"]] == results["eps_updates"]
    confusion = tables["confusion"]["data"]
    correct = sum(count for actual, predicted, count in confusion if actual == predicted)
    assert sum(count for *_, count in confusion) == 500
    assert correct / 500 == pytest.approx(results["test"]["acc_micro"])


def test_csv_and_tensorboard_hold_the_same_keys(logged: Path, sent: dict[str, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = sent.values()
    tables = ("results", "per_class", "confusion_table", "accuracy_by_class_table", "eps_by_class")
    scalars = run.keys - set(tables)
    with (logged / "csv" / "metrics.csv").open() as file:
        assert set(csv.DictReader(file).fieldnames or ()) - {"step"} == scalars
    board: set[str] = set()
    for events in logged.rglob("events.out.tfevents*"):
        board |= set(EventAccumulator(str(events)).Reload().Tags()["scalars"])
    assert board - {"hp_metric"} == scalars


def test_the_dashboard_shows_what_is_logged(sent: dict[str, Any]) -> None:
    (run,) = sent.values()
    plotted = {key for panels in LINES.values() for keys in panels.values() for key in keys}
    assert plotted <= run.keys
    workspace = build_workspace("me", "project", x="images_seen")
    panels = [panel for section in workspace.sections for panel in section.panels]
    in_lines = {key for panel in panels if type(panel).__name__ == "LinePlot" for key in panel.y}
    assert in_lines == plotted
    tables = {panel.table_name for panel in panels if hasattr(panel, "table_name")}
    assert tables
    assert tables <= run.keys
    bars = {metric for panel in panels if type(panel).__name__ == "BarPlot" for metric in panel.metrics}
    assert bars <= run.keys
    config = run.config
    for key in ("loss.eps", "loss.ce_weight", "optimizer.lr"):
        group, name = key.split(".")
        assert name in config[group]
    assert workspace.settings.x_axis == "images_seen"
    sent = workspace._to_model().model_dump_json(by_alias=True)  # what save() sends
    assert all(f"config:{group}.value.{name}" in sent for group, name in (("loss", "eps"), ("optimizer", "lr")))
    with pytest.raises(ValueError, match=r"x must be one of \('epoch', 'images_seen'\), got 'step'"):
        build_workspace("me", "project", x="step")


def test_a_dashboard_without_an_account_ends_in_one_sentence(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_API_KEY"}
    done = subprocess.run(
        [sys.executable, "-m", "drolt_pl", "wandb-dashboard"],
        cwd=tmp_path,
        env={**environment, "HOME": str(tmp_path), "PYTHONPATH": str(HOME)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: W&B: No API key configured")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_same_wandb_run(logged: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(logged, run_dir)
    (run_dir / "results.json").unlink()
    shutil.copyfile(run_dir / "checkpoints" / "joint.ckpt", run_dir / "checkpoints" / "last.ckpt")
    done = forked(f"resume={run_dir}", "trainer.devices=1", "trainer.strategy=auto", "logger=wandb",
                   "logger.wandb.mode=offline")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(run_dir.rglob("offline-run-*"))) == 2
    (run,) = synced(run_dir).runs.values()
    assert {row["epoch"] for row in run.rows.values()} == set(range(6))


@pytest.mark.slow
def test_jobs_are_runs_of_a_group_and_a_failed_one_has_exit_code_1(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    done = forked("-m", *SHORT, "logger=wandb", "logger.wandb.mode=offline", "optimizer.lr=0.01,1000000.0",
                   f"hydra.sweep.dir={sweep}")  # fmt: skip
    assert "1 of 2 jobs failed (1;" in done.stderr
    runs = synced(sweep).runs
    by_name = {run.fields["displayName"]: run for run in runs.values()}
    assert set(by_name) == {"optimizer.lr=0.01", "optimizer.lr=1000000.0"}
    assert [by_name[f"optimizer.lr={lr}"].exit_code for lr in ("0.01", "1000000.0")] == [0, 1]
    assert {run.fields["groupName"] for run in runs.values()} == {f"{tmp_path.name}/sweep"}
    assert runs.keys() == {(sweep / number / "wandb_id").read_text() for number in "01"}


def online(run_dir: Path, address: str, *overrides: str) -> subprocess.Popen[str]:
    """A run that logs to a server."""
    environment = {"WANDB_BASE_URL": address, "WANDB_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(HOME / "train.py"), *SHORT, "logger=wandb", *overrides, f"hydra.run.dir={run_dir}"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("unreachable", [black_hole, refusing])
def test_an_unreachable_server_costs_one_short_wait(unreachable: Any, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with unreachable() as address:
        run = online(run_dir, address, "logger.wandb.init_timeout=2")
        out = run.communicate(timeout=120)[0]
    assert run.returncode == 0, out
    assert f"{address} does not answer" in out
    assert "logging offline, send it later by: wandb sync" in out
    (found,) = synced(run_dir).runs.values()
    assert found.keys >= (EVERY_EPOCH | FINAL) - {"lr/eps"}
    assert found.exit_code == 0


@pytest.mark.slow
def test_a_server_that_falls_silent_holds_a_run_up_no_longer_than_allowed(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with WandbServer() as server:
        run = online(run_dir, server.address, "logger.wandb.init_timeout=2", "logger.wandb.finish_timeout=3")
        assert run.stdout is not None
        for line in run.stdout:
            if "ce_warmup 1/6" in line:
                server.silent.set()
            if "rebalance 6/6" in line:
                break
        trained = time.monotonic()
        out = run.communicate(timeout=120)[0]
    assert run.returncode == 0, out
    assert time.monotonic() - trained < 2 + 3 + 20  # the waits allowed, evaluation, the end of the process
    assert (run_dir / "results.json").exists()
    (run_id,) = server.runs
    assert run_id == (run_dir / "wandb_id").read_text()
