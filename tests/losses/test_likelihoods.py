"""`DROLTLoss` with likelihood `class`: weights, radii, layers, mixing of both losses, and whole runs."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.running import SHORT, train_composed
from torch import Tensor

from drolt_pl.errors import SettingError
from drolt_pl.losses import DROLTLoss, LayeredDROLTLoss, classwise_loss
from drolt_pl.losses.functional import exponents

COUNTS = [40, 9, 3, 2, 1]


def make(likelihood: Any = "class", **options: Any) -> DROLTLoss:
    return DROLTLoss(5, 3, COUNTS, likelihood=likelihood, **options)


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Class 4 is missing from it."""
    generator = torch.Generator().manual_seed(0)
    y = torch.tensor([3, 0, 1, 0, 0, 2, 1, 0])
    centroids = torch.randn(5, 3, generator=generator, dtype=dtype)
    return centroids[y] + torch.randn(len(y), 3, generator=generator, dtype=dtype), y, centroids


@pytest.mark.parametrize("class_weight", ["present", "train_set", "uniform"])
@pytest.mark.parametrize("distance", ["euclidean", "student_t", "cosine"])
@pytest.mark.parametrize("prior", ["none", "train"])
def test_it_is_the_weighted_sum_of_the_rows(class_weight: Any, distance: Any, prior: Any) -> None:
    z, y, mu = batch()
    options: dict[str, Any] = {"temperature": 0.7, "distance": distance}
    loss = make(eps=0.4, class_weight=class_weight, prior=prior, **options)
    counts = torch.tensor(COUNTS, dtype=z.dtype)
    log_prior = counts.log() if prior == "train" else None
    rows = classwise_loss(z, y, mu, 0.4 * counts.rsqrt(), log_prior=log_prior, **options).tolist()
    labels = y.tolist()
    weights = {
        "present": [1 / (4 * labels.count(c)) for c in labels],
        "train_set": [sum(COUNTS) / (8 * 5 * COUNTS[c]) for c in labels],
        "uniform": [1 / 8] * 8,
    }[class_weight]
    expected = sum(weight * row for weight, row in zip(weights, rows, strict=True))
    assert float(loss(z, y, mu)) == pytest.approx(expected, rel=1e-7)  # float32's 0.4


def test_the_sample_is_left_out_of_its_own_centroid() -> None:
    z, y, mu = batch()
    own_factor = torch.tensor([40 / 39, 9 / 8, 3 / 2, 2.0, 1.0], dtype=z.dtype)
    expected = classwise_loss(z, y, mu, torch.zeros(5, dtype=z.dtype), own_factor=own_factor).mean()
    loss = make(eps_mode="zero", own_distance="leave_one_out", class_weight="uniform")
    torch.testing.assert_close(loss(z, y, mu), expected)


@pytest.mark.parametrize("eps_mode", ["zero", "shared", "sqrt_n", "learned", "coverage"])
@pytest.mark.parametrize("feature_norm", ["none", "l2"])
def test_every_radius_and_norm(eps_mode: Any, feature_norm: Any) -> None:
    z, y, mu = batch(torch.float32)
    loss = make(eps_mode=eps_mode, feature_norm=feature_norm, eps=0.3)
    loss.set_statistics(torch.full((5,), 0.2), 2.0)
    value = loss(z.requires_grad_(), y, mu)
    value.backward()
    units = feature_norm == "l2"
    measured = [x / x.norm(dim=1, keepdim=True) if units else x for x in (z.detach(), mu)]
    rows = classwise_loss(measured[0], y, measured[1], loss.radii().detach())
    expected = torch.stack([rows[y == c].mean() for c in range(4)]).mean()
    torch.testing.assert_close(value.detach(), expected)
    assert z.grad is not None
    assert bool(z.grad.any())
    if eps_mode == "learned":  # a missing class is one of the others: its radius learns as well
        assert bool((loss.balls.rho.grad > 0).all())
        assert loss.updates.tolist() == [1, 1, 1, 1, 0]


def test_layers_and_shares() -> None:
    z, y, mu = batch()
    layers = LayeredDROLTLoss({"a": make(), "b": DROLTLoss(5, 2, COUNTS, likelihood="class")})
    both = torch.cat([z, z[:, :2]], 1), y, torch.cat([mu, mu[:, :2]], 1)
    expected = (layers.losses[0](z, y, mu) + layers.losses[1](z[:, :2], y, mu[:, :2])) / 2
    torch.testing.assert_close(layers.total(layers.terms(*both)), expected)
    halves = make().terms(z, y, mu, torch.full((8,), 0.5, dtype=z.dtype))["robust"]
    torch.testing.assert_close(2 * halves, make()(z, y, mu))


def test_mass_of_the_own_class() -> None:
    z, y, mu = batch()
    rows = classwise_loss(z, y, mu, make(eps=0.4).radii(z.dtype), temperature=2.0)
    found = make(eps=0.4, temperature=2.0).own_mass(z.requires_grad_(), y, mu)
    assert float(found) == pytest.approx(float((-rows).exp().mean()))
    assert not found.requires_grad
    for bound in ("paper", "negatives"):
        sample = make("sample", eps=0.4, temperature=2.0, bound=bound)
        p = (exponents(z, y, mu, sample.radii(z.dtype), bound) / 2.0).softmax(1)  # type: ignore[arg-type]
        own = [sum(float(p[i, j].detach()) for j in range(8) if y[j] == y[i]) for i in range(8)]
        assert float(sample.own_mass(z, y, mu)) == pytest.approx(sum(own) / 8)
    weighted = make("sample", eps=0.4, denominator="weighted")
    key_weights = torch.tensor([COUNTS[c] / y.tolist().count(c) for c in y.tolist()], dtype=z.dtype)
    p = (exponents(z, y, mu, weighted.radii(z.dtype)) + key_weights.log()).softmax(1)
    own_mass = (p * (y[:, None] == y)).sum(1).mean()
    torch.testing.assert_close(weighted.own_mass(z, y, mu), own_mass.detach())


def test_a_radius_scales_the_other_keys_of_equation_18_alike() -> None:
    # What docs/loss.md says: the share that the other classes' keys have among themselves does not know eps.
    z, y, mu = batch()
    others = y[None] != y[:, None]
    shares = []
    for radius in (0.0, 3.0):
        a = exponents(z, y, mu, torch.full((5,), radius, dtype=z.dtype)).masked_fill(~others, -torch.inf)
        shares.append(a.softmax(1))
    torch.testing.assert_close(shares[0], shares[1])


# ---- mixing ----


def test_added_leaves_cross_entropy_its_step() -> None:
    ce, value = torch.tensor(2.0), torch.tensor(5.0)
    assert float(make(ce_weight=0.2, mixing="added").mix(ce, value)) == pytest.approx(2 + 4 * 5)
    convex = make(ce_weight=0.2).mix(ce, value)
    assert float(make(ce_weight=0.2, mixing="added").mix(ce, value)) == pytest.approx(float(convex) / 0.2)
    assert float(make(ce_weight=1.0, mixing="added").mix(ce, value)) == 2.0  # the control


# ---- refusals ----


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("likelihood", {"likelihood": "centroid"}),
        ("bound", {"bound": "negatives"}),
        ("denominator", {"denominator": "weighted"}),
        ("gather", {"gather": True}),
        ("prior", {"prior": "test"}),
        ("prior", {"prior": "train", "likelihood": "sample"}),
        ("own_distance", {"own_distance": "others"}),
        ("own_distance", {"own_distance": "leave_one_out", "likelihood": "sample"}),
        ("own_distance", {"own_distance": "leave_one_out", "distance": "cosine"}),
        ("own_distance", {"own_distance": "leave_one_out", "feature_norm": "l2"}),
        ("temperature", {"temperature": 0.0}),
        ("distance", {"distance": "l1"}),
        ("mixing", {"mixing": "sum"}),
        ("ce_weight", {"ce_weight": 0.0, "mixing": "added"}),
        ("class_counts", {"class_counts": [1, 2, 0, 4, 5]}),
    ],
)
def test_a_wrong_value_is_named_first(name: str, options: dict[str, Any]) -> None:
    arguments = {"num_classes": 5, "num_features": 3, "class_counts": COUNTS, "likelihood": "class"} | options
    with pytest.raises(SettingError, match=rf"^{name} must .*, got "):
        DROLTLoss(**arguments)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("options", [{}, {"prior": "train", "own_distance": "leave_one_out"}, {"eps": "auto"}])
def test_nothing_waits_for_the_device(options: dict[str, Any]) -> None:
    z, y, mu = (tensor.cuda() for tensor in batch(torch.float32))
    loss = make(**options).cuda()
    statistics = torch.ones(5, device="cuda"), torch.tensor(2.0, device="cuda")
    loss.set_statistics(*statistics)
    loss(z, y, mu)  # allocates
    loss.balls._is_measured = False
    try:
        torch.cuda.set_sync_debug_mode("error")
        value = loss(z.requires_grad_(), y, mu)
        value.backward()
        loss.own_mass(z, y, mu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    cpu = make(**options)
    cpu.set_statistics(torch.ones(5), 2.0)
    torch.testing.assert_close(value.cpu(), cpu(z.detach().cpu(), y.cpu(), mu.cpu()))


# ---- runs ----

CLASSWISE = ("loss.likelihood=class", "loss.prior=train", "loss.mixing=added", "loss.eps=auto")


def test_a_run_measures_auto_once_and_resumes_with_it(tmp_path: Path) -> None:
    results = train_composed(tmp_path, *SHORT, *CLASSWISE, "callbacks.centroids.always=true")
    saved = {
        name: torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
        for name in ("ce_warmup", "joint", "best")
    }
    key = "objectives.dro_lt.loss.balls.measured_eps"
    assert float(saved["ce_warmup"][key]) < 0  # passes went by, and nothing asked for radii
    assert float(saved["joint"][key]) > 0
    assert torch.equal(saved["best"][key], saved["joint"][key])
    radii = [float(saved["joint"][key]) / math.sqrt(n) for n in results["class_counts"]]
    assert results["eps"] == pytest.approx(radii)
    assert results["test"]["acc_ncm"] > 0.3
    shutil.copy(tmp_path / "checkpoints" / "joint.ckpt", tmp_path / "checkpoints" / "last.ckpt")
    again = train_composed(tmp_path, *SHORT, *CLASSWISE, "callbacks.centroids.always=true", f"resume={tmp_path}")
    assert again["eps"] == results["eps"]
    assert again["test"] == results["test"]
