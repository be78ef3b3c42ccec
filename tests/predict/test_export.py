"""Files for other programs answer as the model does, and appear only if they do."""

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from helpers.models import write_model
from helpers.photos import write_photos

from drolt_pl import Model
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.errors import SettingError
from drolt_pl.model import Description
from drolt_pl.model.parts import build_backbone, build_classifier
from drolt_pl.predict import export as module
from drolt_pl.predict.export import export
from drolt_pl.predict.info import info


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_model(tmp_path_factory.mktemp("model") / "model.ckpt"))


def test_onnx(model: Model, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", each=35)
    found = export(model, "onnx", tmp_path / "out" / "model.onnx", str(photos))
    assert found.images == 100 - 1  # one of the first hundred cannot be read
    assert found.difference < 1e-4
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(found.path), providers=["CPUExecutionProvider"])
    for batch in (1, 3, 70):
        images = torch.randn(batch, 3, 16, 16)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), model(images).detach(), atol=1e-4, rtol=0)
    stored = {entry.key: entry.value for entry in onnx.load(found.path).metadata_props}
    facts = json.loads(stored["drolt_pl"])
    assert facts["class_names"] == ["cat", "dog", "owl"]
    assert facts["preprocessing"] == model.preprocessing.as_plain()


def test_torch_export(model: Model, tmp_path: Path) -> None:
    found = export(model, "torch-export", tmp_path / "model.pt2")
    program = torch.export.load(found.path).module()
    for batch in (1, 5):
        images = torch.randn(batch, 3, 16, 16)
        torch.testing.assert_close(program(images), model(images), atol=1e-5, rtol=0)
    assert found.beside == tmp_path / "model.pt2.json"
    assert json.loads(found.beside.read_text())["class_counts"] == [30, 5, 2]
    with pytest.raises(SettingError, match=r"must end in \.pt2"):
        export(model, "torch-export", tmp_path / "model")


def test_safetensors(model: Model, tmp_path: Path) -> None:
    found = export(model, "safetensors", tmp_path / "model.safetensors")
    assert found.difference == 0
    loaded = Model.load(found.path)
    assert loaded.description == model.description
    assert loaded.description.prior == "train"
    facts = info(loaded, found.path).facts
    assert facts["file"].startswith("a saved model")
    assert facts["network"] == "SmallConvNet (num_features=8, in_channels=3)"
    assert facts["probabilities assume"] == "the class frequencies of training"


def test_another_answer_leaves_no_file(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = module._safetensors
    for wrong, said in (
        (lambda logits: logits + 0.01, "gives other logits than the model, by up to 0.01"),
        (lambda logits: logits[:1], "not the model's"),
        (lambda logits: logits * float("nan"), "not the model's"),
    ):

        def other(found: Model, path: Path, wrong: object = wrong) -> object:
            runner = right(found, path)
            return lambda images: wrong(runner(images))  # type: ignore[operator]

        monkeypatch.setattr(module, "_safetensors", other)
        (tmp_path / "model.safetensors").write_text("before")
        with pytest.raises(SettingError, match=said):
            export(model, "safetensors", tmp_path / "model.safetensors")
        assert (tmp_path / "model.safetensors").read_text() == "before"
        assert len(list(tmp_path.iterdir())) == 1


class Branching(torch.nn.Linear):
    """Logits by a way that no exporter can follow."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.sum().item() > 0:
            features = -features
        return super().forward(features)


def test_a_network_that_cannot_be_exported_is_a_sentence(model: Model, tmp_path: Path) -> None:
    odd = Model(model.backbone, Branching(8, 3), description=model.description, stage="train").eval()
    for form, suffix in (("onnx", ".onnx"), ("torch-export", ".pt2")):
        with pytest.raises(SettingError, match="cannot hold this network") as refused:
            export(odd, form, tmp_path / f"model{suffix}")
        assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_what_is_refused(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="--format must be one of"):
        export(model, "tflite", tmp_path / "model")
    with pytest.raises(SettingError, match=r"must end in \.safetensors with"):
        export(model, "safetensors", tmp_path / "model.ckpt")
    with pytest.raises(SettingError, match="not a folder"):
        export(model, "onnx", tmp_path)
    with pytest.raises(SettingError, match=r"^--check must name images that exist, got 'nowhere'"):
        export(model, "safetensors", tmp_path / "model.safetensors", "nowhere")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(SettingError, match=r"needs onnxscript; pip install 'drolt-pl\[export\]'"):
        export(model, "onnx", tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
@pytest.mark.parametrize(
    ("backbone", "classifier"),
    [
        ({"_target_": "drolt_pl.backbones.CifarResNet", "depth": 20}, "CosineClassifier"),
        ({"_target_": "drolt_pl.backbones.TorchvisionResNet", "arch": "resnet50"}, "LWSClassifier"),
        ({"_target_": "drolt_pl.backbones.TimmBackbone", "name": "test_vit", "img_size": 32}, "NearestMeanClassifier"),
        ({"_target_": "drolt_pl.backbones.TimmBackbone", "name": "test_efficientnet"}, "OLTRClassifier"),
        ({"_target_": "drolt_pl.backbones.SmallConvNet", "in_channels": 3, "experts": 3}, "ExpertsClassifier"),
        ({"_target_": "drolt_pl.backbones.SmallConvNet", "in_channels": 3, "experts": 3}, "RoutedExpertsClassifier"),
        ({"_target_": "drolt_pl.backbones.SmallConvNet", "in_channels": 3, "experts": 2}, "JoinedClassifier"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["_target_"].rpartition(".")[2],
)
def test_other_networks(form: str, backbone: dict[str, object], classifier: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_backbone(backbone)
    spec = {"_target_": f"drolt_pl.classifiers.{classifier}", "num_features": network.num_features, "num_classes": 3}
    description = Description(
        backbone=backbone,
        classifiers={"train": spec},
        class_names=("cat", "dog", "owl"),
        preprocessing=Preprocessing(image_size=32, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    model = Model(network, build_classifier(spec), description=description, stage="train").eval()
    for tensor in model.classifier.state_dict().values():
        if tensor.is_floating_point():
            tensor.normal_()
    assert export(model, form, tmp_path / "model.pt2").difference < 1e-4
