"""Classifiers of several experts: what they average, whom they ask, and where they start."""

import pytest
import torch
from torch import Tensor

from drolt_pl.classifiers import (
    Classifier,
    CosineClassifier,
    ExpertsClassifier,
    JoinedClassifier,
    LinearClassifier,
    RoutedExpertsClassifier,
)
from drolt_pl.errors import SettingError

D, C, E = 6, 4, 3


def begun(classifier: Classifier, previous: Classifier | None = None) -> Classifier:
    classifier.begin(previous, generator=torch.Generator().manual_seed(0))
    return classifier


def features() -> Tensor:
    return torch.randn(5, E, D, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [30.0, None])
def test_logits_are_the_mean_of_the_experts(scale: float | None) -> None:
    classifier, z = begun(ExpertsClassifier(D, C, E, scale)), features()
    assert isinstance(classifier, ExpertsClassifier)
    kind = LinearClassifier if scale is None else CosineClassifier
    assert all(isinstance(head, kind) for head in classifier.heads)
    each = [head(z[:, place]) for place, head in enumerate(classifier.heads)]
    torch.testing.assert_close(classifier(z), sum(each) / E)
    torch.testing.assert_close(classifier.expert_logits(z), torch.stack(each, 1))
    assert not torch.equal(each[0], each[1])
    classifier.shares.copy_(torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(classifier(z), each[1])


def test_another_number_of_experts_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^classifier.experts must be 2, as many as the backbone has, got 3$"):
        ExpertsClassifier(D, C, E)(features()[:, :2])
    with pytest.raises(SettingError, match="classifier must have experts"):
        LinearClassifier(D, C).expert_logits(features())
    with pytest.raises(SettingError, match="at least 2"):
        RoutedExpertsClassifier(D, C, 1)


def test_routes_ask_one_expert_after_the_other() -> None:
    """The rule as a loop over images: the mean of the experts until one does not want the next."""
    first, z = begun(ExpertsClassifier(D, C, E)), features()
    routed = begun(RoutedExpertsClassifier(D, C, E), first)
    assert isinstance(routed, RoutedExpertsClassifier)
    routed.wish.bias.data.fill_(float(-routed.routes(z).detach().median()))
    wishes, logits = routed.routes(z).tolist(), first.expert_logits(z)
    asked = set()
    for image, (found, wish) in enumerate(zip(routed(z), wishes, strict=True)):
        number = 1
        while number < E and wish[number - 1] > 0:
            number += 1
        asked.add(number)
        torch.testing.assert_close(found, logits[image, :number].mean(0))
    assert len(asked) > 1


def test_routed_heads_are_those_before_and_do_not_learn() -> None:
    first = begun(ExpertsClassifier(D, C, E))
    routed = begun(RoutedExpertsClassifier(D, C, E), first)
    torch.testing.assert_close(routed.expert_logits(features()), first.expert_logits(features()))
    learning = {name.split(".")[0] for name, parameter in routed.named_parameters() if parameter.requires_grad}
    assert learning == {"hidden", "wish"}
    for other in (
        None,
        LinearClassifier(D, C),
        begun(ExpertsClassifier(D, C, 2)),
        begun(ExpertsClassifier(D, C, E, None)),
    ):
        with pytest.raises(TypeError, match="previous must be a classifier of 3 such experts"):
            begun(RoutedExpertsClassifier(D, C, E), other)


def test_joined_features_have_one_layer() -> None:
    classifier, z = begun(JoinedClassifier(D, C, E)), features()
    weight, bias = classifier.linear_parts()
    torch.testing.assert_close(classifier(z), z.flatten(1) @ weight.T + bias)
