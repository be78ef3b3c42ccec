"""The class-wise robust loss against loops, the worst centroids of the balls, and at the edges of the numbers."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from drolt_pl.losses import classwise_loss
from drolt_pl.losses.classwise import leave_one_out_factor
from drolt_pl.losses.distances import DISTANCES
from drolt_pl.losses.radius import coverage_radius

F = {"euclidean": lambda r: r, "student_t": lambda r: math.log(1 + r * r), "cosine": lambda r: r * r / 2}


def unit(rows: list[list[float]]) -> list[list[float]]:
    norms = [math.hypot(*row) for row in rows]
    return [[x / norm for x in row] if norm > 0 else row for row, norm in zip(rows, norms, strict=True)]


def reference(
    features: Tensor,
    targets: Tensor,
    centroids: Tensor,
    eps: Tensor,
    *,
    temperature: float = 1.0,
    distance: str = "euclidean",
    log_prior: Tensor | None = None,
    own_factor: Tensor | None = None,
) -> list[float]:
    """log(1 + sum_{k != c} (pi_k / pi_c) exp((f(d_c + eps_c) - f(max(d_k - eps_k, 0))) / T)) of every sample."""
    z, mu, radii = features.double().tolist(), centroids.double().tolist(), eps.double().tolist()
    if distance == "cosine":
        z, mu = unit(z), unit(mu)
    log_pi = [0.0] * len(mu) if log_prior is None else log_prior.double().tolist()
    factors = [1.0] * len(mu) if own_factor is None else own_factor.double().tolist()
    losses = []
    for row, c in zip(z, targets.tolist(), strict=True):
        far = F[distance](factors[c] * math.dist(row, mu[c]) + radii[c])
        exponents = [0.0]
        for k in range(len(mu)):
            if k != c and log_pi[k] > -math.inf:
                near = F[distance](max(math.dist(row, mu[k]) - radii[k], 0.0))
                exponents.append((far - near) / temperature + log_pi[k] - log_pi[c])
        top = max(exponents)
        if top == 0:  # 1 is the largest term: its logarithm keeps the digits of a small loss
            losses.append(math.log1p(math.fsum(math.exp(a) for a in exponents[1:])))
        else:
            losses.append(top + math.log(math.fsum(math.exp(a - top) for a in exponents)))
    return losses


def random_batch(seed: int, targets: list[int], num_classes: int, width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Features, targets, centroids, radii; some samples on their own centroid, some on another's."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.tensor(targets)
    centroids = 2 * torch.randn(num_classes, width, generator=generator, dtype=torch.float64)
    z = torch.randn(len(y), width, generator=generator, dtype=torch.float64) + centroids[y]
    for place in (y, torch.randint(num_classes, (len(y),), generator=generator)):
        there = torch.rand(len(y), generator=generator) < 0.1
        z[there] = centroids[place][there]
    eps = torch.rand(num_classes, generator=generator, dtype=torch.float64)
    return z.to(dtype), y, centroids.to(dtype), eps.to(dtype)


@st.composite
def batches(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Labels with classes missing, singletons and batches of one class or one sample."""
    num_classes = draw(st.integers(1, 5))
    targets = draw(st.lists(st.integers(0, num_classes - 1), min_size=1, max_size=8))
    return random_batch(draw(st.integers(0, 10**6)), targets, num_classes, draw(st.integers(1, 4)), dtype)


def extras(num_classes: int, targets: Tensor) -> dict[str, Tensor]:
    """A prior without one of the classes that the batch lacks, and the factors of small classes."""
    counts = torch.arange(1.0, num_classes + 1, dtype=torch.float64)
    log_prior = counts.log()
    missing = [c for c in range(num_classes) if c not in targets.tolist()]
    log_prior[missing[:1]] = -math.inf
    return {"log_prior": log_prior, "own_factor": leave_one_out_factor(counts)}


# ---- the formula ----


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("with_extras", [False, True])
@settings(max_examples=40, database=None)
@given(batch=batches(), temperature=st.sampled_from([0.1, 1.0, 7.0]))
def test_agrees_with_loops_in_float64(
    distance: Any, with_extras: bool, batch: tuple[Tensor, ...], temperature: float
) -> None:
    more = extras(len(batch[2]), batch[1]) if with_extras else {}
    options: dict[str, Any] = {"temperature": temperature, "distance": distance, **more}
    value = classwise_loss(*batch, **options)
    assert value.dtype == torch.float64
    assert value.tolist() == pytest.approx(reference(*batch, **options), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=30, database=None)
@given(
    batch=batches(torch.float32),
    scale=st.sampled_from([1e-3, 1.0, 1e2, 1e4]),
    offset=st.sampled_from([0.0, 1e4]),
    temperature=st.sampled_from([0.01, 0.1, 1.0, 10.0]),
)
def test_agrees_with_loops_in_float32_at_every_scale(
    distance: Any, batch: tuple[Tensor, ...], scale: float, offset: float, temperature: float
) -> None:
    z, y, centroids, eps = batch
    batch = (scale * z + offset, y, scale * centroids + offset, scale * eps)
    value = classwise_loss(*batch, temperature=temperature, distance=distance)
    assert value.dtype == torch.float32
    expected = reference(*batch, temperature=temperature, distance=distance)
    assert value.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_by_hand() -> None:
    # Sample 1 of class 0 at 0, eps 0.5; class 1 at 4, eps 1; class 2 at 1.2, eps 0.3: it may lie on the sample.
    z, y = torch.tensor([[1.0]]), torch.tensor([0])
    mu, eps = torch.tensor([[0.0], [4.0], [1.2]]), torch.tensor([0.5, 1.0, 0.3])
    expected = math.log(1 + math.exp(1.5 - 2.0) + math.exp(1.5 - 0.0))
    assert float(classwise_loss(z, y, mu, eps)) == pytest.approx(expected, rel=1e-6)
    log_prior = torch.tensor([10.0, 2.0, 1.0]).log()
    expected = math.log(1 + 0.2 * math.exp(1.5 - 2.0) + 0.1 * math.exp(1.5 - 0.0))
    assert float(classwise_loss(z, y, mu, eps, log_prior=log_prior)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=30, database=None)
@given(batch=batches(), temperature=st.sampled_from([0.1, 1.0, 10.0]))
def test_without_radii_it_is_the_cross_entropy_of_distances(
    distance: Any, batch: tuple[Tensor, ...], temperature: float
) -> None:
    z, y, mu, _ = batch
    log_prior = torch.arange(1.0, len(mu) + 1, dtype=torch.float64).log()
    of = (unit(z.tolist()), unit(mu.tolist())) if distance == "cosine" else (z.tolist(), mu.tolist())
    logits = torch.tensor([[-F[distance](math.dist(row, centre)) / temperature for centre in of[1]] for row in of[0]])
    expected = torch.nn.functional.cross_entropy(logits.double() + log_prior, y, reduction="none")
    options: dict[str, Any] = {"temperature": temperature, "distance": distance, "log_prior": log_prior}
    value = classwise_loss(z, y, mu, torch.zeros(len(mu), dtype=z.dtype), **options)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)  # the reference's logits are of float32


def test_the_left_out_sample_moves_its_own_centroid() -> None:
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(9, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 0, 0, 0, 1, 1, 2, 1, 1])
    mu = torch.stack([z[y == c].mean(0) for c in range(3)])
    counts, eps = torch.tensor([4.0, 4.0, 1.0]).double(), torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    value = classwise_loss(z, y, mu, eps, own_factor=leave_one_out_factor(counts))
    for i, c in enumerate(y.tolist()):
        others = z[(y == c) & (torch.arange(9) != i)]
        moved = mu.clone()
        if len(others):
            moved[c] = others.mean(0)
        expected = classwise_loss(z[i : i + 1], y[i : i + 1], moved, eps)
        assert float(value[i]) == pytest.approx(float(expected), rel=1e-12)


# ---- what it promises ----


def worst_over_the_balls(z: Tensor, y: Tensor, mu: Tensor, eps: Tensor, log_prior: Tensor, **options: Any) -> Tensor:
    """Largest -log P(y | z) over the product of the balls, by projected gradient ascent from several starts, (B,)."""
    f = {"euclidean": lambda r: r, "student_t": lambda r: torch.log1p(r**2), "cosine": lambda r: r**2 / 2}
    if options["distance"] == "cosine":
        z, mu = z / z.norm(dim=1, keepdim=True), mu / mu.norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    shift = torch.randn(4, len(z), *mu.shape, generator=generator, dtype=z.dtype)  # (starts, B, C, D)

    def project(shift: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(shift, dim=-1, keepdim=True).clamp(min=1e-200)
        return shift * (eps[:, None] / norm).clamp(max=1.0)

    def nll(shift: Tensor) -> Tensor:  # (starts, B)
        d = f[options["distance"]](torch.linalg.vector_norm(mu + shift - z[:, None], dim=-1))
        logits = log_prior - d / options["temperature"]
        return logits.logsumexp(-1) - logits.gather(-1, y.expand(len(shift), -1)[..., None])[..., 0]

    shift, best = project(shift), torch.full((len(z),), -torch.inf, dtype=z.dtype)
    for step in range(1000):
        shift = shift.detach().requires_grad_()
        value = nll(shift)
        best = torch.maximum(best, value.detach().amax(0))
        (slope,) = torch.autograd.grad(value.sum(), shift)
        slope = slope / torch.linalg.vector_norm(slope, dim=-1, keepdim=True).clamp(min=1e-200)
        shift = project(shift + 3 * 0.97**step * eps[:, None] * slope)
    return best


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_it_is_the_worst_case_over_the_product_of_the_balls(distance: Any, temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (40,), generator=generator)
    mu = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    eps = torch.tensor([0.1, 0.5, 1.0, 0.3], dtype=torch.float64)  # some balls hold the sample itself
    log_prior = torch.tensor([5.0, 1.0, 2.0, 9.0], dtype=torch.float64).log()
    options = {"temperature": temperature, "distance": distance, "log_prior": log_prior}
    value = classwise_loss(z, y, mu, eps, **options)
    worst = worst_over_the_balls(z, y, mu, eps, **options)
    assert float((value - worst).abs().max()) < 1e-9


def test_it_bounds_the_loss_of_the_true_centroids_as_often_as_the_balls_hold_them() -> None:
    generator = torch.Generator().manual_seed(1)
    trials, counts, coverage = 4000, torch.tensor([40, 8, 3]), 0.8
    true = torch.randn(trials, 3, 4, generator=generator, dtype=torch.float64)
    z = true[:, 0] + torch.randn(trials, 4, generator=generator, dtype=torch.float64)
    y = torch.zeros(trials, dtype=torch.long)
    error = torch.randn(trials, 3, 4, generator=generator, dtype=torch.float64) / counts.double().sqrt()[:, None]
    eps = coverage_radius(coverage, counts, torch.full((3,), 4.0), torch.tensor(4.0))  # unit variance in each of 4
    held = (error.norm(dim=-1) <= eps).all(1)

    def losses(radii: Tensor, centroids: Tensor) -> Tensor:
        rows = [classwise_loss(z[i : i + 1], y[i : i + 1], centroids[i], radii) for i in range(trials)]
        return torch.cat(rows)

    nll = losses(torch.zeros(3, dtype=torch.float64), true)
    bound = losses(eps, true + error)
    assert bool((bound >= nll - 1e-12)[held].all())
    assert float(held.double().mean()) == pytest.approx(coverage**3, abs=0.02)
    assert float((bound >= nll).double().mean()) >= 1 - 3 * (1 - coverage)
    plain = losses(torch.zeros(3, dtype=torch.float64), true + error)
    assert float((plain >= nll).double().mean()) < coverage**3  # without radii it bounds about half of them


@settings(max_examples=40, database=None)
@given(batch=batches(), distance=st.sampled_from(DISTANCES), seed=st.integers(0, 1000))
def test_a_sample_does_not_see_its_batch(batch: tuple[Tensor, ...], distance: Any, seed: int) -> None:
    z, y, mu, eps = batch
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    value = classwise_loss(z, y, mu, eps, distance=distance)
    torch.testing.assert_close(classwise_loss(z[order], y[order], mu, eps, distance=distance), value[order])
    alone = classwise_loss(z[:1], y[:1], mu, eps, distance=distance)
    torch.testing.assert_close(alone, value[:1])


@settings(max_examples=40, database=None)
@given(batch=batches(), distance=st.sampled_from(DISTANCES), which=st.integers(0, 4))
def test_no_larger_ball_is_easier(batch: tuple[Tensor, ...], distance: Any, which: int) -> None:
    z, y, mu, eps = batch
    eps.requires_grad_()
    value = classwise_loss(z, y, mu, eps, distance=distance)
    for row in value:
        (slope,) = torch.autograd.grad(row, eps, retain_graph=True)
        assert float(slope.min()) >= 0
    wider = eps.detach().clone()
    wider[which % len(mu)] += 0.7
    assert bool((classwise_loss(z, y, mu, wider, distance=distance) >= value.detach() - 1e-12).all())


def test_slopes_by_hand() -> None:
    # Own radius: 1 - own mass, over T. Another's: its own share, unless its ball holds the sample.
    z, y = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([0])
    mu = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.2, 0.0]], dtype=torch.float64)
    eps = torch.tensor([0.5, 1.0, 0.3], dtype=torch.float64, requires_grad=True)
    classwise_loss(z, y, mu, eps, temperature=0.5).sum().backward()
    shares = torch.tensor([0.0, -0.5 / 0.5, 1.5 / 0.5], dtype=torch.float64).softmax(0)
    expected = torch.stack([1 - shares[0], shares[1], 0 * shares[2]]) / 0.5
    torch.testing.assert_close(eps.grad, expected)


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients(distance: Any) -> None:
    z, y, mu, _ = random_batch(11, [1, 0, 1, 2, 0], 4, 3, torch.float64)
    z = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(5), dtype=z.dtype)  # not on a centroid
    eps = torch.tensor([0.03, 0.2, 0.05, 0.1], dtype=torch.float64, requires_grad=True)
    more = extras(4, y)

    def loss(features: Tensor, radii: Tensor) -> Tensor:
        return classwise_loss(features, y, mu, radii, temperature=0.8, distance=distance, **more)

    assert torch.autograd.gradcheck(loss, (z.requires_grad_(), eps))


def test_no_gradient_reaches_the_centroids() -> None:
    z, y, mu, eps = random_batch(0, [0, 1, 1], 2, 2, torch.float32)
    mu.requires_grad_()
    classwise_loss(z.requires_grad_(), y, mu, eps).sum().backward()
    assert mu.grad is None
    assert z.grad is not None
    assert bool(z.grad.any())


# ---- the edges of the numbers ----


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("temperature", [0.01, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_from_distance_zero_to_ten_thousand(distance: Any, temperature: float, dtype: torch.dtype) -> None:
    z = torch.tensor([[0.0, 0], [0, 0], [1e-3, 0], [0, 1], [1e4, 0], [0, -1e4]], dtype=dtype, requires_grad=True)
    y, mu = torch.tensor([0, 1, 0, 2, 1, 0]), torch.tensor([[0.0, 0], [0, 0], [1e4, 1e4]], dtype=dtype)
    for radius in (0.0, 0.5, 1e4):
        eps = torch.full((3,), radius, dtype=dtype, requires_grad=True)
        value = classwise_loss(z, y, mu, eps, temperature=temperature, distance=distance)
        slopes = torch.autograd.grad(value.sum(), (z, eps))
        assert all(bool(tensor.isfinite().all()) for tensor in (value, *slopes))


def test_one_class_leaves_nothing_to_ask() -> None:
    z = torch.tensor([[3.0, 4.0]], requires_grad=True)
    value = classwise_loss(z, torch.tensor([0]), torch.ones(1, 2), torch.ones(1))
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert value.tolist() == [0.0]
    assert slope.tolist() == [[0.0, 0.0]]


def test_a_class_that_is_left_out_could_be_anywhere() -> None:
    z, y, mu, eps = random_batch(2, [0, 1, 3, 0], 4, 3, torch.float64)
    log_prior = torch.tensor([0.0, 0.0, -math.inf, 0.0], dtype=torch.float64)
    there = [0, 1, 3]
    expected = classwise_loss(z, torch.tensor([0, 1, 2, 0]), mu[there], eps[there])
    for place in (mu[2], z[0], 0 * z[0], math.nan * z[0]):
        mu[2] = place
        z.requires_grad_()
        value = classwise_loss(z, y, mu, eps, log_prior=log_prior)
        torch.testing.assert_close(value, expected)
        (slope,) = torch.autograd.grad(value.sum(), z)
        assert bool(slope.isfinite().all())
        z.requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("distance", DISTANCES)
def test_half_precision_is_raised(dtype: torch.dtype, distance: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(40, 16, generator=generator).to(dtype), torch.randint(0, 4, (40,), generator=generator)
    mu, eps = torch.randn(4, 16, generator=generator), torch.ones(4)
    expected = classwise_loss(z.float(), y, mu, eps, distance=distance)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = classwise_loss(z, y, mu, eps, distance=distance)
    for value in (classwise_loss(z, y, mu, eps, distance=distance), under_autocast):
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest result of any operation."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        results = function(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple | list) else (results,):
            if isinstance(result, Tensor):
                self.largest = max(self.largest, result.numel())
        return results


@pytest.mark.parametrize("distance", DISTANCES)
def test_memory_is_a_row_of_classes_for_each_sample(distance: Any) -> None:
    z, y, mu, eps = random_batch(1, [c % 7 for c in range(24)], 500, 16, torch.float32)
    with LargestTensor() as spy:
        classwise_loss(z.requires_grad_(), y, mu, eps, distance=distance).sum().backward()
    assert spy.largest == 24 * 500  # B C; B C D would be 192,000


def test_refusals() -> None:
    z, y, mu, eps = random_batch(0, [0, 1], 3, 3, torch.float32)
    for options, message in (
        ({"temperature": 0.0}, "^temperature must be"),
        ({"temperature": torch.tensor(2.0)}, "^temperature must be a number, not a tensor"),
        ({"distance": "l1"}, "^distance must be one of .*'l1'"),
        ({"log_prior": torch.zeros(2)}, "^log_prior must have shape"),
        ({"log_prior": torch.tensor([0.0, -math.inf, 0.0])}, "^log_prior must be finite for the classes of targets"),
        ({"log_prior": torch.tensor([0.0, 0.0, math.nan])}, "^log_prior must be < inf"),
        ({"own_factor": torch.ones(2)}, "^own_factor must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            classwise_loss(z, y, mu, eps, **options)
    for arguments, message in (
        ((z[0], y, mu, eps), "matrices"),
        ((z, y[:1], mu, eps), "^targets must have shape"),
        ((z, y.float(), mu, eps), "^targets must be integers"),
        ((z, y + 2, mu, eps), r"^targets must be in \[0, 3\), got 2 to 3"),
        ((z, y, mu[:, :2], eps), "^centroids must have shape"),
        ((z, y, mu, eps[:1]), "^eps must have shape"),
        ((z, y, mu, -eps), "^eps must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            classwise_loss(*arguments)
