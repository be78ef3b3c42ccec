"""The parametric contrastive loss against a loop from its formula, in float64."""

import math

import pytest
import torch

from drolt_pl.losses.parametric import parametric_contrastive

C, E = 4, 6


def by_loop(queries, targets, centres, keys, key_targets, temperature, alpha, smoothing) -> float:  # type: ignore[no-untyped-def]
    losses = []
    for i in range(len(queries)):
        scores = [(float(value), float(c == targets[i])) for c, value in enumerate(centres[i])]
        weights = [1 - smoothing if own else smoothing / (C - 1) for _, own in scores]
        values = [value for value, _ in scores]
        for j in range(len(keys)):
            if j == i or key_targets[j] < 0:
                continue
            cosine = queries[i] @ keys[j] / (queries[i].norm() * keys[j].norm())
            values.append(float(cosine) / temperature)
            weights.append(alpha * float(key_targets[j] == targets[i]))
        total = sum(math.exp(value) for value in values)
        log_p = [value - math.log(total) for value in values]
        losses.append(-sum(w * p for w, p in zip(weights, log_p, strict=True)) / sum(weights))
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("alpha", "smoothing"), [(0.01, 0.0), (0.5, 0.2), (0.0, 0.0)])
def test_it_is_its_formula(alpha: float, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(5, E, generator=generator, dtype=torch.float64)
    keys = torch.cat([queries, torch.randn(7, E, generator=generator, dtype=torch.float64)])
    targets = torch.tensor([0, 1, 1, 3, 0])
    key_targets = torch.cat([targets, torch.tensor([0, -1, 2, 1, 3, -1, 0])])
    centres = torch.randn(5, C, generator=generator, dtype=torch.float64)
    given = {"temperature": 0.3, "alpha": alpha, "smoothing": smoothing}
    found = parametric_contrastive(queries, targets, centres, keys, key_targets, **given)
    expected = by_loop(queries, targets.tolist(), centres, keys, key_targets.tolist(), **given)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_without_keys_it_is_cross_entropy() -> None:
    queries, targets = torch.randn(3, E), torch.tensor([0, 2, 1])
    centres = torch.randn(3, C, requires_grad=True)
    found = parametric_contrastive(queries, targets, centres, queries, torch.full((3,), -1))
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(centres, targets))
    found.backward()
    assert bool(centres.grad.isfinite().all())
