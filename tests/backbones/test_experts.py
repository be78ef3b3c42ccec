"""Backbones with experts: what they share, that experts differ, and that one expert is the network as it was."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from drolt_pl.backbones import MLP, Backbone, CifarResNet, ModulatedAttention, SmallConvNet, TorchvisionResNet
from drolt_pl.backbones.layers import LayerTaps

NETWORKS: dict[str, tuple[Callable[[int], Backbone], Tensor, int]] = {
    "convnet": (lambda experts: SmallConvNet(1, 8, experts), torch.randn(2, 1, 8, 8), 8),
    "resnet20": (lambda experts: CifarResNet(20, experts=experts), torch.randn(2, 3, 8, 8), 48),
    "mlp": (lambda experts: MLP(5, 8, (6,), experts), torch.randn(2, 5), 8),
}
EACH = pytest.mark.parametrize("name", NETWORKS)


@EACH
def test_features_of_experts(name: str) -> None:
    make, images, width = NETWORKS[name]
    network = make(3).eval()
    features = network(images)
    assert (network.num_experts, network.num_features) == (3, width)
    assert features.shape == (2, 3, width)
    assert not torch.equal(features[:, 0], features[:, 1])
    single = make(1)
    assert single(images).shape == (2, single.num_features)
    assert single.num_experts == 1


@pytest.mark.parametrize("name", ["convnet", "resnet20"])
def test_an_expert_has_parts_of_its_own(name: str) -> None:
    """The features of one expert have no gradient in the parts of another, and one in the shared layers."""
    make, images, _ = NETWORKS[name]
    network = make(3)
    network(images)[:, 1].sum().backward()
    for key, parameter in network.named_parameters():
        own = key.split(".parts.")
        expected = len(own) == 1 or own[1].startswith("1.")
        assert (parameter.grad is not None and bool(parameter.grad.any())) == expected, key


def test_three_thin_experts_have_the_parameters_of_the_source() -> None:
    """RIDE's ResNet-32 without its heads: stem and layer1 of 16 channels, three times 24 and 48."""
    convolutions = 9 * (3 * 16 + 10 * 16 * 16) + 3 * 9 * (16 * 24 + 9 * 24 * 24 + 24 * 48 + 9 * 48 * 48)
    norms = 2 * (11 * 16 + 3 * 10 * (24 + 48))
    assert sum(parameter.numel() for parameter in CifarResNet(32, experts=3).parameters()) == convolutions + norms


def test_necks_taps_and_layer_rates_see_experts() -> None:
    network = CifarResNet(20, experts=2, neck=ModulatedAttention)
    assert LayerTaps(network, ["layer2", "layer3"], (3, 8, 8)).widths == (48, 96)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 2, 48)
    shares = network.layer_shares(0.5)
    by_name = {name: shares[parameter].factor for name, parameter in network.named_parameters()}
    assert by_name["layer3.parts.0.0.conv1.weight"] == by_name["layer3.parts.1.0.conv1.weight"]


@pytest.mark.slow
def test_large_networks_have_experts() -> None:
    torch.manual_seed(0)
    network = TorchvisionResNet(experts=2).eval()
    features = network(torch.randn(1, 3, 64, 64))
    assert features.shape == (1, 2, 2048)
    assert not torch.equal(features[:, 0], features[:, 1])
