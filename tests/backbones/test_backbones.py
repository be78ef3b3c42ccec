import re
import time
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from drolt_pl.backbones import MLP, CifarResNet, Identity, SmallConvNet, TimmBackbone, TorchvisionResNet
from drolt_pl.classifiers import LinearClassifier
from drolt_pl.errors import SettingError

CONF = Path(__file__).parents[2] / "conf" / "backbone"


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def instantiate(name: str, **kwargs: Any) -> nn.Module:
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    package, _, cls = config.pop("_target_").rpartition(".")
    assert package == "drolt_pl.backbones"
    classes = {cls.__name__: cls for cls in (MLP, CifarResNet, Identity, SmallConvNet, TimmBackbone, TorchvisionResNet)}
    module: nn.Module = classes[cls](**config, **kwargs)
    return module


def test_resnet32_with_100_classes_has_the_published_number_of_parameters() -> None:
    assert count(CifarResNet(32), LinearClassifier(64, 100)) == 470_004


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)])
def test_cifar_resnets_have_he_et_als_sizes(depth: int, parameters: int) -> None:
    backbone = CifarResNet(depth)
    assert count(backbone, LinearClassifier(64, 10)) == parameters  # 0.27M, 0.46M, 0.66M, 0.85M in their Table 6
    weighted = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert len(weighted) + 1 == depth


def test_option_a_shortcut_pads_with_zeros_and_has_no_weights() -> None:
    block = CifarResNet(20).layer2[0]
    x = torch.randn(2, 16, 8, 8)
    shortcut = block.shortcut(x)
    assert shortcut.shape == (2, 32, 4, 4)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert not shortcut[:, :8].any()
    assert not shortcut[:, 24:].any()


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", sorted({path.stem for path in CONF.glob("*.yaml")} - {"identity", "mlp", "lora"}))
def test_every_config_gives_pooled_features(name: str, in_channels: int) -> None:
    backbone = instantiate(name, in_channels=in_channels).eval()
    size = {"convnet_small": 8}.get(name, 32)
    with torch.no_grad():
        features = backbone(torch.randn(2, in_channels, size, size))
    assert features.shape == (2, backbone.num_features)
    assert (features >= 0).all()  # after ReLU and the mean over pixels


@pytest.mark.parametrize(("name", "num_features"), [("identity", 12), ("mlp", 256)])
def test_backbones_of_features(name: str, num_features: int) -> None:
    backbone = instantiate(name, in_channels=12)
    features = torch.randn(1, 12)  # one sample: LayerNorm needs no more
    assert backbone(features).shape == (1, num_features) == (1, backbone.num_features)
    assert name == "mlp" or torch.equal(backbone(features), features)


def test_resnets_for_large_images_have_torchvisions_sizes() -> None:
    assert count(TorchvisionResNet("resnet50"), LinearClassifier(2048, 1000)) == 25_557_032
    assert count(TorchvisionResNet("resnext50_32x4d"), LinearClassifier(2048, 1000)) == 25_028_904


@pytest.mark.parametrize(
    ("name", "num_features", "of_timm"),
    [("mobilenetv3_small_050", 1024, 288), ("test_vit", 64, 64), ("test_convnext3", 128, 128)],
)
def test_timm_dimension_is_measured(name: str, num_features: int, of_timm: int) -> None:
    backbone = TimmBackbone(name)
    assert backbone.model.num_features == of_timm
    assert backbone.num_features == num_features
    assert backbone.training


def test_measuring_leaves_batch_norm_alone() -> None:
    statistics = {name: value for name, value in TimmBackbone("test_resnet").named_buffers() if "running" in name}
    assert statistics
    assert all(value.eq("var" in name).all() for name, value in statistics.items())


def test_timm_options_reach_the_model() -> None:
    backbone = TimmBackbone("test_vit", in_channels=1, img_size=32)
    assert backbone(torch.randn(2, 1, 32, 32)).shape == (2, 64)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CifarResNet(33), "depth must be one of (20, 32, 44, 56), got 33"),
        (lambda: CifarResNet(32, 0), "in_channels must be a whole number >= 1, got 0"),
        (lambda: SmallConvNet(0), "in_channels must be a whole number >= 1, got 0"),
        (lambda: SmallConvNet(1, 30), "num_features must be a whole number >= 4 and a multiple of 4, got 30"),
        (lambda: TorchvisionResNet("resnet51"), "arch must be one of ('resnet50', 'resnext50_32x4d'), got 'resnet51'"),
        (
            lambda: TorchvisionResNet(weights="V9"),
            "weights must be null, true, a file that exists, or one of ('IMAGENET",
        ),
        (lambda: TorchvisionResNet(weights="DEFAULT", in_channels=1), "in_channels must be 3 with pretrained weights"),
        (lambda: TimmBackbone("resnet19"), "name must be one of timm.list_models(), got 'resnet19'; near are resnet18"),
        (lambda: TimmBackbone("test_resnet", global_pool=""), "name must be a model with one pooled feature vector"),
    ],
)
def test_a_wrong_argument_is_named_in_one_sentence(build: Any, message: str) -> None:
    with pytest.raises(SettingError, match=f"^{re.escape(message)}") as raised:
        build()
    assert "\n" not in str(raised.value)


def test_weights_without_network_are_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(SettingError, match=r"^weights=IMAGENET1K_V2 of resnet50 are not in .* use weights=null$"):
        TorchvisionResNet(weights="IMAGENET1K_V2")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(
        ValueError, match=r"^weights=true of test_resnet cannot be .* use weights=null, or give a file$"
    ):
        TimmBackbone("test_resnet", weights=True)


def test_small_convnet_learns_the_digits_fast() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    targets = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(SmallConvNet(), LinearClassifier(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    best_rate, epochs = 0.0, 8
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - epoch / epochs)
        start = time.perf_counter()
        for batch in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), targets[batch]).backward()
            optimizer.step()
        best_rate = max(best_rate, len(images) / (time.perf_counter() - start))
    accuracy = (model.eval()(images).argmax(1) == targets).float().mean()
    assert accuracy >= 0.99
    assert best_rate > 2_000  # images per second; about 20,000 on two idle cores, the limit leaves room for busy ones
