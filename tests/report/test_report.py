import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.report_samples import comparison, keep, made_up, typed
from rich.console import Console
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.kept import Kept
from drolt_pl.report import keep_run, render_results, show, stage_table
from drolt_pl.results import write_per_class


def printed(results: dict[str, Any]) -> list[str]:
    console = Console(width=120, record=True, file=io.StringIO())
    show(typed(results), "outputs/run", console)
    return console.export_text().splitlines()


def test_stage_table_has_a_row_per_stage_and_the_reported_model() -> None:
    table = stage_table(typed(made_up()))
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns == {
        "Model": ["zero", "rebalance", "reported: rebalance, epoch 42, best val/acc"],
        "All": ["25.0", "50.0", "50.0"],
        "Many": ["75.0"] * 3,
        "Medium": ["50.0"] * 3,
        "Few": ["-"] * 3,
        "Nearest centroid": ["40.0"] * 3,
    }


def test_the_end_of_a_run_is_printed_with_its_folder() -> None:
    lines = printed(made_up(selection={"metric": None, "stage": "rebalance", "epoch": 59}))
    assert lines[-1] == "run folder: outputs/run"
    assert any("reported: rebalance, epoch 60, last" in line for line in lines)
    assert not any("optimistic" in line for line in lines)


def test_selection_on_the_test_set_is_said_aloud() -> None:
    assert any("chosen on the test set" in line for line in printed(made_up(protocol="test_selected")))


# keeping runs


def run_folder(path: Path, results: dict[str, Any], **files: str) -> Path:
    results = {key: value for key, value in results.items() if key != "setting"}
    typed(results).write(path / "results.json")
    write_per_class(path / "per_class.csv", typed(results))
    (path / "metrics.csv").write_text("epoch,stage_name,train/loss\n0,joint,0.123456789\n1,inf,\n")
    (path / "split.json").write_text(json.dumps({"sha256": "f00", "train": list(range(9999)), "n": {"a": [1], "b": 2}}))
    (path / ".hydra").mkdir()
    (path / ".hydra" / "overrides.yaml").write_text("- dataset=image_folder\n")
    dataset = {"root": "/home/me/photos", "profile": "exp", "imbalance_ratio": 50}
    (path / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"dataset": dataset, "x": "${dataset.root}"}))
    choices = {"backbone": "resnet32", "schedule": "cifar", "dataset": "image_folder"}
    (path / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"choices": choices}}}))
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "last.ckpt").write_bytes(b"x" * 300_000)
    return path


def test_compared_classifiers_are_kept(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", made_up())
    (run / "classifiers_joint.json").write_text(comparison(0.25))
    assert keep_run(run, tmp_path / "kept.json") == []
    assert json.loads((tmp_path / "kept.json").read_text())["classifiers"] == {"joint": json.loads(comparison(0.25))}


def test_kept_run_is_small_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "results" / "kept.json"
    assert keep_run(run_folder(tmp_path / "run", made_up()), path) == []
    kept = json.loads(path.read_text())
    assert kept["split"] == {"sha256": "f00", "n": {"b": 2}}
    assert kept["metrics"] == ["epoch,stage_name,train/loss", "0,joint,0.123457", "1,inf,"]
    assert kept["class_names"] == ["0", "1", "2", "3"]
    assert kept["config"] == yaml.safe_load((tmp_path / "run" / ".hydra" / "config.yaml").read_text())
    loaded = Kept.load(path)
    assert loaded.metric_rows()[1] == {"epoch": "1", "stage_name": "inf", "train/loss": ""}
    assert loaded.dump() == path.read_text()
    results = kept["results"]
    assert results["setting"] == {
        "folder": "photos",
        "profile": "exp",
        "imbalance_ratio": 50,
        "backbone": "resnet32",
        "schedule": "cifar",
    }
    del results["setting"]
    assert results == json.loads((tmp_path / "run" / "results.json").read_text())
    assert "\ntoy_lt (photos): exponential profile, ratio 50, protocol holdout, backbone resnet32" in render_results(
        tmp_path / "results"
    )


def test_the_setting_of_a_run_on_features_names_their_file(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", made_up())
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"dataset": {"file": "data/v1.lite0.safetensors"}}))
    choices = {"hydra": {"runtime": {"choices": {"dataset": "features"}}}}
    (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(choices))
    keep_run(run, tmp_path / "kept.json")
    assert json.loads((tmp_path / "kept.json").read_text())["results"]["setting"]["folder"] == "v1.lite0"


def test_a_run_with_very_many_classes_stays_small(tmp_path: Path) -> None:
    num_classes = 8142
    results = made_up(class_counts=list(range(num_classes, 0, -1)), eps=[1 / 3] * num_classes)
    results["test"] |= {"per_class": [1 / 3] * num_classes, "per_class_ncm": [2 / 3] * num_classes}
    left_out = keep_run(run_folder(tmp_path / "run", results), tmp_path / "kept.json")
    assert left_out == ["per-class values"]
    assert (tmp_path / "kept.json").stat().st_size < 200_000
    kept = Kept.load(tmp_path / "kept.json")
    assert kept.results.test.acc == 0.5
    assert kept.results.test.per_class is None
    assert kept.results.eps is None
    assert kept.class_names is None
    assert kept.metrics is not None


def test_a_brief_run_keeps_means_and_the_last_epoch_of_each_stage(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", made_up())
    (run / "metrics.csv").write_text(
        "epoch,stage_name,train/loss\n0,ce_warmup,3\n1,ce_warmup,2\n2,joint,1\n3,joint,0.5\n"
    )
    assert keep_run(run, tmp_path / "brief.json", brief=True) == ["per-class values", "epochs"]
    keep_run(run, tmp_path / "whole.json")
    brief, whole = Kept.load(tmp_path / "brief.json"), Kept.load(tmp_path / "whole.json")
    assert brief.metrics == ["epoch,stage_name,train/loss", "1,ce_warmup,2", "3,joint,0.5"]
    assert brief.results.test.per_class is None
    assert brief.results.test.acc == whole.results.test.acc
    assert brief.config == whole.config


@pytest.mark.parametrize(
    "text", ["", "epoch,loss\n0,1\n", "epoch,stage_name\n0,a\n\n1,a\n", 'epoch,stage_name\n0,"a\nb"\n', "epoch\n\n"]
)
def test_a_brief_run_of_odd_tables_is_kept(tmp_path: Path, text: str) -> None:
    run = run_folder(tmp_path / "run", made_up())
    (run / "metrics.csv").write_text(text)
    keep_run(run, tmp_path / "kept.json", brief=True)
    kept = Kept.load(tmp_path / "kept.json")
    assert not kept.metrics or text.startswith(kept.metrics[0])


def test_only_finished_runs_are_kept_and_none_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^run_dir .* holds no results.json: the run has not finished"):
        keep_run(tmp_path, tmp_path / "kept.json")
    run = run_folder(tmp_path / "run", made_up())
    keep_run(run, tmp_path / "kept.json")
    with pytest.raises(ValueError, match=r"^dest .* holds a kept run already: choose another name$"):
        keep_run(run, tmp_path / "kept.json")


def test_a_runs_own_folder_among_kept_runs_is_refused(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", made_up())
    with pytest.raises(
        ValueError, match=r"results.json is a file of a run's own folder.*; keep the run by `drolt keep"
    ):
        render_results(run.parent)


# the command


def drolt(*arguments: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def test_command_keeps_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        run_folder(tmp_path / f"run{seed}", made_up(seed))
    assert drolt("keep", "run0") == (0, "kept results/toy_lt/dro_lt/seed0.json\n", "")
    assert drolt("keep", "run1", "--as", "digits/other") == (0, "kept results/digits/other.json\n", "")
    Path("README.md").write_text("<!-- digits:begin -->\n<!-- digits:end -->\n")
    files = ["results", "--readme", "README.md"]

    assert drolt(*files, "--check") == (
        1,
        "",
        "error: RESULTS.md is not up to date: run `drolt results` without --check\n",
    )
    assert not Path("RESULTS.md").exists()
    code, out, _ = drolt(*files)
    pages = [f"{folder}.{kind}" for folder in ("digits", "toy_lt") for kind in ("md", "csv")]
    wrote = ["RESULTS.md", "README.md", *(f"docs/results/{name}" for name in ["index.md", *pages])]
    assert (code, out.splitlines()) == (0, [f"wrote {name}" for name in wrote])
    assert all((Path("docs/results") / f"{name}.svg").stat().st_size < 200_000 for name in ("digits", "toy_lt"))
    assert drolt(*files, "--check") == (0, "", "")
    assert drolt(*files) == (0, "", "")

    Path("README.md").write_text(Path("README.md").read_text().replace("50.0", "99.9"))
    assert drolt(*files, "--check")[0] == 1
    assert drolt("results", "--check")[0] == 0
    assert render_results("results") == Path("RESULTS.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results", "--root", "nowhere"], "error: root nowhere holds no kept run: put runs there by"),
        (
            ["results", "--root", "kept", "--readme", "none.md"],
            "error: none.md cannot be read: No such file or directory",
        ),
        (["keep", "nowhere"], "error: nowhere/results.json cannot be read: No such file"),
        (["keep", "nowhere", "--as", "x"], "error: run_dir nowhere holds no results.json"),
        (
            ["keep", "nowhere", "--as", "../x"],
            "error: --as must name a file under results, other than results.json, got '../x'",
        ),
        (
            ["keep", "nowhere", "--as", "/x"],
            "error: --as must name a file under results, other than results.json, got '/x'",
        ),
    ],
)
def test_command_fails_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    keep(tmp_path / "kept", a=made_up())
    code, out, error = drolt(*arguments)
    assert (code, out) == (1, "")
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_command_starts_without_torch() -> None:
    code = "import sys, drolt_pl.cli.app, drolt_pl.report; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
