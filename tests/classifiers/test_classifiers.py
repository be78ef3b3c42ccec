import doctest
import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from drolt_pl.classifiers import CosineClassifier, LinearClassifier, LWSClassifier, linear

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
        assert value.abs().max() <= D**-0.5


def test_begin_follows_the_law_of_torchs_linear_layer() -> None:
    ours = LinearClassifier(num_features=1000, num_classes=200)
    ours.begin(None, generator=seeded(0))
    torchs = nn.Linear(1000, 200)
    for mine, reference in zip(ours.parameters(), torchs.parameters(), strict=True):
        bound = 1000**-0.5
        assert mine.mean().abs().item() < 4 * bound / (3 * mine.numel()) ** 0.5
        assert mine.std().item() == pytest.approx(reference.std().item(), rel=0.15)
        assert 0.98 * bound < mine.abs().max() <= bound


@pytest.mark.parametrize("build", [LinearClassifier, CosineClassifier, LWSClassifier])
def test_one_interface(build: Callable[..., Drawn | LWSClassifier]) -> None:
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
    with pytest.raises(ValueError, match=r"^scale must be above 0, got 0.0$"):
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


def test_lws_state_is_in_the_checkpoint() -> None:
    classifier, loaded = LWSClassifier(D, C), LWSClassifier(D, C)
    classifier.begin(LinearClassifier(D, C), generator=seeded(0))
    loaded.load_state_dict(classifier.state_dict())
    features = torch.randn(4, D)
    assert torch.equal(loaded(features), classifier(features))


@pytest.mark.parametrize("previous", [None, CosineClassifier(D, C), nn.Linear(D, C, bias=False), LWSClassifier(D, C)])
def test_lws_needs_a_weight_and_a_bias(previous: nn.Module | None) -> None:
    message = f"^previous must be a linear classifier with weight and bias .* got {type(previous).__name__}$"
    with pytest.raises(TypeError, match=message):
        LWSClassifier(D, C).begin(previous, generator=seeded(0))


def test_lws_needs_the_same_shape() -> None:
    message = "previous must have a weight of shape (5, 12), got (6, 12)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LWSClassifier(D, C).begin(LinearClassifier(D, C + 1), generator=seeded(0))


def test_docstring_examples_run() -> None:
    assert doctest.testmod(linear) == (0, 3)
