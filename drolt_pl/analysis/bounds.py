"""The paper's Appendix B: the worst case over a ball, between a lower bound and each of the upper ones."""

import torch
from torch import Tensor

from drolt_pl.losses.functional import Bound, exponents, robust_loss
from drolt_pl.rows import Row

STEPS = 60  # of the projected ascent
OVER_ALL, OVER_OTHERS = "all keys", "itself and other classes"
VALID_OVER: dict[Bound, str] = {"paper": OVER_OTHERS, "negatives": OVER_OTHERS, "sample": OVER_ALL, "tight": OVER_ALL}


def spread_samples(targets: Tensor, number: int, *, seed: int = 0) -> Tensor:
    """Rows of samples that come from the classes in turn, (min(number, N),): as balanced as the classes allow.

    Args:
        targets: (N,).
        number: How many rows.
        seed: Decides the order of the classes and of the samples in each.
    """
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    classes = targets.cpu()[order]
    by_class = torch.argsort(classes, stable=True)
    counts = classes.bincount()
    turn = torch.arange(len(order)) - (counts.cumsum(0) - counts)[classes[by_class]]  # 0, 1, ... within each class
    turns = torch.empty_like(turn)
    turns[by_class] = turn
    return order[torch.argsort(turns, stable=True)[:number]]


@torch.no_grad()
def bound_rows(
    features: Tensor, targets: Tensor, centroids: Tensor, eps: Tensor, *, queries: int, temperature: float = 1.0
) -> list[Row]:
    """Means over queries, in nats, of the likelihood at the empirical centroid, its worst case, and the bounds.

    Two sums are looked at, since the bounds hold over different ones: over all keys, and over the query itself with the
    keys of other classes. `lower` is a value that the likelihood of no centroid in the ball falls below: with
    exponents d_i - d_j - 2 eps.

    Args:
        features: The keys, (K, D); the first `queries` of them are the queries too.
        targets: (K,).
        centroids: (C, D).
        eps: Radii, (C,).
        queries: Number of queries B; memory is O(B K).
        temperature: T of the loss.

    Returns:
        Rows `sum, quantity, nats`.
    """
    z, y = features[:queries].double(), targets[:queries]
    keys, mu = features.double(), centroids.double()
    worst = exponents(z, y, mu, eps.double(), "sample", keys=keys, key_targets=targets) / temperature
    same = y[:, None] == targets[None, :]
    itself = torch.eye(queries, len(keys), dtype=torch.bool, device=z.device)
    shift = (4 * eps.double()[y] / temperature)[:, None].expand_as(worst).masked_fill(itself, 0.0)
    rows: list[Row] = []
    start = mu[y]
    for over, kept in ((OVER_ALL, torch.ones_like(same)), (OVER_OTHERS, ~same | itself)):
        found = {
            "lower bound": (worst - shift).masked_fill(~kept, -torch.inf).logsumexp(1),
            "at the empirical centroid": likelihood(z, start, keys, kept, temperature),
            "worst in the ball": worst_case(z, start, eps.double()[y], keys, kept, temperature),
        }
        found |= {
            f"bound {name}": robust_loss(
                z, y, mu, eps.double(), temperature=temperature, bound=name, keys=keys, key_targets=targets
            )
            for name, valid_over in VALID_OVER.items()
            if valid_over == over or name == "paper"
        }
        rows += [{"sum": over, "quantity": name, "nats": value.mean().item()} for name, value in found.items()]
    return rows


def likelihood(z: Tensor, mu: Tensor, keys: Tensor, kept: Tensor, temperature: float = 1.0) -> Tensor:
    """Negative log-likelihood of each query under a centroid of its own, (B,): Eq. 6 over the keys that are kept.

    Args:
        z: Queries, (B, D).
        mu: Their centroids, (B, D).
        keys: (K, D).
        kept: Which keys the sum of a query runs over, (B, K); each query's own key among them.
        temperature: T.
    """
    own = torch.linalg.vector_norm(z - mu, dim=1)
    others = torch.cdist(mu, keys, compute_mode="donot_use_mm_for_euclid_dist")
    exponent = ((own[:, None] - others) / temperature).masked_fill(~kept, -torch.inf)
    value: Tensor = exponent.logsumexp(1)
    return value


def worst_case(
    z: Tensor, mu: Tensor, eps: Tensor, keys: Tensor, kept: Tensor, temperature: float = 1.0, steps: int = STEPS
) -> Tensor:
    """The largest `likelihood` over centroids in the ball of radius eps around mu, (B,), by projected gradient ascent.

    It starts at the far side of the ball as seen from the query, and at the side of the keys' mean; the larger end
    counts. It is a lower bound of the maximum itself, which no bound may fall below.

    Args:
        z: As in `likelihood`, and so are mu, keys, kept and temperature.
        mu: (B, D).
        keys: (K, D).
        kept: (B, K).
        temperature: T.
        eps: Radius of each query's ball, (B,).
        steps: Steps of the ascent.
    """
    best = likelihood(z, mu, keys, kept, temperature)
    for direction in (mu - z, keys.mean(0) - mu):
        offset = _unit(direction) * eps[:, None]
        for step in range(steps):
            with torch.enable_grad():
                moved = (mu + offset).requires_grad_()
                value = likelihood(z, moved, keys, kept, temperature)
                (slope,) = torch.autograd.grad(value.sum(), moved)
            best = torch.maximum(best, value.detach())
            offset = offset + _unit(slope) * eps[:, None] * 0.5 * (1 - step / steps)
            offset = offset * (eps / offset.norm(dim=1).clamp(min=1e-30)).clamp(max=1.0)[:, None]
        best = torch.maximum(best, likelihood(z, mu + offset, keys, kept, temperature))
    return best


def _unit(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / length.clamp(min=1e-30)
