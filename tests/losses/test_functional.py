"""The robust loss against explicit loops, against the worst centroid of the ball, and at the edges of the numbers."""

import itertools
import math
from typing import Any

import pytest
import torch
from helpers.losses_reference import distance_of, reference_robust, worst_nll
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from drolt_pl.losses.euclidean import PAIRS
from drolt_pl.losses.functional import (
    BOUNDS,
    DISTANCES,
    exponents,
    pairwise_distance,
    robust_loss,
    second_branch_share,
    unit_vectors,
)

FORMS = [(b, d) for b, d in itertools.product(BOUNDS, DISTANCES) if b != "tight" or d == "euclidean"]


def random_batch(seed: int, targets: list[int], num_classes: int, width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Features, targets, centroids, radii; some samples repeated, some on their centroid."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.tensor(targets)
    centroids = 2 * torch.randn(num_classes, width, generator=generator, dtype=torch.float64)
    z = torch.randn(len(y), width, generator=generator, dtype=torch.float64) + centroids[y]
    repeated = torch.rand(len(y), generator=generator) < 0.15
    z[repeated] = z[0].clone()
    on_centroid = torch.rand(len(y), generator=generator) < 0.1
    z[on_centroid] = centroids[y][on_centroid]
    eps = torch.rand(num_classes, generator=generator, dtype=torch.float64)
    return z.to(dtype), y, centroids.to(dtype), eps.to(dtype)


@st.composite
def batches(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Unsorted labels with classes missing, singletons and batches of one class or one sample."""
    num_classes = draw(st.integers(1, 5))
    targets = draw(st.lists(st.integers(0, num_classes - 1), min_size=1, max_size=8))
    return random_batch(draw(st.integers(0, 10**6)), targets, num_classes, draw(st.integers(1, 4)), dtype)


@pytest.mark.parametrize(("bound", "distance"), FORMS)
@settings(max_examples=40, database=None)
@given(batch=batches(), temperature=st.sampled_from([0.1, 1.0, 7.0]))
def test_agrees_with_loops_in_float64(bound: str, distance: str, batch: tuple[Tensor, ...], temperature: float) -> None:
    options = {"temperature": temperature, "bound": bound, "distance": distance}
    assert robust_loss(*batch, **options).tolist() == pytest.approx(
        reference_robust(*batch, **options), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize(("bound", "distance"), FORMS)
@settings(max_examples=25, database=None)
@given(
    batch=batches(torch.float32),
    scale=st.sampled_from([1e-3, 1.0, 1e2, 1e4]),
    offset=st.sampled_from([0.0, 1e4]),
    temperature=st.sampled_from([0.01, 0.1, 1.0, 10.0]),
)
def test_agrees_with_loops_in_float32_at_every_scale(
    bound: str, distance: str, batch: tuple[Tensor, ...], scale: float, offset: float, temperature: float
) -> None:
    z, y, centroids, eps = batch
    batch = (scale * z + offset, y, scale * centroids + offset, scale * eps)
    options = {"temperature": temperature, "bound": bound, "distance": distance}
    value = robust_loss(*batch, **options)
    assert value.dtype == torch.float32
    assert value.tolist() == pytest.approx(reference_robust(*batch, **options), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_loss_near_zero_keeps_its_digits(bound: str) -> None:
    z, y = torch.tensor([[0.0], [12.0], [13.0]]), torch.tensor([0, 1, 2])
    batch = (z, y, z + 0.5, torch.full((3,), 0.1))
    options = {"temperature": 0.9, "bound": bound, "distance": "euclidean"}
    expected = reference_robust(*batch, **options)
    assert 0 < expected[0] < 1e-4
    assert robust_loss(*batch, **options).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bound", BOUNDS)
def test_float32_samples_at_almost_equal_distances(bound: str) -> None:
    # Distances of 1e4 that differ by 1e-3: computed in float32, they and the loss would be noise at T = 0.01.
    directions = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    z = 1e4 * directions / directions.norm(dim=1, keepdim=True)
    rest = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0]), torch.zeros(2, 32), torch.tensor([0.0, 1e-3])
    options = {"temperature": 0.01, "bound": bound, "distance": "euclidean"}
    expected = reference_robust(z, *rest, **options)
    assert robust_loss(z, *rest, **options).tolist() == pytest.approx(expected, rel=1e-5)


def test_keys_weights_and_positions() -> None:
    z, y, centroids, eps = random_batch(3, [2, 0, 1, 0, 2, 1, 0], 3, 4, torch.float64)
    weights = torch.rand(7, generator=torch.Generator().manual_seed(1)) + 0.5
    queries = torch.tensor([5, 1, 3])
    for bound, distance in FORMS:
        options = {"temperature": 0.7, "bound": bound, "distance": distance}
        value = robust_loss(
            z[queries],
            y[queries],
            centroids,
            eps,
            keys=z,
            key_targets=y,
            key_log_weights=weights.log(),
            self_index=queries,
            **options,
        )
        expected = reference_robust(z, y, centroids, eps, key_weights=weights.tolist(), **options)
        assert value.tolist() == pytest.approx([expected[i] for i in queries], rel=1e-6)


@pytest.mark.parametrize(("bound", "distance"), FORMS)
def test_gradients(bound: str, distance: str) -> None:
    z, y, centroids, _ = random_batch(11, [1, 0, 1, 2, 0], 4, 3, torch.float64)
    z = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(5), dtype=z.dtype)  # no repeats
    eps = torch.tensor([0.3, 0.2, 0.5, 1.0], dtype=torch.float64, requires_grad=True)

    def loss(features: Tensor, radii: Tensor) -> Tensor:
        return robust_loss(features, y, centroids, radii, temperature=0.8, bound=bound, distance=distance)

    assert torch.autograd.gradcheck(loss, (z.requires_grad_(), eps))


@pytest.mark.parametrize("bound", BOUNDS)
def test_gradients_reach_queries_and_keys_apart(bound: str) -> None:
    z, y, centroids, eps = random_batch(4, [1, 0, 1, 2, 0, 2], 3, 3, torch.float64)
    z = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(6), dtype=z.dtype)

    def loss(features: Tensor, keys: Tensor) -> Tensor:
        return robust_loss(features, y[2:4], centroids, eps, bound=bound, keys=keys, key_targets=y, self_index=rows)

    rows = torch.tensor([2, 3])
    assert torch.autograd.gradcheck(loss, (z[2:4].clone().requires_grad_(), z.clone().requires_grad_()))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("bound", ["paper", "negatives", "sample"])
def test_many_pairs_go_in_blocks_of_queries(bound: Any, apart: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    y = torch.randint(7, (900 if apart else 450,), generator=generator)
    z, centroids, eps = (torch.randn(size, generator=generator) for size in ((len(y), 5), (9, 5), (9,)))
    rows = torch.randperm(len(z), generator=generator)[:300]
    assert (len(rows) if apart else len(z)) * len(z) > PAIRS
    weights, factors = torch.rand(len(z), generator=generator), torch.rand(len(z), generator=generator)
    found = []
    for dtype in (torch.float32, torch.float64):  # in float64 all pairs go at once, by torch's own operations
        own, keys, radii = (value.to(dtype, copy=True).requires_grad_() for value in (z[rows], z, eps.abs()))
        options = {"keys": keys, "key_targets": y, "key_log_weights": weights.to(dtype), "self_index": rows}
        queries, leaves = ((own, y[rows]), (own, keys, radii)) if apart else ((keys, y), (keys, radii))
        rest = {"bound": bound, "temperature": 0.7, **(options if apart else {})}
        loss = robust_loss(*queries, centroids.to(dtype), radii, **rest)
        slopes = torch.autograd.grad((loss * factors[: len(loss)].to(dtype)).sum(), leaves)
        found.append([value.detach().double() for value in (loss, *slopes)])
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-5)


def test_it_compiles_as_one_graph() -> None:
    z, y, centroids, eps = random_batch(1, [0, 1, 1, 2], 3, 4, torch.float32)
    slopes = []
    for compiled in (False, True):
        loss = torch.compile(robust_loss, backend="aot_eager", fullgraph=True) if compiled else robust_loss
        leaf = z.clone().requires_grad_()
        loss(leaf, y, centroids, eps).sum().backward()
        slopes.append(leaf.grad)
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("bound", "distance"), FORMS)
def test_torch_func_has_the_same_gradients(bound: Any, distance: Any, dtype: torch.dtype) -> None:
    z, y, centroids, eps = random_batch(1, [0, 1, 1, 2], 3, 600, dtype)  # wide enough for every way of computing
    keys = {"keys": torch.cat([z, z + 1]), "key_targets": torch.cat([y, y])}

    def loss(features: Tensor, radii: Tensor, others: Tensor | None) -> Tensor:
        options = {} if others is None else {**keys, "keys": others}
        return robust_loss(features, y, centroids, radii, bound=bound, distance=distance, **options).sum()

    for others in (None, keys["keys"]):
        arguments = (z, eps) if others is None else (z, eps, others)
        leaves = [argument.clone().requires_grad_() for argument in arguments]
        expected = torch.autograd.grad(loss(*leaves, *[None] * (3 - len(leaves))), leaves)
        found = torch.func.grad(loss, tuple(range(len(arguments))))(*arguments, *[None] * (3 - len(arguments)))
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_no_gradient_reaches_the_centroids() -> None:
    z, y, centroids, eps = random_batch(0, [0, 1, 1], 2, 2, torch.float32)
    centroids.requires_grad_()
    value = robust_loss(z.requires_grad_(), y, centroids, eps).sum()
    value.backward()
    assert centroids.grad is None
    assert z.grad is not None
    assert bool(z.grad.any())


@settings(max_examples=40, database=None)
@given(batch=batches(), form=st.sampled_from(FORMS), seed=st.integers(0, 1000))
def test_permuting_the_batch_changes_nothing(batch: tuple[Tensor, ...], form: tuple[str, str], seed: int) -> None:
    z, y, centroids, eps = batch
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    options = {"bound": form[0], "distance": form[1]}
    value = robust_loss(z, y, centroids, eps, **options)
    torch.testing.assert_close(robust_loss(z[order], y[order], centroids, eps, **options), value[order])


def instances(distance: str, count: int = 300) -> tuple[Tensor, ...]:
    """(M, K, D) samples, (M, K) classes of which sample 0 has class 0, (M, D) centroid of class 0, (M,) eps and T."""
    generator = torch.Generator().manual_seed(7)
    z = torch.randn(count, 6, 2, generator=generator, dtype=torch.float64)
    mu = 0.7 * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    if distance == "cosine":
        z, mu = z / z.norm(dim=-1, keepdim=True), mu / mu.norm(dim=-1, keepdim=True)
    y = (torch.rand(count, 6, generator=generator) < 0.5).long()
    y[:, 0] = 0
    eps = 1.5 * torch.rand(count, generator=generator, dtype=torch.float64)
    temperature = 10 ** (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1)
    return z, y, mu, eps, temperature


def first_robust(
    z: Tensor, y: Tensor, mu: Tensor, eps: Tensor, temperature: Tensor, bound: str, distance: str
) -> Tensor:
    """robust_0 of every instance, (M,)."""
    rows = zip(z, y, mu, eps, temperature, strict=True)
    return torch.stack(
        [
            robust_loss(
                samples[:1],
                classes[:1],
                torch.stack([centre, centre]),
                radius.expand(2),
                temperature=float(t),
                bound=bound,
                distance=distance,
                keys=samples,
                key_targets=classes,
            )[0]
            for samples, classes, centre, radius, t in rows
        ]
    )


@pytest.mark.parametrize(("bound", "distance"), [form for form in FORMS if form[0] != "paper"])
def test_never_below_the_worst_centroid_of_the_ball(bound: str, distance: str) -> None:
    z, y, mu, eps, temperature = instances(distance)
    member = torch.ones_like(y, dtype=torch.bool)
    if bound == "negatives":  # Z_i: the sample itself and the other classes
        member = y != 0
        member[:, 0] = True
    worst = worst_nll(z, mu, eps, temperature, member, distance)
    value = first_robust(z, y, mu, eps, temperature, bound, distance)
    assert bool((value >= worst - 1e-9).all())
    # The search is a search: at the centroid itself the loss is smaller, and half the margin would be too small.
    at_centroid = first_robust(z, y, mu, torch.zeros_like(eps), temperature, "sample", distance)
    assert (worst > at_centroid + 1e-3).double().mean() > 0.5 or bound == "negatives"
    too_small = first_robust(z, y, mu, eps / 2, temperature, bound, distance)
    assert bool((too_small < worst - 1e-6).any())


def test_theorem_1_does_not_hold_as_printed() -> None:
    # One class, Z = {+1, -1}, its estimated centroid 0, eps = 0.5: at mu = -0.5, inside the ball, -log P(+1 | mu) is
    # log(1 + e) = 1.313, while the right side of Eq. 11 is log 2 = 0.693.
    z, y = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 0])
    mu, eps = torch.zeros(1, 1), torch.tensor([0.5])
    true = torch.log(torch.tensor(math.exp(-1.5) + math.exp(-0.5))) + 1.5
    assert float(true) == pytest.approx(1.3133, abs=1e-4)
    assert float(robust_loss(z, y, mu, eps, bound="paper")[0]) == pytest.approx(0.6931, abs=1e-4)
    for bound in ("sample", "tight"):
        assert float(robust_loss(z, y, mu, eps, bound=bound)[0]) >= float(true) - 1e-6


@settings(max_examples=60, database=None)
@given(batch=batches(), temperature=st.sampled_from([0.1, 1.0, 10.0]))
def test_tight_lies_between_the_nll_and_sample(batch: tuple[Tensor, ...], temperature: float) -> None:
    z, y, centroids, eps = batch
    tight = robust_loss(z, y, centroids, eps, temperature=temperature, bound="tight")
    sample = robust_loss(z, y, centroids, eps, temperature=temperature, bound="sample")
    d = distance_of("euclidean", centroids[y][:, None], z[None])  # (B, B)
    nll = torch.logsumexp((d.diagonal()[:, None] - d) / temperature, 1)
    slack = 1e-10 * (1 + nll.abs())
    assert bool((tight <= sample + slack).all())
    assert bool((tight >= nll - slack).all())
    at_zero = robust_loss(z, y, centroids, torch.zeros_like(eps), temperature=temperature, bound="tight")
    torch.testing.assert_close(at_zero, nll, rtol=1e-9, atol=1e-9)


@settings(max_examples=60, database=None)
@given(batch=batches(), form=st.sampled_from(FORMS))
def test_a_larger_ball_is_never_easier(batch: tuple[Tensor, ...], form: tuple[str, str]) -> None:
    z, y, centroids, eps = batch
    eps.requires_grad_()
    for value in robust_loss(z, y, centroids, eps, bound=form[0], distance=form[1]):
        (slope,) = torch.autograd.grad(value, eps, retain_graph=True)
        assert float(slope.min()) >= 0


def test_slope_of_the_paper_bound() -> None:
    z, y, centroids, eps = random_batch(5, [0, 1, 0, 2, 1, 0], 3, 3, torch.float64)
    value = robust_loss(z, y, centroids, eps.requires_grad_(), temperature=0.5)[0]
    mass = torch.softmax(exponents(z, y, centroids, eps.detach())[0] / 0.5, 0)[y == y[0]].sum()
    value.backward()
    assert eps.grad is not None
    assert float(eps.grad[0]) == pytest.approx(2 / 0.5 * (1 - float(mass)))


@pytest.mark.parametrize(("bound", "distance"), FORMS)
@pytest.mark.parametrize("temperature", [0.01, 10.0])
def test_finite_from_distance_zero_to_ten_thousand(bound: str, distance: str, temperature: float) -> None:
    z = torch.tensor([[0.0, 0], [0, 0], [1e-3, 0], [0, 1], [1e4, 0], [0, -1e4]], requires_grad=True)
    y, centroids = torch.tensor([0, 1, 0, 2, 1, 0]), torch.tensor([[0.0, 0], [0, 0], [1e4, 1e4]])
    for size in (1, 2, 6):
        value = robust_loss(
            z[:size],
            y[:size],
            centroids,
            torch.full((3,), 0.5),
            temperature=temperature,
            bound=bound,
            distance=distance,
        )
        (slope,) = torch.autograd.grad(value.sum(), z)
        assert bool(value.isfinite().all())
        assert bool(slope.isfinite().all())


def test_alone_in_the_batch_nothing_is_left() -> None:
    z = torch.tensor([[3.0, 4.0]], requires_grad=True)
    for bound, distance in FORMS:
        value = robust_loss(z, torch.tensor([1]), torch.ones(2, 2), torch.ones(2), bound=bound, distance=distance)
        (slope,) = torch.autograd.grad(value.sum(), z)
        assert value.tolist() == [0.0]
        assert slope.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_batch_has_no_losses(dtype: torch.dtype) -> None:
    z, y = torch.zeros(0, 2, dtype=dtype, requires_grad=True), torch.zeros(0, dtype=torch.long)
    for bound, distance in FORMS:
        value = robust_loss(z, y, torch.ones(3, 2), torch.ones(3), bound=bound, distance=distance)
        (slope,) = torch.autograd.grad(value.sum(), z)
        assert (value.shape, value.dtype, slope.shape) == ((0,), dtype, (0, 2))


def test_centroids_may_come_from_inference_mode() -> None:
    """No backward keeps a tensor of that mode, so the loss takes a copy."""
    for dtype in (torch.float32, torch.float64):
        z, y, centroids, eps = random_batch(0, [0, 1, 1], 2, 3, dtype)
        with torch.inference_mode():
            inferred = centroids.clone()
        for bound, distance in FORMS:
            slopes = []
            for means in (centroids, inferred):
                leaf = z.clone().requires_grad_()
                robust_loss(leaf, y, means, eps, bound=bound, distance=distance).sum().backward()
                slopes.append(leaf.grad)
            assert torch.equal(*slopes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [8, 64])  # torch's own distances change their method above 25 rows
def test_half_precision_is_raised(dtype: torch.dtype, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(size, 16, generator=generator).to(dtype)
    y = torch.randint(0, 4, (size,), generator=generator)
    centroids, eps = torch.randn(4, 16, generator=generator), torch.ones(4)
    for bound, distance in FORMS:
        options = {"bound": bound, "distance": distance}
        expected = robust_loss(z.float(), y, centroids, eps, **options)
        value = robust_loss(z, y, centroids, eps, **options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under_autocast = robust_loss(z, y, centroids, eps, **options)
        assert value.dtype == under_autocast.dtype == torch.float32
        assert torch.equal(value, expected)
        assert torch.equal(under_autocast, expected)


@pytest.mark.parametrize("rows", [25, 26])
def test_distances_are_exact_near_zero(rows: int) -> None:
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(0)) + 1e3
    distances = pairwise_distance(x, x, by_product=False)
    assert distances.diagonal().tolist() == [0.0] * rows
    double = x.double()
    exact = pairwise_distance(double, double, by_product=False)
    torch.testing.assert_close(distances.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(pairwise_distance(double, double, by_product=True), exact, rtol=0, atol=1e-8 * 3e3)


@pytest.mark.parametrize("bound", ["paper", "negatives", "sample"])
@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.parametrize("width", [60, 600])  # above 512, features are taken apart and queries of a class together
def test_float32_takes_a_faster_way_to_the_same_values_and_gradients(bound: Any, with_keys: bool, width: int) -> None:
    generator = torch.Generator().manual_seed(3)
    z = 5 + torch.randn(40, width, generator=generator)
    y = torch.randint(7, (40,), generator=generator)
    centroids, eps = 5 + torch.randn(7, width, generator=generator), torch.rand(7, generator=generator)
    weights = torch.rand(40, generator=generator)
    z[0] = centroids[y[0]]  # distance 0 to its own centroid
    found = []
    for dtype in (torch.float32, torch.float64):
        inputs = [tensor.to(dtype, copy=True).requires_grad_() for tensor in (z[:24] if with_keys else z, z, eps)]
        queries, keys, radii = inputs
        options = {"keys": keys, "key_targets": y, "key_log_weights": weights.to(dtype)} if with_keys else {}
        value = robust_loss(
            queries, y[: len(queries)], centroids.to(dtype), radii, bound=bound, temperature=2.0, **options
        )
        value.square().sum().backward()
        found.append([value.double(), *(tensor.grad.double() for tensor in inputs if tensor.grad is not None)])
    assert len(found[0]) == len(found[1]) == (4 if with_keys else 3)
    for fast, exact in zip(*found, strict=True):
        torch.testing.assert_close(fast, exact, rtol=1e-5, atol=1e-6)


def test_a_zero_vector_has_a_direction_without_infinities() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    unit = unit_vectors(x)
    unit.square().sum().backward()
    assert unit.tolist() == [[0.0, 0.0], [pytest.approx(0.6), pytest.approx(0.8)]]
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_share_of_the_second_branch() -> None:
    z, y, mu = torch.tensor([[0.0], [1.0], [-1.0]]), torch.tensor([0, 1, 1]), torch.tensor([[0.0], [0.5]])
    # Pairs (i, j): d_i - d_j + 2 eps against |z_i - z_j|; query 0 from 0, queries 1 and 2 from 0.5.
    # (0,1), (0,2): -1 + 2 eps, 1. (1,0): 2 eps, 1. (1,2): -1 + 2 eps, 2. (2,0): 1 + 2 eps, 1. (2,1): 1 + 2 eps, 2.
    for eps, share in ((0.1, 1 / 6), (0.6, 3 / 6), (1.1, 5 / 6), (2.0, 1.0)):
        assert float(second_branch_share(z, y, mu, torch.full((2,), eps))) == pytest.approx(share)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest result of any operation."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        results = function(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple | list) else (results,):
            if isinstance(result, Tensor):
                self.largest = max(self.largest, result.numel())
        return results


@pytest.mark.parametrize(("bound", "distance"), FORMS)
def test_memory_is_quadratic_in_the_batch_and_no_more(bound: str, distance: str) -> None:
    z, y, centroids, eps = random_batch(1, [c % 7 for c in range(24)], 500, 16, torch.float32)
    z.requires_grad_()
    with LargestTensor() as spy:
        robust_loss(z, y, centroids, eps, bound=bound, distance=distance).sum().backward()
    assert 24 * 24 <= spy.largest <= centroids.numel()  # the centroids themselves, detached; B C D would be 192,000


def test_refusals() -> None:
    z, y, centroids, eps = random_batch(0, [0, 1], 2, 3, torch.float32)
    wrong = [
        ({"temperature": 0.0}, "^temperature must be"),
        ({"temperature": torch.tensor(2.0)}, "^temperature must be a number, not a tensor"),
        ({"temperature": math.nan}, "^temperature must be"),
        ({"bound": "papre"}, "^bound must be one of .*'papre'"),
        ({"distance": "l1"}, "^distance must be one of .*'l1'"),
        ({"bound": "tight", "distance": "cosine"}, "^distance must be 'euclidean'"),
        ({"keys": z}, "key_targets"),
        ({"keys": z[:, :2], "key_targets": y}, "^keys must have shape"),
        ({"keys": z[:1], "key_targets": y[:1]}, "^keys must hold every query"),
        ({"keys": z, "key_targets": y[:1]}, "^key_targets must have shape"),
        ({"key_log_weights": torch.zeros(3)}, "^key_log_weights must"),
        ({"self_index": torch.tensor([0])}, "^self_index must have shape"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            robust_loss(z, y, centroids, eps, **options)
    for arguments, message in (
        ((z[0], y, centroids, eps), "matrices"),
        ((z, y[:1], centroids, eps), "^targets must have shape"),
        ((z, y.float(), centroids, eps), "^targets must be integers"),
        ((z, torch.tensor([0, 2]), centroids, eps), r"^targets must be in \[0, 2\), got 0 to 2"),
        ((z, torch.tensor([-1, 0]), centroids, eps), "^targets must be in"),
        ((z, y, centroids[:, :2], eps), "^centroids must have shape"),
        ((z, y, centroids, eps[:1]), "^eps must have shape"),
        ((z, y, centroids, -eps), "^eps must be finite"),
        ((z, y, centroids, eps / 0), "^eps must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            robust_loss(*arguments)
