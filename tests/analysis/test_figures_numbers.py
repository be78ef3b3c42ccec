"""The numbers of the paper's figures against their definitions."""

import math

import pytest
import torch
from helpers.losses_reference import worst_nll
from torch import Tensor

from drolt_pl.analysis.balls import balls, plane_of_centroids
from drolt_pl.analysis.bounds import bound_rows, likelihood, spread_samples, worst_case
from drolt_pl.analysis.collapse import agreement, collapse
from drolt_pl.analysis.errors import class_errors, sensitivity
from drolt_pl.analysis.probes import balanced_subset, probe
from drolt_pl.analysis.radii import learned_radii, nominal_and_found, radius_and_error
from drolt_pl.analysis.reliability import frontier, reliability
from drolt_pl.centroids import class_statistics
from drolt_pl.errors import SettingError
from drolt_pl.results import Groups

GROUPS = Groups()
COUNTS = torch.tensor([200, 60, 4])


def draws(counts: Tensor, means: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Standard normal samples around class means (C, D)."""
    targets = torch.arange(len(counts)).repeat_interleave(counts)
    return means[targets] + torch.randn(len(targets), means.shape[1], generator=generator), targets


# ---- bounds ----


def test_the_worst_case_of_the_counterexample_is_above_the_papers_bound() -> None:
    """docs/loss.md: Z = {+1, -1}, one class, centroid 0, eps 0.5: 1.313 at -0.5, and Eq. 11 gives 0.693."""
    z, y = torch.tensor([[1.0], [-1.0]], dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    mu, eps = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0.5])
    worst = worst_case(z[:1], mu, eps.double(), z, torch.ones(1, 2, dtype=torch.bool))
    assert worst.item() == pytest.approx(1.313, abs=1e-3)
    rows = {(row["sum"], row["quantity"]): row["nats"] for row in bound_rows(z, y, mu, eps, queries=1)}
    assert rows["all keys", "bound paper"] == pytest.approx(0.693, abs=1e-3)
    assert rows["all keys", "bound sample"] >= worst.item() - 1e-9


def test_every_valid_bound_lies_above_the_worst_case_and_the_lower_one_below_every_centroid() -> None:
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(24, 3, generator=generator), torch.arange(24) % 4
    mu, eps = class_statistics(z, y, 4).centroids, torch.tensor([0.1, 0.3, 0.6, 1.0])
    rows = {(row["sum"], row["quantity"]): float(row["nats"]) for row in bound_rows(z, y, mu, eps, queries=12)}
    for over, names in {"all keys": ("sample", "tight"), "itself and other classes": ("paper", "negatives")}.items():
        assert all(rows[over, f"bound {name}"] >= rows[over, "worst in the ball"] for name in names)
        assert rows[over, "worst in the ball"] > rows[over, "at the empirical centroid"] + 0.05
    every = torch.ones(12, 24, dtype=torch.bool)
    for _ in range(20):
        shift = torch.nn.functional.normalize(torch.randn(12, 3, generator=generator), dim=1) * eps[y[:12], None]
        inside = likelihood(z[:12].double(), (mu[y[:12]] + shift).double(), z.double(), every).mean().item()
        assert rows["all keys", "lower bound"] <= inside <= rows["all keys", "worst in the ball"] + 1e-3
    # Another ascent, from other starts, finds no worse centroid.
    first = torch.stack([torch.cat([z[i : i + 1], z[:i], z[i + 1 :]]) for i in range(12)]).double()
    member, one = torch.ones(12, 24, dtype=torch.bool), torch.ones(12, dtype=torch.float64)
    independent = worst_nll(first, mu[y[:12]].double(), eps[y[:12]].double(), one, member, "euclidean")
    assert rows["all keys", "worst in the ball"] >= independent.mean().item() - 1e-3


def test_spread_samples_take_the_classes_in_turn() -> None:
    targets = torch.tensor([0] * 50 + [1] * 10 + [2] * 2)
    kept = spread_samples(targets, 12, seed=3)
    assert len(kept.unique()) == 12
    assert targets[kept].bincount().tolist() == [5, 5, 2]


# ---- radii ----


def test_probabilities_are_found_as_often_as_they_say_in_a_world_of_normal_features() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([120, 50, 10]).repeat_interleave(200)
    means = torch.randn(600, 6, generator=generator)
    train = class_statistics(*draws(counts, means, generator), 600)
    held_out = class_statistics(*draws(torch.full((600,), 40), means, generator), 600)
    rows = nominal_and_found(train, held_out, counts, GROUPS, 6)
    assert {row["classes"] for row in rows} == {200, 600}
    for row in rows:
        assert float(row["found"]) == pytest.approx(float(row["nominal"]), abs=0.08)


def test_errors_fall_with_the_square_root_of_the_class_size() -> None:
    generator = torch.Generator().manual_seed(1)
    counts = torch.tensor([400] * 100 + [25] * 100)
    means = torch.zeros(200, 8)
    train = class_statistics(*draws(counts, means, generator), 200)
    held_out = class_statistics(*draws(torch.full((200,), 1000), means, generator), 200)
    rows = radius_and_error(torch.ones(200), train, held_out, counts, GROUPS)
    mean_square = {
        group: torch.tensor([float(row["error"]) ** 2 for row in rows if row["group"] == group]).mean()
        for group in ("many", "medium")
    }
    assert (mean_square["medium"] / mean_square["many"]).sqrt().item() == pytest.approx(4, rel=0.1)
    assert mean_square["medium"].sqrt().item() == pytest.approx(math.sqrt(8 / 25), rel=0.1)
    assert float(rows[-1]["expected"]) == pytest.approx(math.sqrt(8 / 25), rel=0.1)


def test_radii_have_a_polynomial_fit_and_come_from_the_largest_class() -> None:
    counts = [10, 100, 1000, 50]
    eps = [1 + 2 * math.log(count) ** 2 for count in counts]
    rows = learned_radii(eps, None, counts, GROUPS)
    assert [row["images"] for row in rows] == [1000, 100, 50, 10]
    assert [row["fit"] for row in rows] == pytest.approx([row["radius"] for row in rows])
    assert all(math.isnan(float(row["updates"])) for row in rows)


# ---- errors, sensitivity, the plane ----


def test_errors_by_class_are_ordered_and_leave_out_what_was_not_measured() -> None:
    rows = class_errors([1.0, 0.5, None], [0.5, 0.25, 0.0], [5, 300, 7], GROUPS)
    assert [(row["class"], row["group"], row["train_error"], row["test_error"]) for row in rows] == [
        (1, "many", 0.5, 0.75),
        (0, "few", 0.0, 0.5),
    ]


def test_sensitivity_shows_the_keys_that_vary() -> None:
    runs = [({"loss.eps": eps, "loss.ce_weight": 0.5}, eps / 10, eps / 20) for eps in (5.0, 1.0)]
    assert sensitivity(runs) == [
        {"key": "loss.eps", "value": 1.0, "val": 0.1, "test": 0.05},
        {"key": "loss.eps", "value": 5.0, "val": 0.5, "test": 0.25},
    ]


def test_a_balls_shadow_is_orthonormal_and_two_features_stay_as_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = plane_of_centroids(torch.randn(5, 7, generator=generator))
    assert torch.allclose(basis.T @ basis, torch.eye(2, dtype=torch.float64))
    features, targets = draws(torch.tensor([3, 3]), torch.tensor([[0.0, 0.0], [9.0, 0.0]]), generator)
    statistics = class_statistics(features, targets, 2)
    rows = balls(
        (features, targets), (features, targets), [statistics] * 2, torch.tensor([1.0, 2.0]), ["a", "b"], GROUPS
    )
    centres = [row for row in rows if row["kind"] == "empirical centroid"]
    assert [row["radius"] for row in centres] == [1.0, 2.0]
    assert [[row["x"], row["y"]] for row in centres] == [pytest.approx(mean) for mean in statistics.centroids.tolist()]
    assert sum(row["kind"] == "sample" for row in rows) == 6


# ---- beyond the paper ----


def test_a_simplex_of_points_has_collapsed() -> None:
    targets = torch.arange(3).repeat(8)
    features = torch.eye(3)[targets] * 5 + 2
    statistics = class_statistics(features, targets, 3)
    rows = collapse(statistics, torch.eye(3) * 0.1, GROUPS, COUNTS)
    values = {(row["measure"], row["group"]): row["value"] for row in rows}
    for group in ("all", "many", "medium", "few"):
        assert values["within over between", group] == pytest.approx(0, abs=1e-6)
        assert values["mean cosine", group] == pytest.approx(-0.5, abs=1e-6)
        assert values["spread of cosines", group] == pytest.approx(0, abs=1e-6)
        assert values["norm over mean norm", group] == pytest.approx(1, abs=1e-6)
        assert values["weight to mean cosine", group] == pytest.approx(1, abs=1e-6)
    predicted = torch.where(targets == 2, 0, targets)
    found = {row["group"]: row["value"] for row in agreement(predicted, features, targets, statistics, GROUPS, COUNTS)}
    assert found == {"all": pytest.approx(2 / 3), "many": 1.0, "medium": 1.0, "few": 0.0}


def test_reliability_is_that_of_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = 2 * torch.randn(300, 3, generator=generator), torch.arange(3).repeat(100)
    rows = reliability(logits, targets, COUNTS, GROUPS, bins=5)
    sure, predicted = logits.double().softmax(1).max(1)
    gap = 0.0
    for place in range(5):
        inside = (targets == 2) & (sure > place / 5) & (sure <= (place + 1) / 5)
        if inside.any():
            right, mean = (predicted == targets)[inside].double().mean().item(), sure[inside].mean().item()
            gap += inside.sum().item() / 100 * abs(right - mean)
            (row,) = (row for row in rows if row["group"] == "few" and row["bin"] == place)
            assert (row["images"], row["accuracy"], row["confidence"]) == (
                inside.sum(),
                pytest.approx(right),
                pytest.approx(mean),
            )
    assert next(row for row in rows if row["group"] == "few")["ece"] == pytest.approx(gap)


def test_the_frontier_passes_through_the_classifier_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(300, 3, generator=generator), torch.arange(3).repeat(100)
    logits += torch.nn.functional.one_hot(targets, 3) + COUNTS.double().log()
    rows = {row["tau"]: row for row in frontier(logits, targets, COUNTS, GROUPS, [0.0, 1.0, 20.0])}
    correct = (logits.argmax(1) == targets).double().view(100, 3).mean(0)
    assert [rows[0.0][name] for name in ("many", "medium", "few")] == pytest.approx(correct.tolist())
    assert rows[1.0]["acc"] > rows[0.0]["acc"]
    assert (rows[20.0]["many"], rows[20.0]["few"]) == (0.0, 1.0)


def test_probes_see_what_is_there_and_train_on_equally_many() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.eye(3, 5) * 30
    features, targets = draws(torch.tensor([30, 8, 12]), means, generator)
    kept = balanced_subset(targets, 3)
    assert targets[kept].bincount().tolist() == [8, 8, 8]
    rows = probe((features[kept], targets[kept]), draws(torch.tensor([20, 20, 20]), means, generator), COUNTS, GROUPS)
    assert len(rows) == 8
    assert {row["accuracy"] for row in rows} == {1.0}
    blind = probe(
        (torch.randn(24, 5, generator=generator), targets[kept]),
        (torch.randn(600, 5, generator=generator), torch.arange(3).repeat(200)),
        COUNTS,
        GROUPS,
    )
    assert all(abs(float(row["accuracy"]) - 1 / 3) < 0.2 for row in blind if row["group"] == "all")
    with pytest.raises(SettingError, match="at least 4 held-out images"):
        balanced_subset(torch.tensor([0, 0, 0, 0, 1]), 2)
