"""The loss as a module: weights, radii, statistics, checkpoints and several ranks."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from helpers.losses_reference import gathered_steps, reference_loss, reference_robust, unequal_batches
from helpers.ranks import on_ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drolt_pl.errors import SettingError
from drolt_pl.losses import DROLTLoss, robust_loss
from drolt_pl.losses.batch import class_histogram, training_set_log_weights
from drolt_pl.losses.functional import BOUNDS, DISTANCES

COUNTS = [40, 9, 3, 2, 1]
FORMS = [(b, d) for b, d in itertools.product(BOUNDS, DISTANCES) if b != "tight" or d == "euclidean"]
ATTRACTION = pytest.mark.filterwarnings("ignore:bound 'tight':UserWarning")
GATHERED = [
    {"denominator": "batch", "class_weight": "present", "eps_mode": "learned"},
    {"denominator": "weighted", "class_weight": "train_set", "bound": "negatives"},
    {"denominator": "weighted", "class_weight": "present", "eps_mode": "learned", "eps_prior": 0.3},
    {"denominator": "batch", "class_weight": "uniform", "distance": "cosine", "feature_norm": "l2"},
]


def make(**options: Any) -> DROLTLoss:
    return DROLTLoss(5, 3, COUNTS, **options)


def batch(
    seed: int = 0, targets: tuple[int, ...] = (3, 0, 1, 0, 0, 2, 1, 0), dtype: torch.dtype = torch.float64
) -> Any:
    generator = torch.Generator().manual_seed(seed)
    y = torch.tensor(targets)
    centroids = 2 * torch.randn(5, 3, generator=generator, dtype=dtype)
    return centroids[y] + torch.randn(len(y), 3, generator=generator, dtype=dtype), y, centroids


@ATTRACTION
@pytest.mark.parametrize("form", FORMS, ids="-".join)
@settings(max_examples=25, database=None)
@given(
    seed=st.integers(0, 10**6),
    targets=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    denominator=st.sampled_from(["batch", "weighted"]),
    class_weight=st.sampled_from(["present", "train_set", "uniform"]),
)
def test_agrees_with_loops(form: Any, seed: int, targets: list[int], denominator: Any, class_weight: Any) -> None:
    bound, distance = form
    choices = {"bound": bound, "distance": distance, "denominator": denominator, "class_weight": class_weight}
    for dtype, rel, tiny in ((torch.float64, 1e-9, 1e-12), (torch.float32, 1e-4, 1e-7)):
        z, y, centroids = batch(seed, tuple(targets), dtype)
        eps = torch.tensor([0.8 / math.sqrt(n) for n in COUNTS], dtype=torch.float64)
        value = make(eps_mode="sqrt_n", eps=0.8, temperature=0.6, **choices)(z, y, centroids)
        expected = reference_loss(z, y, centroids, eps, COUNTS, temperature=0.6, **choices)
        assert value.dtype == dtype
        assert float(value) == pytest.approx(expected, rel=rel, abs=tiny)


def test_by_hand() -> None:
    # Centroids 0 and 4, radii 0.5 and 1; samples 1 and -2 of class 0, 4 of class 1; class 2 is missing.
    z, y = torch.tensor([[1.0], [4.0], [-2.0]]), torch.tensor([0, 1, 0])
    centroids = torch.tensor([[0.0], [4.0], [9.0]])
    loss = DROLTLoss(3, 1, [4, 1, 1], eps=1.0)
    of_first = math.log(1 + math.exp(1 - 2) + math.exp(1 - 4 + 1))
    of_third = math.log(math.exp(2 - 1) + 1 + math.exp(2 - 4 + 1))
    of_second = math.log(1 + math.exp(0 - 3 + 2) + math.exp(0 - 6 + 2))
    assert float(loss(z, y, centroids)) == pytest.approx(((of_first + of_third) / 2 + of_second) / 2, rel=1e-6)


def test_mix() -> None:
    assert float(make(ce_weight=0.3).mix(torch.tensor(2.0), torch.tensor(5.0))) == pytest.approx(0.3 * 2 + 0.7 * 5)


@ATTRACTION
@settings(max_examples=20, database=None)
@given(seed=st.integers(0, 1000), form=st.sampled_from(FORMS))
def test_permuting_the_batch_changes_nothing(seed: int, form: Any) -> None:
    z, y, centroids = batch(seed)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    loss = make(bound=form[0], distance=form[1], eps_mode="shared", eps=0.1, denominator="weighted")
    torch.testing.assert_close(loss(z[order], y[order], centroids), loss(z, y, centroids))


def test_bfloat16_is_raised_also_under_autocast() -> None:
    for options in ({}, {"feature_norm": "l2"}, {"eps_mode": "learned", "distance": "cosine"}):
        z, y, centroids = batch(dtype=torch.float32)
        z, loss = z.bfloat16(), make(**options)
        expected = loss(z.float(), y, centroids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(z, y, centroids)
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)


def test_l2_compares_directions() -> None:
    z, y, centroids = batch()
    loss = make(feature_norm="l2")
    factors = torch.rand(len(z), 1, dtype=z.dtype, generator=torch.Generator().manual_seed(0)) + 0.5
    torch.testing.assert_close(loss(factors * z, y, 3 * centroids), loss(z, y, centroids))
    unit = z / z.norm(dim=1, keepdim=True), y, centroids / centroids.norm(dim=1, keepdim=True)
    torch.testing.assert_close(loss(z, y, centroids), make()(*unit))


# ---- the training set in the denominator ----


def full_set() -> tuple[Tensor, Tensor, Tensor]:
    z, y, centroids = batch(4, (0, 0, 0, 0, 1, 1, 1))
    return z, y, centroids[:2]


def test_weighted_on_the_full_set_is_equation_18() -> None:
    z, y, centroids = full_set()
    loss = DROLTLoss(2, 3, [4, 3], denominator="weighted", eps_mode="shared", eps=0.4)
    d = torch.linalg.vector_norm(centroids[:, None] - z[None], dim=-1)  # (C, N)
    equation_18 = 0.0
    for c, size in ((0, 4), (1, 3)):
        for i in torch.nonzero(y == c).flatten().tolist():
            denominator = sum(math.exp(-float(d[c, j]) - 2 * 0.4 * (int(y[j]) == c)) for j in range(7))
            equation_18 -= (1 / size) * math.log(math.exp(-float(d[c, i]) - 2 * 0.4) / denominator)
    assert float(loss(z, y, centroids)) == pytest.approx(equation_18 / 2, rel=1e-7)  # the radius is float32's 0.4


def test_weighted_denominator_is_unbiased_under_class_aware_sampling() -> None:
    z, y, centroids = full_set()
    eps = torch.tensor([0.4, 0.2], dtype=z.dtype)
    counts = torch.tensor([4.0, 3.0], dtype=z.dtype)
    own = torch.linalg.vector_norm(z - centroids[y], dim=1)
    of_batches: dict[str, list[float]] = {"paper": [], "negatives": []}
    for zeros, ones in itertools.product(itertools.combinations(range(4), 2), itertools.combinations(range(4, 7), 2)):
        rows = torch.tensor([*zeros, *ones])
        weights = training_set_log_weights(y[rows], class_histogram(y[rows], 2).double(), counts)
        for bound, denominators in of_batches.items():
            if bound == "negatives" and 0 not in zeros:  # Z_0 holds sample 0
                continue
            robust = robust_loss(z[rows], y[rows], centroids, eps, bound=bound, key_log_weights=weights)
            scaled = (robust - own[rows]).exp() if bound == "paper" else robust.exp()
            denominators.append(float(scaled[0]))
    for bound, denominators in of_batches.items():
        full = robust_loss(z, y, centroids, eps, bound=bound)
        expected = float((full[0] - own[0]).exp() if bound == "paper" else full[0].exp())
        assert len(denominators) == (18 if bound == "paper" else 9)
        assert sum(denominators) / len(denominators) == pytest.approx(expected, rel=1e-9)


def test_train_set_weights_are_unbiased_under_instance_sampling() -> None:
    # With the denominator held fixed, the mean over all batches of 1 is the mean over classes of their own means.
    losses = []
    for target in (c for c, count in enumerate(COUNTS) for _ in range(count)):
        losses.append(float(make(class_weight="train_set", eps_mode="zero")(*pair(target))))
    expected = sum(float(make(class_weight="uniform", eps_mode="zero")(*pair(c))) for c in range(5)) / 5
    assert sum(losses) / len(losses) == pytest.approx(expected, rel=1e-6)


def pair(target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two equal samples of one class: a loss that is log 2 times the weights' sum."""
    z, y, centroids = batch(targets=(target, target))
    return z[:1].repeat(2, 1), y, centroids


# ---- radii ----


def test_radii_of_the_fixed_modes() -> None:
    assert make(eps_mode="zero").radii().tolist() == [0.0] * 5
    assert make(eps_mode="shared", eps=2.0).radii().tolist() == [2.0] * 5
    assert make(eps=2.0).radii().tolist() == pytest.approx([2 / math.sqrt(n) for n in COUNTS])
    assert not list(make().parameters())


def test_learned_starts_at_eps_and_counts_its_updates() -> None:
    loss = make(eps_mode="learned", eps=1.5)
    assert loss.radii().tolist() == pytest.approx([1.5] * 5)
    assert [name for name, _ in loss.named_parameters()] == ["balls.rho"]
    loss(*batch())
    loss(*batch(targets=(1, 4)))
    loss.eval()(*batch())
    with torch.no_grad():
        loss.train()(*batch())
    assert loss.updates.tolist() == [1, 2, 1, 1, 1]


def train_radii(steps: int, **options: Any) -> DROLTLoss:
    z, y, centroids = batch()
    loss = make(eps_mode="learned", eps=1.0, **options)
    loss.set_statistics(torch.full((5,), 3.0), 2.5)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(z, y, centroids).backward()
        optimizer.step()
    return loss


def test_learned_radii_only_shrink_without_a_prior() -> None:
    radii = train_radii(500).radii().detach()
    assert bool((radii[:4] < 0.05).all())
    assert bool((radii >= 0).all())
    assert float(radii[4]) == pytest.approx(1.0)  # class 4 is not in the batch


def test_a_prior_gives_learned_radii_an_optimum() -> None:
    loss = train_radii(500, eps_prior=2.0)
    radii = loss.radii().detach()[:4]
    assert bool((radii > 0.1).all())
    assert bool((radii < 5.0).all())
    loss(*batch()).backward()
    slope = loss.balls.rho.grad
    assert float(slope[:4].abs().max()) < 1e-3  # the optimum, not a bound


def test_prior_is_the_mean_over_the_classes_present() -> None:
    loss = make(eps_mode="learned", eps=0.7, eps_prior=0.5)
    loss.set_statistics(torch.arange(1.0, 6.0), 3.5)
    terms = loss.terms(*batch())
    log_p = loss.balls.log_probability(loss.radii())
    assert float(terms["prior"].detach()) == pytest.approx(-0.5 * float(log_p[:4].mean().detach()), rel=1e-6)
    assert float(loss.total(terms).detach()) == pytest.approx(sum(float(term.detach()) for term in terms.values()))


def test_coverage_and_prior_need_statistics() -> None:
    loss = make(eps_mode="coverage")
    with pytest.raises(RuntimeError, match="set_statistics"):
        loss.radii()
    loss.set_statistics(torch.full((5,), 8.0), torch.tensor(4.0))
    assert loss.balls.log_probability(loss.radii()).exp().tolist() == pytest.approx([0.9] * 5, rel=1e-5)
    wide = make(eps_mode="coverage", radius_dim="features")
    wide.set_statistics(torch.full((5,), 8.0), 0.1)
    expected = [math.sqrt(8 * 6.251388631 / (3 * n)) for n in COUNTS]  # 90 % of chi-square with 3 degrees of freedom
    assert wide.radii().tolist() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(RuntimeError, match="set_statistics"):
        make(eps_mode="learned", eps_prior=0.1)(*batch())


def test_statistics_are_checked() -> None:
    loss = make(eps_mode="coverage")
    for variance, dim in (
        (torch.ones(4), 2.0),
        (torch.ones(5), torch.ones(1)),
        (torch.tensor([1.0, 1, 1, 1, -1]), 2.0),
        (torch.full((5,), math.nan), 2.0),
        (torch.ones(5), 0.0),
        (torch.ones(5), math.inf),
    ):
        with pytest.raises(ValueError, match=r"total_variance|effective_dim"):
            loss.set_statistics(variance, dim)
    with pytest.raises(RuntimeError, match="set_statistics"):
        loss.radii()


# ---- checkpoints ----


@pytest.mark.parametrize("options", [{"eps_mode": "coverage"}, {"eps_mode": "learned", "eps_prior": 0.2}, {}])
def test_a_checkpoint_keeps_everything(options: dict[str, Any], tmp_path: Any) -> None:
    loss = make(**options)
    loss.set_statistics(torch.arange(1.0, 6.0), 2.5)
    loss(*batch())
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter += torch.arange(5.0)
    torch.save({"loss": torch.nn.ModuleDict({"inner": loss}).state_dict()}, tmp_path / "x.ckpt")
    again = make(**options)
    torch.nn.ModuleDict({"inner": again}).load_state_dict(torch.load(tmp_path / "x.ckpt", weights_only=True)["loss"])
    for copied in (again, copy.deepcopy(loss)):
        assert torch.equal(copied.radii(), loss.radii())
        assert torch.equal(copied.updates, loss.updates)
        assert torch.equal(copied.eval()(*batch()), loss.eval()(*batch()))


def test_a_checkpoint_without_statistics_has_none() -> None:
    loss = make(eps_mode="coverage")
    loss.load_state_dict(make(eps_mode="coverage").state_dict())
    with pytest.raises(RuntimeError, match="set_statistics"):
        loss.radii()


def test_settings_come_from_the_constructor_not_from_the_checkpoint() -> None:
    saved = make(eps_mode="coverage", coverage=0.5)
    saved.set_statistics(torch.ones(5), 2.0)
    loss = make(eps_mode="coverage", coverage=0.99)
    loss.load_state_dict(saved.state_dict())
    assert bool((loss.radii() > 1.5 * saved.radii()).all())


# ---- the bound tight ----


def test_tight_logs_its_second_branch_and_warns_once() -> None:
    z, y, centroids = batch()
    loss = make(bound="tight", eps_mode="shared", eps=50.0)
    with pytest.warns(UserWarning, match="second branch"):
        terms = loss.terms(z, y, centroids)
    assert float(terms["second_branch"]) == 1.0
    assert torch.equal(loss.total(terms), loss(z, y, centroids))  # and no second warning: it would be an error here
    quiet = make(bound="tight", eps_mode="zero")
    assert float(quiet.terms(z, y, centroids)["second_branch"]) == 0.0


# ---- several ranks ----


def test_gathered_ranks_equal_one_process() -> None:
    z, y, centroids = batch(2, (3, 0, 1, 0, 0, 2, 1, 4))
    arguments = GATHERED, (z, y, centroids, torch.tensor(COUNTS), torch.eye(3, dtype=z.dtype) + 0.1)
    alone = gathered_steps(0, 1, *arguments)
    for rank in on_ranks(2, gathered_steps, *arguments):
        for ours, theirs in zip(rank, alone, strict=True):
            for found, expected in zip(ours, theirs, strict=True):
                torch.testing.assert_close(found, expected)
                assert bool(found.any())
    # One process with gather is the loss of the batch.
    ungathered = make(**GATHERED[1])(z @ arguments[1][-1], y, centroids)
    assert float(alone[1][0]) == pytest.approx(float(ungathered), rel=1e-12)


def test_gather_refuses_unequal_batches() -> None:
    assert all("[2, 3]" in message for message in on_ranks(2, unequal_batches))


# ---- refusals ----


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("eps_mode", {"eps_mode": "lerned"}),
        ("bound", {"bound": "self"}),
        ("denominator", {"denominator": "all"}),
        ("class_weight", {"class_weight": "none"}),
        ("distance", {"distance": "l1"}),
        ("feature_norm", {"feature_norm": "l1"}),
        ("radius_dim", {"radius_dim": "all"}),
        ("eps", {"eps": -1.0}),
        ("eps", {"eps": math.nan}),
        ("eps", {"eps": 0.0, "eps_mode": "learned"}),
        ("temperature", {"temperature": 0.0}),
        ("ce_weight", {"ce_weight": 1.1}),
        ("coverage", {"coverage": 1.0}),
        ("eps_prior", {"eps_prior": -0.1, "eps_mode": "learned"}),
        ("eps_prior", {"eps_prior": 0.1}),
        ("bound", {"bound": "tight", "distance": "student_t"}),
        ("eps_mode", {"eps_mode": "coverage", "distance": "cosine"}),
        ("eps_prior", {"eps_prior": 0.1, "eps_mode": "learned", "distance": "cosine"}),
        ("num_features", {"num_features": 0}),
        ("class_counts", {"class_counts": [1, 2]}),
        ("class_counts", {"class_counts": [1, 2, 0, 4, 5]}),
        ("class_counts", {"class_counts": [1, 2, 2.5, 4, 5]}),
    ],
)
def test_a_wrong_value_is_named_first(name: str, options: dict[str, Any]) -> None:
    arguments = {"num_classes": 5, "num_features": 3, "class_counts": COUNTS} | options
    with pytest.raises(SettingError, match=rf"^{name} must .*, got ") as caught:
        DROLTLoss(**arguments)
    if isinstance(options.get(name), str):
        assert repr(options[name]) in str(caught.value) or "distance" in options


def test_a_wrong_batch_is_refused() -> None:
    z, y, centroids = batch()
    with pytest.raises(ValueError, match="targets must be in"):
        make()(z, y + 3, centroids)
    for norm in ("none", "l2"):
        for wrong in (centroids[:, :2], centroids[:4], centroids[0]):
            with pytest.raises(ValueError, match=r"^centroids must have shape \(5, 3\), got"):
                make(feature_norm=norm)(z, y, wrong)
        for wrong in (z[:, :2], z[0], z[None]):
            with pytest.raises(ValueError, match=r"^features must have shape \(B, 3\), got"):
                make(feature_norm=norm)(wrong, y, centroids)


@pytest.mark.parametrize("likelihood", ["sample", "class"])
def test_an_empty_batch_costs_nothing(likelihood: Any) -> None:
    _, _, centroids = batch(dtype=torch.float32)
    loss = make(likelihood=likelihood, eps_mode="learned", eps_prior=0.1)
    loss.set_statistics(torch.ones(5), 2.0)
    z = torch.zeros(0, 3, requires_grad=True)
    value = loss(z, torch.zeros(0, dtype=torch.long), centroids)
    value.backward()
    assert float(value.detach()) == 0
    assert loss.balls.rho is not None
    assert loss.balls.rho.grad is None or not loss.balls.rho.grad.any()


@ATTRACTION
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_nothing_waits_for_the_device(form: Any) -> None:
    modes = ["sqrt_n", "learned", "coverage"] if form[1] == "euclidean" else ["sqrt_n", "learned"]
    for mode, denominator in itertools.product(modes, ("batch", "weighted")):
        prior = 0.1 if mode == "learned" and form[1] == "euclidean" else 0.0
        z, y, centroids = (tensor.cuda() for tensor in batch(dtype=torch.float32))
        z.requires_grad_()
        loss = make(bound=form[0], distance=form[1], eps_mode=mode, denominator=denominator, eps_prior=prior).cuda()
        statistics = torch.ones(5, device="cuda"), torch.tensor(2.0, device="cuda")
        loss.set_statistics(*statistics)
        loss(z, y, centroids).backward()  # allocates
        try:
            torch.cuda.set_sync_debug_mode("error")
            loss.set_statistics(*statistics)
            value = loss(z, y, centroids)
            value.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        cpu = make(bound=form[0], distance=form[1], eps_mode=mode, denominator=denominator, eps_prior=prior)
        cpu.set_statistics(torch.ones(5), 2.0)
        torch.testing.assert_close(value.cpu(), cpu(z.detach().cpu(), y.cpu(), centroids.cpu()))


def test_reference_needs_no_tensors() -> None:
    # The reference itself: one class of two samples at distances 1 and 3 of its centroid.
    z, y = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0])
    options = {"temperature": 1.0, "bound": "sample", "distance": "euclidean"}
    found = reference_robust(z, y, torch.zeros(1, 1), torch.tensor([0.25]), **options)
    assert found == pytest.approx([math.log(1 + math.exp(-2 + 0.5)), math.log(1 + math.exp(2 + 0.5))])
