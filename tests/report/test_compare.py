"""`drolt compare`: intervals over seeds and over test images, and what it says of them."""

from pathlib import Path

import numpy as np
import pytest
from helpers.report_samples import keep, made_up, typed, variant
from helpers.running import HOME
from scipy import stats
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.report.evidence import pair_view
from drolt_pl.report.intervals import bootstrap_difference, seeds_needed

ALL = np.ones((1, 4), bool)


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["compare", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def group(folder: Path, accuracies: list[float], **changes: object) -> Path:
    return keep(folder, **{f"seed{seed}": made_up(seed, acc, **changes) for seed, acc in enumerate(accuracies)})


def measured(right: list[float]) -> dict[str, object]:
    mean = sum(right) / len(right)
    return {"acc": mean, "many": right[0], "medium": right[1], "few": right[3], "per_class": right}


def test_bootstrap_equals_one_that_draws_images() -> None:
    generator = np.random.default_rng(1)
    right = generator.random((2, 4, 30)) < np.array([0.8, 0.3])[:, None, None]  # model, class, image
    expected = []
    for _ in range(4000):
        drawn = [[model[c, generator.integers(30, size=30)].mean() for c in range(4)] for model in right]
        expected.append(np.mean(drawn[0]) - np.mean(drawn[1]))
    accuracy = right.mean(2)
    found = bootstrap_difference(accuracy[:1], accuracy[1:], np.full((1, 4), 30), ALL, draws=20_000)
    np.testing.assert_allclose(found, np.quantile(expected, [0.025, 0.975]), atol=0.006)


def test_seeds_that_share_their_images_are_drawn_together() -> None:
    """Three runs of one accuracy are as sure of it as one run, whatever the groups of their splits."""
    one = bootstrap_difference(np.full((1, 4), 0.5), np.full((1, 4), 0.3), np.full((1, 4), 30), ALL, draws=20_000)
    three = bootstrap_difference(
        np.full((3, 4), 0.5), np.full((3, 4), 0.3), np.full((3, 4), 30), np.ones((3, 4), bool), draws=20_000
    )
    np.testing.assert_allclose(one, three, atol=0.006)
    # The nested images of two runs of different accuracy, drawn one by one.
    generator = np.random.default_rng(3)
    right, cut = np.array([[20, 9], [15, 12]]), np.array([[True, False], [True, True]])
    images = np.arange(30) < right[..., None]  # run, class, image
    expected = []
    for _ in range(5000):
        drawn = generator.integers(30, size=(2, 2, 30))
        runs = [[images[r, c][drawn[side, c]].mean() for r, c in ((0, 0), (1, 0), (1, 1))] for side in (0, 1)]
        expected.append([first / 2 + (second + third) / 4 for first, second, third in runs])
    found = bootstrap_difference(right / 30, right / 30, np.full((2, 2), 30), cut, draws=20_000)
    low, high = np.quantile(np.subtract(*np.array(expected).T), [0.025, 0.975])
    assert 1 <= (found[1] - found[0]) / (high - low) < 1.15  # wider: draws that rise together are more than nested


def test_bootstrap_covers_the_true_difference() -> None:
    generator = np.random.default_rng(2)
    images, truth = np.full((1, 4), 60), np.array([[0.7, 0.6, 0.5, 0.4], [0.6, 0.6, 0.4, 0.4]])
    held = 0
    for number in range(300):
        a, b = (generator.binomial(60, accuracy)[None] / 60 for accuracy in truth)
        low, high = bootstrap_difference(a, b, images, ALL, draws=400, seed=number)
        held += low <= truth[0].mean() - truth[1].mean() <= high
    assert stats.binomtest(held, 300, 0.95).pvalue > 0.001


def test_a_class_without_images_is_left_out() -> None:
    accuracy = np.array([[1.0, np.nan, 1.0, 1.0]])
    assert bootstrap_difference(accuracy, accuracy, np.array([[5, 0, 5, 5]]), ALL) == (0.0, 0.0)


@pytest.mark.parametrize("deviation", [0.002, 0.005, 0.02])
def test_seeds_needed_by_simulation(deviation: float) -> None:
    n = seeds_needed(0.005, deviation)
    assert n is not None
    generator = np.random.default_rng(0)

    def power(count: int) -> float:
        values = generator.normal(0.005, deviation, (20_000, count))
        return float((stats.ttest_1samp(values, 0, axis=1).pvalue < 0.05).mean())

    assert power(n) > 0.79
    assert n == 2 or power(n - 1) < 0.81


def test_no_number_of_seeds() -> None:
    assert seeds_needed(0.005, 1.0) is None
    assert seeds_needed(0.005, 0.0) == 2


def test_intervals_and_sentences(tmp_path: Path) -> None:
    a, b = group(tmp_path / "a", [0.50, 0.56, 0.54]), group(tmp_path / "b", [0.48, 0.50, 0.50, 0.9])
    code, said, _ = run(a, b)
    low, high = stats.t.interval(0.95, 2, loc=4, scale=stats.sem([2, 6, 4]))
    assert code == 0
    assert (
        f"a is 4.00 points above b on the test set (95 % t interval over 3 pairs of seeds: [{low:+.2f}, {high:+.2f}])"
        in said
    )
    assert ", so no difference is shown" in said
    assert f"would take {seeds_needed(0.005, 0.02)} seeds" in said
    assert "Over images: unknown" in said


def test_the_pool_and_images_are_there_where_they_were_kept(tmp_path: Path) -> None:
    images = {"test": [50] * 4, "test_pool": [5, 50, 200, 400]}
    for name, right in (("a", [0.9, 0.8, 0.7, 0.6]), ("b", [0.5, 0.5, 0.5, 0.5])):
        sets = {"test": measured(right), "test_pool": measured(right)}
        keep(tmp_path / name, seed0=made_up(0, images=images, **sets))
    code, said, _ = run(tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "with one pair of runs: how far this carries over seeds is not known." in said
    assert "Over images: unknown" not in said
    rows = [line.split() for line in said.splitlines() if line.strip().startswith(("test,", "pool,"))]
    widths = {row[0] + row[1]: float(row[7].strip("],")) - float(row[6].strip("[,")) for row in rows}
    assert widths["pool,few"] < widths["test,few"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dataset": "other"}, "must have the same images: they differ in dataset"),
        ({"protocol": "published"}, "must have the same images: they differ in protocol"),
        ({"split_sha256": "b"}, "must have the same images: they differ in split"),
        ({"split_seed": 5}, "must have a seed and a split seed in common"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    a, b = group(tmp_path / "a", [0.5]), group(tmp_path / "b", [0.5], **changes)
    code, said, error = run(a, b)
    assert (code, said) == (1, "")
    assert sentence in error
    assert error.count("\n") == 1


def test_a_sweep_is_divided_by_its_overrides(tmp_path: Path) -> None:
    for place, (eps, seed) in enumerate((eps, seed) for eps in (1, 2) for seed in (0, 1, 2)):
        (tmp_path / str(place)).mkdir()
        typed(variant(f"loss.eps={eps}", seed, acc=0.5 + eps / 100)).write(tmp_path / str(place) / "results.json")
    code, said, _ = run(f"{tmp_path}:loss.eps=2", f"{tmp_path}:loss.eps=1")
    assert code == 0
    assert "is 1.00 points above" in said
    assert "differ in loss.eps=1, loss.eps=2; name one folder of them, or PATH:OVERRIDE" in run(tmp_path, tmp_path)[2]
    assert "must name runs with loss.eps=3 among their overrides" in run(f"{tmp_path}:loss.eps=3", tmp_path)[2]


def test_kept_runs_without_a_record_of_their_images_may_be_told(tmp_path: Path) -> None:
    for name, acc in (("a", 0.5), ("b", 0.25)):
        keep(tmp_path / name, **{f"s{seed}": made_up(seed, test=measured([acc] * 4)) for seed in range(3)})
    assert "bootstrap over test images" not in run(tmp_path / "a", tmp_path / "b")[1]
    assert "; bootstrap over test images: [" in run(tmp_path / "a", tmp_path / "b", "--test-images", 50)[1]


def test_the_differences_are_those_of_the_page_of_findings() -> None:
    short = HOME / "results" / "tin100_short"
    cells = pair_view(short.parent, "tin100_short/balanced_softmax:ce")["cells"]
    assert isinstance(cells, list)
    points, interval = cells[0].split(" ", 1)
    said = run(short / "balanced_softmax", short / "ce", "--test-images", 50)[1]
    assert f"is {points.lstrip('+')} points above ce on the test set" in said
    assert f"over 3 pairs of seeds: {interval};" in said


def test_two_runs_of_one_seed_are_refused(tmp_path: Path) -> None:
    keep(tmp_path / "a", x=made_up(0), y=made_up(0))
    code, _, error = run(tmp_path / "a", group(tmp_path / "b", [0.5]))
    assert code == 1
    assert "holds two runs with seed 0 and split seed 0" in error
    assert run(tmp_path / "nowhere", tmp_path / "b")[0] == 1
