"""Modulated attention against loops, and as the neck of every backbone."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.running import train_composed
from torch import nn

from drolt_pl import load_model
from drolt_pl.backbones import CifarResNet, ModulatedAttention, SmallConvNet, TimmBackbone, TorchvisionResNet


def awake(channels: int = 6) -> ModulatedAttention:
    """Past its start, where it is the identity."""
    torch.manual_seed(0)
    neck = ModulatedAttention(channels).double()
    nn.init.normal_(neck.mask.weight)
    nn.init.normal_(neck.mask.bias)
    return neck


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8)])
def test_it_is_its_formula(size: tuple[int, int]) -> None:
    neck = awake()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    for image, out in zip(x, neck(x).detach(), strict=True):
        points = image.flatten(1).T  # (HW, C)

        def through(layer: nn.Conv2d, point: torch.Tensor) -> torch.Tensor:
            return layer.weight.flatten(1) @ point + layer.bias

        where = torch.stack([through(neck.where, point)[0] for point in points]).softmax(0)
        for i, point in enumerate(points):
            scores = torch.stack([through(neck.query, point) @ through(neck.key, other) for other in points]).softmax(0)
            gathered = sum(score * through(neck.value, other) for score, other in zip(scores, points, strict=True))
            expected = point + where[i] * through(neck.mask, gathered)  # type: ignore[arg-type]
            torch.testing.assert_close(out.flatten(1)[:, i], expected.detach())


def test_it_starts_as_the_identity_and_learns() -> None:
    neck = ModulatedAttention(6)
    x = torch.randn(2, 6, 4, 4)
    assert torch.equal(neck(x), x)
    neck(x).square().sum().backward()
    assert neck.mask.weight.grad is not None
    assert bool(neck.mask.weight.grad.any())


BACKBONES: dict[str, Any] = {
    "cifar": (partial(CifarResNet, depth=20), (3, 32, 32)),
    "convnet": (SmallConvNet, (1, 8, 8)),
    "torchvision": (TorchvisionResNet, (3, 64, 64)),
    "timm": (partial(TimmBackbone, "resnet10t"), (3, 64, 64)),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_takes_it(name: str) -> None:
    build, shape = BACKBONES[name]
    plain, necked = build(in_channels=shape[0]), build(in_channels=shape[0], neck=ModulatedAttention)
    missing, unexpected = necked.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all(".neck." in f".{key}" for key in missing)
    x = torch.randn(2, *shape)
    plain.eval(), necked.eval()
    torch.testing.assert_close(necked(x), plain(x))
    for module in necked.modules():
        if isinstance(module, ModulatedAttention):
            nn.init.normal_(module.mask.weight)
    assert not torch.allclose(necked(x), plain(x))


def test_oltr_begins_at_a_plain_stage_and_loads_alone(tmp_path: Path) -> None:
    short = ("trainer=cpu", "schedule.stages.ce_warmup.epochs=1", "schedule.stages.joint.epochs=1")
    train_composed(tmp_path / "ce", *short, "schedule.stages.rebalance.epochs=0")
    warm = train_composed(tmp_path / "oltr", *short, "method=oltr", f"init_from={tmp_path / 'ce'}:ce_warmup")
    plain = torch.load(tmp_path / "ce" / "checkpoints" / "ce_warmup.ckpt", weights_only=True)["state_dict"]
    begun = torch.load(tmp_path / "oltr" / "checkpoints" / "ce_warmup_init.ckpt", weights_only=True)["state_dict"]
    for key in (key for key in plain if key.startswith("backbone")):
        assert torch.equal(begun[key], plain[key])
    model = load_model(tmp_path / "oltr" / "checkpoints" / "best.ckpt")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert warm["stages"]["joint"]["test"]["acc"] > 0
