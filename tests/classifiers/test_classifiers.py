import doctest
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from drolt_pl.classifiers import (
    Classifier,
    CosineClassifier,
    ExpertsClassifier,
    LinearClassifier,
    LWSClassifier,
    OLTRClassifier,
    ScaledLinearClassifier,
    linear,
)
from drolt_pl.classifiers.base import HeldOut
from drolt_pl.errors import SettingError
from drolt_pl.model.parts import CLASSIFIERS

D, C = 12, 5
Drawn = LinearClassifier | CosineClassifier


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("cls", [LinearClassifier, CosineClassifier])
def test_begin_draws_only_from_the_generator(cls: type[Drawn]) -> None:
    first, second, other = (cls(num_features=D, num_classes=C) for _ in range(3))
    before = torch.get_rng_state()
    first.begin(None, generator=seeded(1))
    second.begin(first, generator=seeded(1))
    other.begin(None, generator=seeded(2))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])


def test_begin_follows_the_law_of_torchs_linear_layer() -> None:
    ours = LinearClassifier(num_features=1000, num_classes=200)
    ours.begin(None, generator=seeded(0))
    torchs = nn.Linear(1000, 200)
    for mine, reference in zip(ours.parameters(), torchs.parameters(), strict=True):
        bound = 1000**-0.5
        assert mine.mean().abs().item() < 4 * bound / (3 * mine.numel()) ** 0.5
        assert mine.std().item() == pytest.approx(reference.std().item(), rel=0.15)
        assert 0.98 * bound < mine.abs().max() <= bound


def test_kaiming_normal_is_as_wide_as_in_ldams_code() -> None:
    """Standard deviation sqrt(2 / D): 0.177 at D = 64, where torch's is 0.072."""
    ours, torchs = (LinearClassifier(64, 1000, init=init) for init in ("kaiming_normal", "torch"))
    for classifier in (ours, torchs):
        classifier.begin(None, generator=seeded(0))
    reference = nn.init.kaiming_normal_(torch.empty(1000, 64), generator=seeded(1))
    assert ours.weight.std().item() == pytest.approx(reference.std().item(), rel=0.02)
    assert ours.weight.std().item() == pytest.approx(0.177, abs=0.003)
    assert torchs.weight.std().item() == pytest.approx(0.072, abs=0.001)
    assert torch.equal(ours.bias, torchs.bias)


def test_rare_sigmoids_start_at_one_over_the_classes() -> None:
    classifier = LinearClassifier(D, C, init="rare_sigmoid")
    classifier.begin(None, generator=seeded(0))
    torch.testing.assert_close(classifier(torch.zeros(1, D)).sigmoid(), torch.full((1, C), 1 / C))
    plain = LinearClassifier(D, C)
    plain.begin(None, generator=seeded(0))
    assert torch.equal(classifier.weight, plain.weight)


@pytest.mark.parametrize(("classes", "init"), [(C, "zeros"), (1, "rare_sigmoid")])
def test_linear_refuses_an_unknown_init(classes: int, init: str) -> None:
    with pytest.raises(SettingError, match=f"^init must be one of .*, got '{init}'$"):
        LinearClassifier(D, classes, init=init)


def test_cosine_rows_start_as_in_ldams_code() -> None:
    """Unit rows of uniform draws; OLTR's are as long as those of torch's linear layer, 0.58 on average."""
    cosine, oltr = CosineClassifier(64, 200), OLTRClassifier(64, 200)
    torch.testing.assert_close(cosine.weight.norm(dim=1), torch.ones(200))
    for classifier in (cosine, oltr):
        classifier.begin(None, generator=seeded(0))
    torch.testing.assert_close(cosine.weight.norm(dim=1), torch.ones(200))
    assert cosine.weight.std().item() == pytest.approx(1 / 8, rel=0.02)
    assert oltr.weight.norm(dim=1).mean().item() == pytest.approx(3**-0.5, abs=0.01)
    assert oltr.weight.abs().max() <= 1 / 8


@pytest.mark.parametrize("build", [LinearClassifier, CosineClassifier, LWSClassifier, ScaledLinearClassifier])
def test_one_interface(build: Callable[..., Drawn | LWSClassifier | ScaledLinearClassifier]) -> None:
    classifier = build(num_features=D, num_classes=C)
    parameters = {name: id(parameter) for name, parameter in classifier.named_parameters()}
    previous = LinearClassifier(num_features=D, num_classes=C)
    classifier.begin(previous, generator=seeded(0))
    assert classifier(torch.randn(3, D)).shape == (3, C)
    # An optimizer made before the stage still holds the same tensors.
    assert {name: id(parameter) for name, parameter in classifier.named_parameters()} == parameters


def test_cosine_is_the_scaled_cosine_and_ignores_lengths() -> None:
    classifier = CosineClassifier(D, C, scale=30.0)
    features = torch.randn(4, D)
    logits = classifier(features)
    expected = torch.stack([30 * nn.functional.cosine_similarity(features, w[None]) for w in classifier.weight], dim=1)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(classifier(7 * features), logits)
    assert classifier(torch.zeros(1, D)).isfinite().all()


def test_cosine_refuses_a_scale_that_is_not_positive() -> None:
    with pytest.raises(SettingError, match=r"^scale must be > 0, got 0.0$"):
        CosineClassifier(D, C, scale=0.0)


def test_lws_starts_as_the_previous_classifier_and_learns_scales_only() -> None:
    previous = LinearClassifier(D, C)
    classifier = LWSClassifier(D, C)
    with torch.no_grad():
        classifier.class_scale.mul_(3)
    classifier.begin(previous, generator=seeded(0))
    features = torch.randn(4, D)
    torch.testing.assert_close(classifier(features), previous(features))

    assert [name for name, _ in classifier.named_parameters()] == ["class_scale"]
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1, weight_decay=0.1)
    nn.functional.cross_entropy(classifier(features), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    torch.testing.assert_close(classifier.frozen_weight, previous.weight.detach())
    torch.testing.assert_close(classifier(features), classifier.class_scale * previous(features))
    # A copy, not a view: training the previous one on does not reach it.
    with torch.no_grad():
        previous.weight.zero_()
    assert classifier.frozen_weight.any()


def test_scaled_rows_and_factors_learn_each_at_its_rate() -> None:
    """A step of SGD with momentum is that of two groups, the factors' rate five times the rows'."""
    previous = LinearClassifier(D, C)
    ours = ScaledLinearClassifier(D, C, factor_rate=5.0)
    ours.begin(previous, generator=seeded(0))
    features, targets = torch.randn(8, D, generator=seeded(1)), torch.arange(8) % C
    torch.testing.assert_close(ours(features), previous(features))
    scale, weight, bias = (
        value.clone().requires_grad_() for value in (torch.ones(C), previous.weight.detach(), previous.bias.detach())
    )
    groups = [{"params": [weight, bias], "lr": 0.02}, {"params": [scale], "lr": 0.1}]
    theirs = torch.optim.SGD(groups, momentum=0.9)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.02, momentum=0.9)
    for _ in range(4):
        for stepping, logits in (
            (theirs, scale * nn.functional.linear(features, weight, bias)),
            (optimizer, ours(features)),
        ):
            stepping.zero_grad()
            nn.functional.cross_entropy(logits, targets).backward()
            stepping.step()
    torch.testing.assert_close(ours.class_scale, scale)
    torch.testing.assert_close(ours.row_weight, weight)
    torch.testing.assert_close(ours.row_bias, bias)
    assert not torch.equal(ours.class_scale, torch.ones(C))


def test_scaled_needs_a_linear_classifier_and_a_rate() -> None:
    with pytest.raises(TypeError, match=r"^previous must be a linear classifier.* got CosineClassifier$"):
        ScaledLinearClassifier(D, C).begin(CosineClassifier(D, C), generator=seeded(0))
    with pytest.raises(TypeError, match=r"^previous must be a linear classifier.* got ScaledLinearClassifier$"):
        LWSClassifier(D, C).begin(ScaledLinearClassifier(D, C), generator=seeded(0))
    with pytest.raises(SettingError, match=r"^factor_rate must be > 0, got 0$"):
        ScaledLinearClassifier(D, C, factor_rate=0)


def test_lws_state_is_in_the_checkpoint() -> None:
    classifier, loaded = LWSClassifier(D, C), LWSClassifier(D, C)
    classifier.begin(LinearClassifier(D, C), generator=seeded(0))
    loaded.load_state_dict(classifier.state_dict())
    features = torch.randn(4, D)
    assert torch.equal(loaded(features), classifier(features))


@pytest.mark.parametrize("previous", [None, CosineClassifier(D, C), LWSClassifier(D, C)])
def test_lws_needs_a_weight_and_a_bias(previous: Classifier | None) -> None:
    message = f"^previous must be a linear classifier, trained before this one, got {type(previous).__name__}$"
    with pytest.raises(TypeError, match=message):
        LWSClassifier(D, C).begin(previous, generator=seeded(0))


def test_lws_needs_the_same_shape() -> None:
    message = "previous must have a weight of shape (5, 12), got (6, 12)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LWSClassifier(D, C).begin(LinearClassifier(D, C + 1), generator=seeded(0))


def test_docstring_examples_run() -> None:
    assert doctest.testmod(linear) == (0, 3)


def test_an_objective_that_uses_class_vectors_names_the_classifier_without_them() -> None:
    assert CosineClassifier(3, 2).class_vectors().shape == (2, 3)
    with pytest.raises(SettingError, match=r"^classifier must have a vector for each class.*, got 'LWSClassifier'$"):
        LWSClassifier(3, 2).class_vectors()


HALF = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_in_half_precision_it_says_the_same_and_knows_zeros(name: str, dtype: torch.dtype) -> None:
    """In float16, 1e-12 is 0, and a feature of zeros over its norm would be nan."""
    kind = name.rpartition(".")[2]
    before = ExpertsClassifier(D, C) if kind == "RoutedExpertsClassifier" else LinearClassifier(D, C)
    classifier: Any = CLASSIFIERS[name](D, C)
    for drawn in (before, classifier):
        drawn.begin(before, generator=seeded(0))
    held_out = HeldOut(torch.randn(40, D, generator=seeded(1)), torch.arange(40) % C)
    if classifier.needs_fit:
        classifier.fit(held_out, torch.randn(C, D, generator=seeded(2)), torch.arange(C, 0, -1))
    experts = {"ExpertsClassifier": 3, "RoutedExpertsClassifier": 3, "JoinedClassifier": 2}.get(kind)
    features = held_out.features[:4] if experts is None else held_out.features[: 4 * experts].reshape(4, experts, D)
    expected = classifier(features)
    half = classifier.to(dtype)
    tolerance = 0.02 if dtype == torch.float16 else 0.2
    torch.testing.assert_close(half(features.to(dtype)).float(), expected, rtol=tolerance, atol=tolerance)
    assert not half(torch.zeros_like(features, dtype=dtype)).isnan().any()
