"""The pace of a student against loops from its formulas, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drolt_pl.losses.pacing import distillation, expert_weights, image_weights

SHARES = st.floats(0, 1)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@settings(max_examples=200)
@given(expert=st.floats(0.01, 1), student=SHARES, alpha=st.floats(0, 0.9))
def test_expert_weights_are_their_formula(expert: float, student: float, alpha: float) -> None:
    found = float(expert_weights(double(expert), double(student), alpha=alpha))
    falling = (expert - student) / (expert * (1 - alpha))
    expected = 0.0 if student >= expert else 1.0 if student <= alpha * expert else falling
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100)
@given(expert=SHARES, more=SHARES, alpha=st.floats(0, 0.9))
def test_a_student_as_good_as_the_expert_follows_it_no_more(expert: float, more: float, alpha: float) -> None:
    assert float(expert_weights(double(expert), double(expert + more), alpha=alpha)) == 0


def test_the_weight_falls_without_a_jump_from_1_to_0() -> None:
    students = torch.linspace(0, 1, 1001, dtype=torch.float64)
    weights = expert_weights(torch.full_like(students, 0.8), students, alpha=0.3)
    assert float(weights[0]) == 1
    assert bool((weights.diff() <= 0).all())
    assert float(weights.diff().abs().max()) < 0.002
    assert torch.equal(weights == 1, students <= 0.24 + 1e-12)


def test_what_is_not_measured_is_followed() -> None:
    nan = math.nan
    assert expert_weights(double(nan, 0.5, nan), double(0.5, nan, nan), alpha=0.3).tolist() == [1, 1, 1]


def test_image_weights_are_their_formula() -> None:
    for progress in (0.0, 0.25, 0.5, 0.9):
        found = image_weights(double(0.0, 0.3, 1.0), double(0.1, 0.5, 0.2), progress, full=0.5)
        for value, p, floor in zip(found.tolist(), (0.0, 0.3, 1.0), (0.1, 0.5, 0.2), strict=True):
            first = floor + (1 - floor) * p
            assert value == pytest.approx(first + (1 - first) * min(1, progress / 0.5))


@settings(max_examples=100)
@given(p=SHARES, easier=SHARES, floor=st.floats(0.01, 1), progress=SHARES, full=st.floats(0.01, 1))
def test_easy_images_count_no_less_and_all_count_in_the_end(
    p: float, easier: float, floor: float, progress: float, full: float
) -> None:
    floors = double(floor, floor)
    hard, easy = image_weights(double(p, max(p, easier)), floors, progress, full=full).tolist()
    assert floor - 1e-12 <= hard <= easy <= 1 + 1e-12
    assert image_weights(double(p), double(floor), full, full=full).tolist() == pytest.approx([1.0])


def test_distillation_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    total = 0.0
    for ours, theirs in zip(logits.tolist(), teacher.tolist(), strict=True):
        p, q = ([math.exp(v / 2) / sum(math.exp(w / 2) for w in row) for v in row] for row in (theirs, ours))
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 5
    assert float(distillation(logits, teacher, temperature=2.0)) == pytest.approx(total, rel=1e-9)
    assert float(distillation(teacher + 3, teacher, temperature=2.0)) == pytest.approx(0, abs=1e-12)
