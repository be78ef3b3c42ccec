"""Rates of the groups of a network: the backbone's to the classifier's, and from layer to layer."""

import pytest
import torch
from torch import nn

from drolt_pl.backbones import CifarResNet, TimmBackbone
from drolt_pl.learning.optim import StageOptimizer
from drolt_pl.learning.schedule import Schedule


def rates(backbone: nn.Module, **options: float) -> dict[str, tuple[float, float]]:
    """(rate, decay) of every parameter of the backbone and of a classifier, at factor 0.5 of the rate 0.1."""
    head = nn.Linear(4, 3)
    settings = StageOptimizer(torch.optim.AdamW, lr=0.1, weight_decay=0.05, **options)  # type: ignore[arg-type]
    optimizer = settings.build({"backbone": backbone.parameters(), "classifier": head.parameters()}, backbone)  # type: ignore[arg-type]
    (stage,) = Schedule({"train": {"epochs": 1}}).stages
    told = settings.set_rates(optimizer, stage, 0.5)
    assert told == {"backbone": pytest.approx(0.05 * options.get("backbone_factor", 1)), "classifier": 0.05}
    named = {id(p): name for part in (backbone, head) for name, p in part.named_parameters()}
    found = {
        named[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    assert len(found) == len(named)
    assert found["bias"] == found["weight"] == (0.05, 0.05)
    return found


def test_the_backbones_factor_leaves_the_classifier() -> None:
    found = rates(CifarResNet(20), backbone_factor=0.1)
    for name, own in found.items():
        assert own == (pytest.approx(0.005 if "." in name else 0.05), 0.05)


def test_rates_fall_from_layer_to_layer() -> None:
    found = rates(CifarResNet(20), layer_decay=0.5)
    assert found["conv1.weight"] == (pytest.approx(0.05 * 0.5**3), 0.05)
    assert found["layer1.0.conv1.weight"] == (pytest.approx(0.05 * 0.5**2), 0.05)
    assert found["layer3.2.conv2.weight"] == (pytest.approx(0.05), 0.05)
    assert found["layer3.2.bn2.weight"] == (pytest.approx(0.05), 0.0)


def test_layers_of_a_timm_network_are_timms() -> None:
    found = rates(TimmBackbone("test_vit"), layer_decay=0.5, backbone_factor=0.1)
    blocks = [found[f"model.blocks.{number}.attn.qkv.weight"][0] for number in range(6)]
    assert blocks == pytest.approx([0.005 * 0.5 ** (5 - number) for number in range(6)])
    assert found["model.norm.weight"] == (pytest.approx(0.005), 0.0)
    assert found["model.pos_embed"] == (pytest.approx(0.005 * 0.5**6), 0.0)  # named by the network itself
