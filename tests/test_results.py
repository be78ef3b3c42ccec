"""results.json and per_class.csv."""

import csv
import json
import math
from pathlib import Path

import pytest
from helpers.report_samples import made_up, typed
from helpers.running import HOME
from pydantic import ValidationError

from drolt_pl.errors import SettingError
from drolt_pl.kept import load_all
from drolt_pl.report.page import render_pages, render_readme, render_results
from drolt_pl.results import SCHEMA, Accuracies, Results, write_per_class


def test_every_kept_run_is_read_and_written_back_byte_for_byte() -> None:
    kept = load_all(HOME / "results")
    assert len(kept) > 100
    for path, run in kept.items():
        assert run.dump() == Path(path).read_text(), path


def test_tables_pages_and_numbers_of_figures_are_those_of_the_kept_runs() -> None:
    root = HOME / "results"
    page, readme = (HOME / "RESULTS.md").read_text(), (HOME / "README.md").read_text()
    assert render_results(root) == page, "run `make results`"
    assert render_readme(readme, root) == readme
    assert page.count("\n") <= 200
    pages = render_pages(root)
    folder = HOME / "docs" / "results"
    assert {name: (folder / name).read_text() for name in pages} == pages
    assert {path.name for path in folder.glob("*.svg")} == {
        f"{Path(name).stem}.svg" for name in pages if ".csv" in name
    }
    assert {path.suffix for path in folder.iterdir() if path.name not in pages} == {".svg"}
    assert max(path.stat().st_size for path in folder.iterdir()) < 200_000


def test_results_are_plain_json_in_the_order_of_the_alphabet(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    results = typed(made_up(later={"a": [1.0, "x"]}))
    results.model_copy(update={"objective": math.inf}).write(path)
    content = json.loads(path.read_text())
    assert content["later"] == {"a": [1.0, "x"]}  # an unknown key is kept
    assert content["objective"] is None
    assert list(content) == sorted(content)
    assert list(content["stages"]) == ["zero", "rebalance"]  # in time, not in the alphabet
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_what_was_not_given_is_not_written() -> None:
    results = Results(
        schema_=SCHEMA, dataset="x", method="ce", protocol="holdout", seed=0, test=Accuracies(acc=0.5, few=None)
    )
    assert json.loads(results.dump()) == {
        "schema": 1,
        "dataset": "x",
        "method": "ce",
        "protocol": "holdout",
        "seed": 0,
        "test": {"acc": 0.5, "few": None},
    }


def test_accuracies_of_metrics_have_no_nan() -> None:
    found = Accuracies.of({"acc": 0.5, "few": math.nan, "per_class": [1.0, math.nan]})
    assert (found.few, found.per_class) == (None, [1.0, None])
    assert found.numbers() == {"acc": 0.5}
    assert json.loads(json.dumps(found.without_classes().plain())) == {"acc": 0.5, "few": None}


def test_results_do_not_change() -> None:
    with pytest.raises(ValidationError):
        typed(made_up()).seed = 3


REST = '"schema": 1, "dataset": "x", "method": "ce", "protocol": "holdout"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"results.json cannot be read: No such file or directory$"),
        ("{", r"results.json is not JSON: "),
        ("[]", r"results.json must be an object$"),
        ('{"schema": 2}', r"^schema in .*results.json must be 1, got 2$"),
        ('{"schema": 1, "dataset": "x", "test": {}}', r"results.json lacks method, protocol, seed$"),
        (f'{{{REST}, "seed": "0", "test": {{}}}}', r"^seed in .*results.json must be a valid integer, got '0'$"),
        (f'{{{REST}, "seed": 0, "test": {{"acc": [1]}}}}', r"^test.acc in .*results.json must be a valid number$"),
    ],
)
def test_what_is_no_results_file_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(SettingError, match=message):
        Results.load(tmp_path / "results.json")


# per_class.csv


def test_per_class_has_a_row_per_class(tmp_path: Path) -> None:
    write_per_class(tmp_path / "per_class.csv", typed(made_up()), ["cat", "dog, small", "fox", "owl"])
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
    write_per_class(tmp_path / "per_class.csv", typed(results))
    lines = (tmp_path / "per_class.csv").read_text().splitlines()
    assert lines[1:] == ["0,0,500,many,,,", "1,1,120,medium,,,", "2,2,50,few,,,", "3,3,5,few,,,"]
