"""The robust loss at several layers: a mean of what single losses give, each with its own centroids and radii."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.running import train_composed

from drolt_pl.backbones import CifarResNet, SmallConvNet
from drolt_pl.backbones.layers import LayerTaps, pooled
from drolt_pl.errors import SettingError
from drolt_pl.losses import DROLTLoss, LayeredDROLTLoss

COUNTS, WIDTHS = [9, 4, 1], (5, 8)


def make(**options: Any) -> LayeredDROLTLoss:
    return LayeredDROLTLoss({f"layer{i}": DROLTLoss(3, width, COUNTS, **options) for i, width in enumerate(WIDTHS)})


@pytest.mark.parametrize("feature_norm", ["none", "l2"])
@pytest.mark.parametrize("eps_mode", ["sqrt_n", "coverage"])
def test_it_is_the_mean_of_the_layers(feature_norm: str, eps_mode: str) -> None:
    torch.manual_seed(0)
    loss = make(feature_norm=feature_norm, eps_mode=eps_mode)
    features, centroids, targets = torch.randn(6, 13), torch.randn(3, 13), torch.tensor([0, 0, 1, 1, 0, 1])
    for layer, (variance, dim) in zip(loss.losses, ((1.0, 3.0), (2.0, 5.0)), strict=True):
        layer.set_statistics(torch.full((3,), variance), dim)
    alone = [
        layer(z, targets, means)
        for layer, z, means in zip(loss.losses, features.split(WIDTHS, 1), centroids.split(WIDTHS, 1), strict=True)
    ]
    torch.testing.assert_close(loss(features, targets, centroids), sum(alone) / 2)
    assert loss.radii().shape == (3, 2)
    for column, layer in enumerate(loss.losses):
        assert torch.equal(loss.radii()[:, column], layer.radii())
        measured = loss.normalise(features).split(WIDTHS, 1)[column]
        assert torch.equal(measured, layer.normalise(features.split(WIDTHS, 1)[column]))


def test_what_does_not_fit_the_layers_is_refused() -> None:
    features, centroids, targets = torch.randn(2, 13), torch.randn(3, 13), torch.tensor([0, 1])
    for arguments in ((features[:, 1:], targets, centroids), (features, targets, centroids[0])):
        with pytest.raises(ValueError, match=r"^features and centroids must have 13 columns, those of all layers, got"):
            make()(*arguments)
    with pytest.raises(SettingError, match=r"^losses must name at least one layer"):
        LayeredDROLTLoss({})
    with pytest.raises(SettingError, match=r"^losses must all have one number of classes, got \[2, 3\]"):
        LayeredDROLTLoss({"a": DROLTLoss(3, 5, COUNTS), "b": DROLTLoss(2, 5, COUNTS[:2])})


def test_each_layer_learns_its_own_radii() -> None:
    loss = make(eps_mode="learned")
    terms = loss.terms(torch.randn(6, 13), torch.tensor([0, 0, 1, 1, 0, 1]), torch.randn(3, 13))
    loss.mix(torch.zeros(()), loss.total(terms)).backward()
    gradients = [parameter.grad for parameter in loss.parameters()]
    assert len(gradients) == 2
    assert all(gradient is not None and bool(gradient[:2].any()) for gradient in gradients)
    assert loss.updates.tolist() == [1, 1, 0]


def test_taps_read_the_pooled_maps_of_the_last_batch() -> None:
    torch.manual_seed(0)
    backbone = CifarResNet(20)
    backbone.train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    taps = LayerTaps(backbone, ["layer2", "layer3"], (3, 16, 16))
    assert taps.widths == (32, 64)
    assert backbone.training
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
    images = torch.randn(4, 3, 16, 16)
    features = backbone(images)
    tapped = taps.features()
    assert tapped.shape == (4, 96)
    torch.testing.assert_close(tapped[:, 32:], features)  # what the last layer gives is what is pooled at the end
    (gradient,) = torch.autograd.grad(tapped[:, :32].sum(), backbone.layer1[0].conv1.weight)
    assert bool(gradient.any())


def test_pooling() -> None:
    tokens = torch.arange(12.0).view(2, 3, 2)
    assert pooled(tokens).tolist() == [[2.0, 3.0], [8.0, 9.0]]
    assert pooled(tokens[:, 0]).tolist() == tokens[:, 0].tolist()


@pytest.mark.parametrize("layers", [["layer9"], [], ["layer2", "layer2"]])
def test_a_wrong_layer_is_named(layers: list[str]) -> None:
    with pytest.raises(SettingError, match=r"^layers must be null or name parts of the backbone, such as \['layer1'"):
        LayerTaps(CifarResNet(20), layers, (3, 8, 8))
    with pytest.raises(SettingError, match=r"such as \['layers.0'"):
        LayerTaps(SmallConvNet(), layers, (1, 8, 8))


SHORT = ("trainer=cpu", "schedule.stages.ce_warmup.epochs=1", "schedule.stages.joint.epochs=2")


@pytest.mark.parametrize("options", [("loss.eps_mode=coverage",), ("centroids=ema", "loss.eps_mode=learned")])
def test_a_run_at_two_layers(options: tuple[str, ...], tmp_path: Path) -> None:
    layers = "loss.layers=[layers.5,layers.8]"
    results = train_composed(tmp_path, *SHORT, "schedule.stages.rebalance.epochs=1", layers, *options)
    assert torch.tensor(results["eps"]).shape == (10, 2)
    assert results["test"]["acc_ncm"] > 0.5
    state = torch.load(tmp_path / "checkpoints" / "joint.ckpt", weights_only=True)["state_dict"]
    assert state["objectives.dro_lt.centroids"].shape == (10, 32 + 64)
    if "ema" not in options[0]:  # the last layer's map is what is pooled for the classifier
        torch.testing.assert_close(state["objectives.dro_lt.centroids"][:, 32:], state["centroids"])
    resumed = tmp_path / "checkpoints" / "ce_warmup.ckpt"
    resumed.replace(tmp_path / "checkpoints" / "last.ckpt")
    again = train_composed(
        tmp_path, *SHORT, "schedule.stages.rebalance.epochs=1", layers, *options, f"resume={tmp_path}"
    )
    assert again["test"] == results["test"]


def test_the_last_layer_alone_is_the_loss_without_layers(tmp_path: Path) -> None:
    plain = train_composed(tmp_path / "plain", *SHORT, "schedule.stages.rebalance.epochs=0")
    last = "loss.layers=[layers.8]"
    tapped = train_composed(tmp_path / "tapped", *SHORT, "schedule.stages.rebalance.epochs=0", last)
    assert tapped["test"]["acc"] == plain["test"]["acc"]
    first, second = (
        torch.load(tmp_path / run / "checkpoints" / "joint.ckpt", weights_only=True)["state_dict"]
        for run in ("plain", "tapped")
    )
    for key in (key for key in first if key.startswith("backbone")):
        torch.testing.assert_close(second[key], first[key])
