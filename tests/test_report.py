import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.report import (
    keep_run,
    load_results,
    render_readme,
    render_results,
    show,
    stage_table,
    write_per_class,
    write_results,
)

COUNTS = [500, 120, 50, 5]


def made_up(seed: int = 0, acc: float = 0.5, **changes: Any) -> dict[str, Any]:
    """A run's results with round numbers."""
    test = {"acc": acc, "acc_micro": acc, "many": 0.75, "medium": 0.5, "few": None, "acc_ncm": 0.4, "ece": 0.125}
    return {
        "schema": 1,
        "name": None,
        "dataset": "toy_lt",
        "method": "dro_lt",
        "protocol": "holdout",
        "seed": seed,
        "split_seed": 0,
        "class_counts": COUNTS,
        "num_parameters": 470004,
        "images_seen": 1234567,
        "selection": {"metric": "val/acc", "stage": "rebalance", "epoch": 41, "n_candidates": 10},
        "stages": {
            "zero": {"val": None, "test": {**test, "acc": 0.25}, "train": {"acc": 0.9987}},
            "rebalance": {"val": None, "test": test},
        },
        "test": {**test, "per_class": [1.0, 0.5, 0.5, None], "per_class_ncm": [0.9, 0.4, 0.3, 0.0]},
        "eps": [0.1, 0.2, 0.3, 0.4],
        "timing": {"train_s": 600.0 + seed, "centroid_s": 1.0, "images_per_s": 1.0},
        "versions": {"python": "3.11.9", "torch": "2.15.0"},
        "git": "abc1234",
        "hardware": "2 CPU threads, x86_64",
        "command": f"python train.py dataset=toy_lt seed={seed}",
        "overrides": ["dataset=toy_lt", f"seed={seed}"],
        "setting": {"profile": "exp", "imbalance_ratio": 100, "backbone": "resnet32", "schedule": "cifar"},
        **changes,
    }


def keep(root: Path, **runs: dict[str, Any]) -> Path:
    for name, results in runs.items():
        write_results(root / name / "results.json", results)
    return root


def variant(override: str, seed: int = 0, acc: float = 0.5, **changes: Any) -> dict[str, Any]:
    overrides = ["dataset=toy_lt", override, f"seed={seed}"]
    return made_up(
        seed, acc, **{"overrides": overrides, "command": " ".join(["python train.py", *overrides])} | changes
    )


def table_rows(page: str) -> list[list[str]]:
    lines = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


# results.json


def test_results_round_trip_as_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(path, made_up(extra=torch.tensor([1.0, math.nan]), more=np.float32(0.5), bad=math.inf, many=(1, 2)))
    loaded = load_results(path)
    assert loaded["extra"] == [1.0, None]  # an unknown key is kept
    assert (loaded["more"], loaded["bad"], loaded["many"]) == (0.5, None, [1, 2])
    assert list(loaded) == sorted(loaded)
    assert list(loaded["stages"]) == ["zero", "rebalance"]  # in time, not in the alphabet
    assert "NaN" not in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, made_up(seed=1))
    with pytest.raises(TypeError):
        write_results(path, made_up(seed=2, bad=object()))
    assert load_results(path)["seed"] == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"results.json cannot be read: No such file or directory$"),
        ("{", r"results.json is not JSON: "),
        ("[]", r"results.json must have schema 1, got None$"),
        ('{"schema": 2}', r"results.json must have schema 1, got 2$"),
        ('{"schema": 1, "dataset": "x", "test": {}}', r"results.json lacks method, protocol, seed$"),
    ],
)
def test_what_is_no_results_file_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_results(tmp_path / "results.json")


def test_results_of_another_schema_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^schema must be 1, got 2$"):
        write_results(tmp_path / "results.json", made_up(schema=2))


# per_class.csv and the table at the end


def test_per_class_has_a_row_per_class(tmp_path: Path) -> None:
    write_per_class(tmp_path / "per_class.csv", made_up(), ["cat", "dog, small", "fox", "owl"])
    with (tmp_path / "per_class.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["class", "name", "train_images", "group", "acc", "acc_ncm", "eps"],
        ["0", "cat", "500", "many", "1.0", "0.9", "0.1"],
        ["1", "dog, small", "120", "many", "0.5", "0.4", "0.2"],
        ["2", "fox", "50", "medium", "0.5", "0.3", "0.3"],
        ["3", "owl", "5", "few", "", "0.0", "0.4"],
    ]


def test_per_class_uses_the_runs_groups_and_does_without_the_rest(tmp_path: Path) -> None:
    results = made_up(eps=None, test={"acc": 0.5}, groups={"many": 200, "few": 60})
    write_per_class(tmp_path / "per_class.csv", results)
    lines = (tmp_path / "per_class.csv").read_text().splitlines()
    assert lines[1:] == ["0,0,500,many,,,", "1,1,120,medium,,,", "2,2,50,few,,,", "3,3,5,few,,,"]


def printed(results: dict[str, Any]) -> list[str]:
    console = Console(width=120, record=True, file=io.StringIO())
    show(results, "outputs/run", console)
    return console.export_text().splitlines()


def test_stage_table_has_a_row_per_stage_and_the_reported_model() -> None:
    table = stage_table(made_up())
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns == {
        "Model": ["zero", "rebalance", "reported: rebalance, epoch 41, best val/acc"],
        "All": ["25.0", "50.0", "50.0"],
        "Many": ["75.0"] * 3,
        "Medium": ["50.0"] * 3,
        "Few": ["-"] * 3,
        "Nearest centroid": ["40.0"] * 3,
    }


def test_the_end_of_a_run_is_printed_with_its_folder() -> None:
    lines = printed(made_up(selection={"metric": None, "stage": "rebalance", "epoch": 59}))
    assert lines[-1] == "run folder: outputs/run"
    assert any("reported: rebalance, epoch 59, last" in line for line in lines)
    assert not any("optimistic" in line for line in lines)


def test_selection_on_the_test_set_is_said_aloud() -> None:
    assert any("chosen on the test set" in line for line in printed(made_up(protocol="test_selected")))


# RESULTS.md

GOLDEN = """\
<!-- Generated by `drolt results` from the results.json files under results/. Do not edit: change the runs. -->
# Results

Test accuracy in percent, mean over classes: all, and those with many, medium and few training images. NCM is the
accuracy of the nearest class centroid, ECE the expected calibration error (15 bins, percent). Mean ± sample standard
deviation over n runs that differ only in their seeds.

## toy_lt: exp, ratio 100, protocol holdout, backbone resnet32, schedule cifar

4 classes, 675 training images, 500 to 5 a class.
Many: more than 100 training images, few: fewer than 20.
Epochs are selected on validation images; the test set is read once, after training.

| Method | Configuration | n | All | Many | Medium | Few | NCM | ECE | Parameters | Images seen | Training |
| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |
| dro_lt | - | 3 | 50.0 ± 10.0 | 75.0 ± 0.0 | 50.0 ± 0.0 | - | 40.0 ± 0.0 | 12.5 ± 0.0 | 470,004 | 1,234,567 | 10 min |
| dro_lt | `loss.ce_weight=1` | 1 | 45.0 | 75.0 | 50.0 | - | 40.0 | 12.5 | 470,004 | 1,234,567 | 10 min |

- **dro_lt**: `python train.py dataset=toy_lt seed=0`; seeds 0, 1, 2, split seed 0.
  Each stage's own final model: zero 25.0 (train 99.9), rebalance 50.0.
  Hardware: 2 CPU threads, x86_64. Versions: python 3.11.9, torch 2.15.0. Commit: abc1234.
- **dro_lt: `loss.ce_weight=1`**: `python train.py dataset=toy_lt loss.ce_weight=1 seed=0`; seed 0, split seed 0.
  Each stage's own final model: zero 25.0 (train 99.9), rebalance 45.0.
  Hardware: 2 CPU threads, x86_64. Versions: python 3.11.9, torch 2.15.0. Commit: abc1234.

Generated by `drolt results`.
"""


def three_seeds_and_a_control(root: Path) -> Path:
    return keep(
        root,
        c=made_up(2, 0.6),
        a=made_up(0, 0.4),
        b=made_up(1, 0.5),
        control=variant("loss.ce_weight=1", acc=0.45),
    )


def test_results_page_is_the_golden_text(tmp_path: Path) -> None:
    page = render_results(three_seeds_and_a_control(tmp_path / "results"))
    assert page == GOLDEN
    assert page == render_results(tmp_path / "results")


def test_spread_is_the_sample_standard_deviation(tmp_path: Path) -> None:
    accuracies = [0.4321, 0.4444, 0.4012, 0.4999]
    keep(tmp_path, **{f"r{seed}": made_up(seed, acc) for seed, acc in enumerate(accuracies)})
    expected = f"{100 * np.mean(accuracies):.1f} ± {100 * np.std(accuracies, ddof=1):.1f}"
    assert table_rows(render_results(tmp_path))[1][3] == expected


def test_a_value_that_only_some_runs_have_is_averaged_over_those(tmp_path: Path) -> None:
    with_few = made_up(1)
    with_few["test"]["few"] = 0.3
    rows = table_rows(render_results(keep(tmp_path, a=made_up(0), b=with_few)))
    assert rows[1][6] == "30.0 (n=1)"


def test_seed_folder_and_logger_do_not_split_a_row(tmp_path: Path) -> None:
    runs = [
        variant("loss.eps=2", 0),
        variant("loss.eps=2", 1, overrides=["seed=1", "loss.eps=2", "dataset=toy_lt"]),  # another order
        variant("loss.eps=2", 2, overrides=["dataset=toy_lt", "loss.eps=2", "init_from=x:joint", "logger=wandb"]),
        variant("loss.eps=2", 2, split_seed=7, overrides=["dataset=toy_lt", "loss.eps=2", "dataset.split_seed=7"]),
        variant("loss.eps=2", 4, overrides=["dataset=toy_lt", "loss.eps=2", "+hydra.x=1", "logger.project=p"]),
    ]
    page = render_results(keep(tmp_path, **{f"r{i}": run for i, run in enumerate(runs)}))
    assert [row[2] for row in table_rows(page)[1:]] == ["5"]
    assert "seeds 0, 1, 2, 4, split seeds 0, 7." in page


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": ["dataset=toy_lt", "optimizer.lr=1"]},
        {"overrides": ["dataset=toy_lt", "~schedule.stages.joint"]},
        {"images_seen": 99},
        {"num_parameters": 99},
        {"name": "mine"},
        {"method": "ce"},
    ],
)
def test_another_experiment_is_another_row(tmp_path: Path, change: dict[str, Any]) -> None:
    page = render_results(keep(tmp_path, a=made_up(0), b=made_up(1, **change)))
    assert [row[2] for row in table_rows(page)[1:]] == ["1", "1"]


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "other_lt"},
        {"protocol": "published"},
        {"groups": {"many": 200, "few": 20}},
        {"setting": {**made_up()["setting"], "imbalance_ratio": 50}},
        {"setting": {**made_up()["setting"], "imbalance_ratio": None, "profile": None}},
        {"setting": {**made_up()["setting"], "backbone": "resnet20"}},
        {"setting": {}},
    ],
)
def test_what_cannot_be_compared_is_another_table(tmp_path: Path, change: dict[str, Any]) -> None:
    page = render_results(keep(tmp_path, a=made_up(0), b=made_up(1, **change)))
    assert page.count("\n## ") == 2


def test_one_experiment_kept_twice_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, a=made_up(0), b=made_up(0))
    with pytest.raises(ValueError, match=r"a and .*b are one experiment with the same seeds \(seed 0, split seed 0\)"):
        render_results(tmp_path)


def test_several_versions_and_machines_are_all_named(tmp_path: Path) -> None:
    other = made_up(1, versions={"torch": "2.11.0", "python": "3.11.9"}, hardware="H100", git=None)
    page = render_results(keep(tmp_path, a=made_up(0), b=other))
    assert (
        "Hardware: 2 CPU threads, x86_64 / H100. Versions: python 3.11.9, torch 2.15.0/2.11.0. Commit: abc1234." in page
    )


def test_bars_in_overrides_do_not_break_the_table(tmp_path: Path) -> None:
    page = render_results(keep(tmp_path, a=made_up(0), b=variant("x=a|b")))
    assert "`x=a\\|b`" in page


def test_protocols_are_explained(tmp_path: Path) -> None:
    keep(tmp_path, a=made_up(protocol="test_selected"), b=made_up(protocol="published"))
    page = render_results(tmp_path)
    assert "selected on the test set: optimistic" in page
    assert "no validation: the last epoch" in page


# README.md


def test_readme_tables_are_renewed_between_their_markers(tmp_path: Path) -> None:
    three_seeds_and_a_control(tmp_path / "digits")
    text = "# Title\n\n<!-- digits:begin -->\nold\n<!-- digits:end -->\n\nrest\n"
    renewed = render_readme(text, tmp_path)
    assert renewed == (
        "# Title\n\n<!-- digits:begin -->\n"
        "| Run | All | Many | Medium | Few | Nearest centroid | n |\n"
        "| --- | --: | --: | --: | --: | --: | --: |\n"
        "| dro_lt | 50.0 ± 10.0 | 75.0 ± 0.0 | 50.0 ± 0.0 | - | 40.0 ± 0.0 | 3 |\n"
        "| dro_lt: `loss.ce_weight=1` | 45.0 | 75.0 | 50.0 | - | 40.0 | 1 |\n"
        "<!-- digits:end -->\n\nrest\n"
    )
    assert render_readme(renewed, tmp_path) == renewed


def test_readme_needs_markers_and_results(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^readme must hold a line <!-- NAME:begin -->"):
        render_readme("text", tmp_path)
    with pytest.raises(ValueError, match=r"digits holds no results.json"):
        render_readme("<!-- digits:begin -->\n<!-- digits:end -->\n", tmp_path)


def test_differences_to_the_control_are_paired_by_seed(tmp_path: Path) -> None:
    keep(tmp_path, a=made_up(0, 0.40), b=made_up(1, 0.50), c=made_up(2, 0.9))
    assert "Minus" not in render_results(tmp_path)
    keep(tmp_path, x=variant("loss.ce_weight=1", seed=0, acc=0.38), y=variant("loss.ce_weight=1", seed=1, acc=0.44))
    page = render_results(tmp_path)
    # Differences of 2 and 6 points; seed 2 has no partner.
    assert page.count("Minus") == 1
    assert "  Minus `loss.ce_weight=1`, paired by seed: +4.00 ± 2.00 (standard error, n = 2).\n" in page


def comparison(crt: float, **changes: Any) -> str:
    """What `drolt classifiers` writes, with two classifiers of which one could not be had."""
    found = {"cRT": {"val": None, "test": {"acc": crt}, "chosen": {}, "why": None}}
    found["tau-norm"] = {"val": None, "test": None, "chosen": {}, "why": "no validation images"}  # type: ignore[dict-item]
    return json.dumps({"stage": "joint", "views": 4, "epochs": 10, "lr": 0.1, "classifiers": found} | changes)


def test_classifiers_on_kept_representations_have_a_table(tmp_path: Path) -> None:
    keep(tmp_path, a=made_up(0), b=made_up(1), plain=variant("method=ce", method="ce"))
    for name, crt in (("a", 0.25), ("b", 0.35)):
        (tmp_path / name / "classifiers_joint.json").write_text(comparison(crt))
    page = render_results(tmp_path)
    assert "(4 augmented views cached, 10 epochs at rate 0.1); All:" in page
    assert "| Representation | after | n | cRT | tau-norm |\n| --- | --- | --: | --: | --: |\n" in page
    assert "| dro_lt | joint | 2 | 30.0 ± 7.1 | - |\n\n- **" in page
    assert "| ce |" in page
    assert "| ce | joint" not in page


def test_validation_and_images_that_the_cut_left_over_are_reported(tmp_path: Path) -> None:
    keep(
        tmp_path,
        a=made_up(0, test_pool={"acc": 0.25}, val={"acc": 0.2}),
        b=made_up(1, test_pool={"acc": 0.35}, val={"acc": 0.3}),
    )
    assert "\n  On validation images: 25.0 ± 7.1.\n" in render_results(tmp_path)
    assert "\n  On the images that the cut left over: 30.0 ± 7.1.\n" in render_results(tmp_path)


# keeping runs


def run_folder(path: Path, results: dict[str, Any], **files: str) -> Path:
    results = {key: value for key, value in results.items() if key != "setting"}
    write_results(path / "results.json", results)
    write_per_class(path / "per_class.csv", results)
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
    keep_run(run, tmp_path / "kept")
    assert (tmp_path / "kept" / "classifiers_joint.json").read_text() == comparison(0.25)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_kept_run_is_small_and_complete(tmp_path: Path) -> None:
    assert keep_run(run_folder(tmp_path / "run", made_up()), tmp_path / "kept") == []
    kept = tmp_path / "kept"
    names = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    assert names == {
        "results.json",
        "per_class.csv",
        "metrics.csv",
        "split.json",
        ".hydra/overrides.yaml",
        ".hydra/config.yaml",
    }
    assert size(kept) < 200_000
    assert json.loads((kept / "split.json").read_text()) == {"sha256": "f00", "n": {"b": 2}}
    assert (kept / "metrics.csv").read_text() == "epoch,stage_name,train/loss\n0,joint,0.123457\n1,inf,\n"
    results = load_results(kept / "results.json")
    assert results["setting"] == {
        "folder": "photos",
        "profile": "exp",
        "imbalance_ratio": 50,
        "backbone": "resnet32",
        "schedule": "cifar",
    }
    assert {key: value for key, value in results.items() if key != "setting"} == load_results(
        tmp_path / "run" / "results.json"
    )
    assert "## toy_lt (photos): exp, ratio 50, protocol holdout, backbone resnet32" in render_results(tmp_path / "kept")


def test_a_run_with_very_many_classes_stays_small(tmp_path: Path) -> None:
    num_classes = 8142
    results = made_up(class_counts=list(range(num_classes, 0, -1)), eps=[1 / 3] * num_classes)
    results["test"] |= {"per_class": [1 / 3] * num_classes, "per_class_ncm": [2 / 3] * num_classes}
    left_out = keep_run(run_folder(tmp_path / "run", results), tmp_path / "kept")
    assert left_out == ["per-class values of results.json", "per_class.csv"]
    assert size(tmp_path / "kept") < 200_000
    assert load_results(tmp_path / "kept" / "results.json")["test"]["acc"] == 0.5


def test_only_finished_runs_are_kept_and_none_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^run_dir .* holds no results.json: the run has not finished"):
        keep_run(tmp_path, tmp_path / "kept")
    run = run_folder(tmp_path / "run", made_up())
    keep_run(run, tmp_path / "kept")
    with pytest.raises(ValueError, match=r"^dest .* holds a kept run already: choose another name$"):
        keep_run(run, tmp_path / "kept")


# the command


def drolt(*arguments: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def test_command_keeps_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        run_folder(tmp_path / f"run{seed}", made_up(seed))
    assert drolt("keep", "run0") == (0, "kept results/toy_lt/dro_lt/seed0\n", "")
    assert drolt("keep", "run1", "--as", "digits/other") == (0, "kept results/digits/other\n", "")
    Path("README.md").write_text("<!-- digits:begin -->\n<!-- digits:end -->\n")
    files = ["results", "--readme", "README.md"]

    assert drolt(*files, "--check") == (
        1,
        "",
        "error: RESULTS.md is not up to date: run `drolt results` without --check\n",
    )
    assert not Path("RESULTS.md").exists()
    assert drolt(*files) == (0, "wrote RESULTS.md\nwrote README.md\n", "")
    assert drolt(*files, "--check") == (0, "", "")
    assert drolt(*files) == (0, "", "")

    Path("README.md").write_text(Path("README.md").read_text().replace("50.0", "99.9"))
    assert drolt(*files, "--check")[0] == 1
    assert drolt("results", "--check")[0] == 0
    assert render_results("results") == Path("RESULTS.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results", "--root", "nowhere"], "error: root nowhere holds no results.json: put runs there by"),
        (["results", "--root", "kept", "--readme", "none.md"], "error: none.md: No such file or directory"),
        (["keep", "nowhere"], "error: nowhere/results.json cannot be read: No such file"),
        (["keep", "nowhere", "--as", "x"], "error: run_dir nowhere holds no results.json"),
        (["keep", "nowhere", "--as", "../x"], "error: --as must name a folder under results, got '../x'"),
        (["keep", "nowhere", "--as", "/x"], "error: --as must name a folder under results, got '/x'"),
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
