"""Radii that are measured once (eps `auto`), and radii of one direction."""

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drolt_pl.errors import SettingError
from drolt_pl.losses import DROLTLoss
from drolt_pl.losses.radius import coverage_radius, log_ball_probability, mean_coverage_factor

COUNTS = [40, 9, 3, 2, 1]
VARIANCES = torch.tensor([4.0, 2.0, 7.0, 3.0, 5.0])


def make(**options: Any) -> DROLTLoss:
    return DROLTLoss(5, 3, COUNTS, **options)


def mean_coverage(loss: DROLTLoss) -> float:
    return float(loss.balls.log_probability(loss.radii(torch.float64)).exp().mean())


@settings(max_examples=40, database=None)
@given(
    seed=st.integers(0, 10**6),
    dim=st.sampled_from([1.0, 3.5, 64.0, 2048.0]),
    coverage=st.floats(0.05, 0.95),
    along=st.booleans(),
)
def test_the_factor_gives_that_mean_coverage(seed: int, dim: float, coverage: float, along: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, 500, (6,), generator=generator)
    variances = 10 ** (4 * torch.rand(6, generator=generator, dtype=torch.float64) - 2)
    radii = torch.rand(6, generator=generator, dtype=torch.float64) + 0.1
    nu = torch.tensor(dim, dtype=torch.float64)
    statistics = (counts, variances, nu, torch.ones_like(nu) if along else None)
    factor = mean_coverage_factor(coverage, radii, *statistics)
    found = log_ball_probability(factor * radii, *statistics).exp().mean()
    assert float(found) == pytest.approx(coverage, abs=1e-6)


def test_the_factor_of_classes_without_spread_is_zero() -> None:
    factor = mean_coverage_factor(0.5, torch.ones(3), torch.ones(3), torch.zeros(3), torch.tensor(2.0))
    assert float(factor) == 0.0


# ---- eps auto ----


@pytest.mark.parametrize("eps_mode", ["shared", "sqrt_n"])
@pytest.mark.parametrize("radius_of", ["ball", "direction"])
def test_auto_is_a_coverage_of_one_half(eps_mode: Any, radius_of: Any) -> None:
    loss = make(eps="auto", eps_mode=eps_mode, radius_of=radius_of)
    with pytest.raises(RuntimeError, match=r"^eps 'auto' needs the class statistics: call set_statistics first"):
        loss.radii()
    loss.set_statistics(VARIANCES, 2.5)
    assert mean_coverage(loss) == pytest.approx(0.5, abs=1e-5)
    scale = torch.tensor([1 / math.sqrt(n) for n in COUNTS]) if eps_mode == "sqrt_n" else torch.ones(5)
    torch.testing.assert_close(loss.radii(), loss.radii()[4] * scale)
    assert loss.radii(torch.float64).dtype == torch.float64
    assert not list(loss.parameters())


def test_auto_is_measured_once_when_radii_are_first_asked_for() -> None:
    loss = make(eps="auto")
    loss.set_statistics(1e4 * VARIANCES, 3.0)  # a pass before the loss is in use
    assert float(loss.balls.measured_eps) == -1  # not measured yet
    loss.set_statistics(VARIANCES, 2.5)
    first = loss.radii()
    loss.set_statistics(100 * VARIANCES, 2.0)
    assert torch.equal(loss.radii(), first)
    assert mean_coverage(loss) < 0.1  # p_c follows the statistics, the radii stay


def test_a_checkpoint_keeps_the_measured_radius(tmp_path: Any) -> None:
    loss = make(eps="auto", eps_mode="shared")
    loss.set_statistics(VARIANCES, 2.5)
    radii = loss.radii()
    torch.save(loss.state_dict(), tmp_path / "x.ckpt")
    again = make(eps="auto", eps_mode="shared")
    again.load_state_dict(torch.load(tmp_path / "x.ckpt", weights_only=True))
    for other in (again, copy.deepcopy(loss)):
        other.set_statistics(9 * VARIANCES, 2.5)
        assert torch.equal(other.radii(), radii)
    # One from before the measurement has none: its radii come from the statistics that follow.
    again.load_state_dict(make(eps="auto", eps_mode="shared").state_dict())
    with pytest.raises(RuntimeError, match="set_statistics"):
        again.radii()
    again.set_statistics(9 * VARIANCES, 2.5)
    torch.testing.assert_close(again.radii(), 3 * radii)


def test_a_number_leaves_the_checkpoint_as_it_was() -> None:
    assert "balls.measured_eps" not in make(eps=2.0).state_dict()
    assert "balls.measured_eps" in make(eps="auto").state_dict()


@pytest.mark.parametrize("eps_mode", ["zero", "learned", "coverage"])
def test_auto_is_refused_with_other_modes(eps_mode: Any) -> None:
    with pytest.raises(SettingError, match=f"^eps must be a number where eps_mode is '{eps_mode}', got 'auto'"):
        make(eps="auto", eps_mode=eps_mode)


def test_auto_is_refused_where_distances_are_others() -> None:
    with pytest.raises(SettingError, match=r"^eps must be a number where distance is 'cosine', got 'auto'"):
        make(eps="auto", distance="cosine")
    with pytest.raises(SettingError, match=r"^eps must be 'auto' or a number >= 0, got 'aut'"):
        make(eps="aut")


# ---- one direction ----


def test_radius_of_a_direction() -> None:
    ball, along = make(eps_mode="coverage"), make(eps_mode="coverage", radius_of="direction")
    for loss in (ball, along):
        loss.set_statistics(VARIANCES, 27.0)
        assert loss.balls.log_probability(loss.radii()).exp().tolist() == pytest.approx([0.9] * 5, rel=1e-5)
    expected = [math.sqrt(2.705543 * v / (27.0 * n)) for v, n in zip(VARIANCES.tolist(), COUNTS, strict=True)]
    assert along.radii().tolist() == pytest.approx(expected, rel=1e-5)  # 90 % of chi-square with one degree of freedom
    ratio = ball.radii() / along.radii()
    assert bool(((ratio > 3.5) & (ratio < math.sqrt(27))).all())
    with pytest.raises(SettingError, match=r"^radius_of must be one of .*'ball', 'direction'.*, got 'line'"):
        make(radius_of="line")


def test_coverage_of_sampled_centroids_along_one_direction() -> None:
    # Means of 6 spherical Gaussian samples in 4 dimensions, variance 2 in each: total variance 8, nu = 4.
    generator = torch.Generator().manual_seed(0)
    means = math.sqrt(2.0) * torch.randn(20000, 6, 4, generator=generator).mean(1)
    four = torch.tensor(4.0)
    radius = coverage_radius(0.9, torch.tensor([6]), torch.tensor([8.0]), four, torch.ones(()))
    direction: Tensor = torch.tensor([0.6, 0.0, -0.8, 0.0])
    assert float(((means @ direction).abs() <= radius).float().mean()) == pytest.approx(0.9, abs=0.01)
