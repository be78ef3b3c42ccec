"""Models out of files: the same answers as in training, and nothing but our own networks is ever built."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import write_image_tree
from helpers.running import SHORT, composed, train_composed
from PIL import Image
from safetensors.torch import load_file, save_file

from drolt_pl import Model, load_model
from drolt_pl.backbones import SmallConvNet
from drolt_pl.classifiers import LinearClassifier
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.data.images.sources import FileSource
from drolt_pl.errors import SettingError
from drolt_pl.model import Description, Groups
from drolt_pl.model.parts import BACKBONES, CLASSIFIERS, NECKS, build_backbone, build_classifier
from drolt_pl.run.build import build

SIZES = {"num_features": 8, "num_classes": 3}
NECK = {"_target_": "drolt_pl.backbones.ModulatedAttention", "_partial_": True}
BACKBONE = {"_target_": "drolt_pl.backbones.SmallConvNet", "num_features": 8, "in_channels": 3, "neck": NECK}
LINEAR = {"_target_": "drolt_pl.classifiers.LinearClassifier", **SIZES}
PREPROCESSING = Preprocessing(image_size=16, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
DESCRIPTION = Description(
    backbone=BACKBONE,
    classifiers={"train": LINEAR, "rebalance": {**LINEAR, "_target_": "drolt_pl.classifiers.CosineClassifier"}},
    class_names=("cat", "dog", "owl"),
    class_counts=(30, 5, 2),
    preprocessing=PREPROCESSING,
    groups=Groups(many=20, few=3),
)


def network() -> tuple[SmallConvNet, LinearClassifier]:
    torch.manual_seed(0)
    backbone = build_backbone(BACKBONE)
    assert isinstance(backbone, SmallConvNet)
    return backbone.eval(), LinearClassifier(**SIZES).eval()


def checkpoint(path: Path, **ours: Any) -> Path:
    """A checkpoint as the module writes it."""
    backbone, classifier = network()
    parts = {"backbone": backbone, "classifiers.train": classifier}
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    state |= {"centroids": torch.eye(3, 8), "centroid_counts": torch.tensor([30, 5, 2])}
    header = {"description": DESCRIPTION.as_plain(), "classifier": "train", "radii": [0.5, 1.0, 2.0], **ours}
    torch.save({"state_dict": state, "drolt_pl": header}, path)
    return path


def test_the_file_formats_know_the_same(tmp_path: Path) -> None:
    images = torch.randn(5, 3, 16, 16)
    backbone, classifier = network()
    model = load_model(checkpoint(tmp_path / "train.ckpt"))
    model.save(tmp_path / "model.safetensors")
    for loaded in (model, Model.load(tmp_path / "model.safetensors")):
        assert torch.allclose(loaded(images), classifier(backbone(images)), atol=1e-6)
        assert torch.equal(loaded.embed(images), model.embed(images))
        assert (loaded.class_names, loaded.class_counts) == (("cat", "dog", "owl"), (30, 5, 2))
        assert loaded.groups == Groups(many=20, few=3)
        assert loaded.preprocessing == PREPROCESSING
        assert loaded.stage == "train"
        assert loaded.radii is not None
        assert loaded.radii.tolist() == [0.5, 1, 2]
        assert torch.equal(loaded.centroids, torch.eye(3, 8))
        assert not loaded.training


def test_a_description_comes_back_from_json() -> None:
    assert Description.read(json.loads(json.dumps(DESCRIPTION.as_plain()))) == DESCRIPTION


@pytest.mark.parametrize("crop", ["center", "random_resized"])
def test_a_prediction_sees_what_validation_sees(crop: str, tmp_path: Path) -> None:
    root = write_image_tree(tmp_path / "images", classes=2, train=2, test=1, size=40)
    wide = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    Image.fromarray(wide).save(root / "wide.jpg")
    Image.fromarray(wide.astype(np.uint16)[..., 0] * 250).save(root / "grey16.png")
    names = np.array([str(path.relative_to(root)).encode() for path in sorted(root.rglob("*.*")) if path.is_file()])
    seen = FileSource(root, names, image_size=16, train_crop=crop).fetch(np.arange(len(names)))
    preprocessing = Preprocessing(image_size=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, crop=crop)
    paths = [root / name.decode() for name in names]
    assert torch.equal(torch.stack([preprocessing.pixels(path) for path in paths]), seen)
    assert torch.allclose(preprocessing(paths), (seen / 255 - 0.5) / 0.25, atol=1e-5)
    opened = Image.open(root / "wide.jpg")
    assert torch.equal(preprocessing.pixels(torch.from_numpy(np.array(opened)).permute(2, 0, 1)),
                       preprocessing.pixels(opened))  # fmt: skip
    assert torch.equal(preprocessing.pixels(seen[0]), seen[0])
    grey = Preprocessing(image_size=16, channels=1, mean=(0.5,), std=(0.25,), crop=crop)
    assert grey(paths).shape == (len(paths), 1, 16, 16)


def test_predictions_are_rows(tmp_path: Path) -> None:
    model = Model.load(checkpoint(tmp_path / "train.ckpt"))
    pictures = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (0, 90, 255)]
    found = model.predict(pictures, batch_size=2)
    assert len(found) == 3
    with torch.no_grad():
        logits, features = model(PREPROCESSING(pictures)), model.embed(PREPROCESSING(pictures))
    for row, prediction in enumerate(found):
        assert prediction == found[row]
        assert prediction.index == int(logits[row].argmax())
        assert prediction.name == prediction.top[0][0] == model.class_names[prediction.index]
        assert prediction.probability == pytest.approx(float(logits[row].softmax(0).max()), abs=1e-6)
        assert [value for _, value in prediction.top] == sorted((value for _, value in prediction.top), reverse=True)
        distances = [float((features[row] - centroid).norm()) for centroid in torch.eye(3, 8)]
        nearest = distances.index(min(distances))
        assert prediction.nearest == model.class_names[nearest]
        assert prediction.distance_over_radius == pytest.approx(distances[nearest] / [0.5, 1, 2][nearest], rel=1e-5)


def test_what_can_be_predicted_can_be_embedded(tmp_path: Path) -> None:
    model = Model.load(checkpoint(tmp_path / "train.ckpt"))
    pictures = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (0, 90, 255)]
    normalised = PREPROCESSING(pictures)
    paths = [tmp_path / f"{place}.png" for place in range(3)]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    expected = model.embed(normalised)
    assert expected.requires_grad
    pixels = torch.stack([PREPROCESSING.pixels(picture) for picture in pictures])
    for images in (pictures, paths, pixels, [str(path) for path in paths]):
        found = model.embed(images, batch_size=2)
        assert torch.allclose(found, expected, atol=1e-6)
        assert not found.is_inference()  # a classifier may learn on it


def test_what_is_not_normalised_is_said(tmp_path: Path) -> None:
    model = Model.load(checkpoint(tmp_path / "train.ckpt"))
    for images, kind in ((torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "torch.uint8"), (["a.jpg"], "list")):
        with pytest.raises(SettingError, match=f"^images must be normalised, .*, got '{kind}'$"):
            model(images)
    for images, said in (("a.jpg", "a list"), ([], "a list"), ([tmp_path / "nowhere.jpg"], "files that exist")):
        with pytest.raises(SettingError, match=f"^images must be {said}"):
            model.embed(images)


def test_what_cannot_be_predicted_is_said(tmp_path: Path) -> None:
    old = {"backbone": BACKBONE, "classifiers": {"train": LINEAR}, "class_names": ["cat", "dog", "owl"]}
    model = Model.load(checkpoint(tmp_path / "old.ckpt", description=None, recipe=old, radii=None))
    assert model.class_counts == (30, 5, 2)
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    with pytest.raises(SettingError, match="does not know its preprocessing"):
        model.predict([Image.new("RGB", (9, 9))])
    known = Model.load(checkpoint(tmp_path / "new.ckpt"))
    (tmp_path / "text.jpg").write_text("no image")
    for images, said in {
        "a.jpg": "must be a list",
        (): "must be a list",
        (tmp_path / "nowhere.jpg",): "must be files that exist",
        (tmp_path / "text.jpg",): r"must be readable, .*text\.jpg",
        (torch.zeros(3, 16, 16),): "must be uint8",
        tmp_path / "text.jpg": "must be a list",
        (3,): r"must be paths, PIL images or uint8 tensors \(C, H, W\), got 'int'",
        (torch.zeros(3, 0, 16, dtype=torch.uint8),): r"must be \(C, H, W\) .* and have pixels, got \(3, 0, 16\)",
    }.items():
        with pytest.raises(SettingError, match=said):
            known.predict(images)
    with pytest.raises(SettingError, match="must be a list"):
        known.preprocessing([])


def test_an_image_that_pil_cannot_decode_does_not_stop_the_others(tmp_path: Path) -> None:
    model = Model.load(checkpoint(tmp_path / "train.ckpt"))
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5_000])
    with Image.open(path) as cut:
        found = list(model.predict_iter([cut, Image.new("RGB", (0, 5)), Image.new("RGB", (5, 5))]))
    assert [type(answer).__name__ for answer in found] == ["Unreadable", "Unreadable", "Prediction"]
    assert "truncated" in found[0].reason
    assert "its size must be 1x1 at least" in found[1].reason


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.exec",
        "torch.hub.load",
        "torch.nn.Linear",
        "drolt_pl.run.python.train",
        "drolt_pl.backbones.base.each",
        "drolt_pl.backbones.each",
        "drolt_pl.backbones.Backbone",
        "drolt_pl.backbones.ModulatedAttention",  # a neck, as a backbone
        "drolt_pl.classifiers.LinearClassifier",
        "drolt_pl.classifiers.HeldOut",
        "drolt_pl.data.DigitsLT",
        "drolt_pl.backbones.imagenet.import_module",
        None,
        7,
    ],
)
def test_nothing_else_is_built(name: object) -> None:
    with pytest.raises(SettingError, match=r"must name one of drolt_pl\.backbones\.CifarResNet") as refused:
        build_backbone({"_target_": name})
    assert "\n" not in str(refused.value)
    with pytest.raises(SettingError, match="must name one of"):
        build_backbone({**BACKBONE, "neck": {"_target_": name if name != NECK["_target_"] else "os.system"}})
    if name != LINEAR["_target_"]:
        with pytest.raises(SettingError, match="must name one of"):
            build_classifier({"_target_": name, **SIZES})


@pytest.mark.parametrize("value", [{"_target_": "os.system"}, [{"_target_": "os.system"}], {"a": {"_target_": "x"}}])
def test_no_argument_names_a_class(value: object) -> None:
    with pytest.raises(SettingError, match="plain value"):
        build_backbone({"_target_": "drolt_pl.backbones.TimmBackbone", "name": "resnet18", "norm_layer": value})


def test_the_list_of_what_is_built() -> None:
    assert set(BACKBONES) == {
        f"drolt_pl.backbones.{name}"
        for name in (
            "CifarResNet",
            "Identity",
            "LoraBackbone",
            "MLP",
            "SmallConvNet",
            "TimmBackbone",
            "TorchvisionResNet",
        )
    }
    assert set(NECKS) == {"drolt_pl.backbones.ModulatedAttention"}
    assert {"drolt_pl.classifiers.LinearClassifier", "drolt_pl.classifiers.OLTRClassifier"} <= set(CLASSIFIERS)
    assert not any("Fitted" in name for name in CLASSIFIERS)


def test_own_classes_need_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets.py").write_text(
        "import drolt_pl.backbones as ours\nclass Mine(ours.SmallConvNet): pass\nclass Not: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = {**BACKBONE, "_target_": "own_nets.Mine"}
    path = checkpoint(tmp_path / "own.ckpt", description={**DESCRIPTION.as_plain(), "backbone": own})
    with pytest.raises(SettingError, match="trust=True"):
        Model.load(path)
    assert "own_nets" not in sys.modules
    assert type(Model.load(path, trust=True).backbone).__name__ == "Mine"
    for name in ("own_nets.Not", "own_nets.Absent", "absent.Net", "print"):
        with pytest.raises(SettingError, match=r"must name a (class that can be imported|torch\.nn\.Module)"):
            build_backbone({"_target_": name}, trust=True)


def test_a_library_network_is_loaded_without_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    import torchvision.models

    asked: dict[str, Any] = {}
    timm_create, get_model = timm.create_model, torchvision.models.get_model
    monkeypatch.setattr(timm, "create_model", lambda name, **k: (asked.update(k), timm_create(name, **k))[1])
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, **k: (asked.update(k), get_model(name, **k))[1])
    spec = {"_target_": "drolt_pl.backbones.TimmBackbone", "name": "test_resnet", "checkpoint_path": "/nowhere"}
    build_backbone({**spec, "pretrained": True})
    assert asked["pretrained"] is False
    assert "checkpoint_path" not in asked
    build_backbone({"_target_": "drolt_pl.backbones.TorchvisionResNet", "weights": "IMAGENET1K_V2"})
    assert asked["weights"] is None


def damaged_tensor(path: Path) -> None:
    tensors = load_file(path)
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
    tensors["classifier.bias"] += 1
    save_file(tensors, path, metadata=header)


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path / "whole.ckpt")
    model = Model.load(whole)
    files = {name: tmp_path / name for name in ("cut.ckpt", "cut.safetensors", "changed.safetensors", "bit.ckpt")}
    model.save(files["cut.safetensors"])
    model.save(files["changed.safetensors"])
    data = whole.read_bytes()
    files["cut.ckpt"].write_bytes(data[: len(data) // 2])
    files["cut.safetensors"].write_bytes(files["cut.safetensors"].read_bytes()[:-7])
    damaged_tensor(files["changed.safetensors"])
    with zipfile.ZipFile(whole) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        place = data.index(largest.filename.encode()) + len(largest.filename) + 200
    files["bit.ckpt"].write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    files["text.txt"] = tmp_path / "text.txt"
    files["text.txt"].write_text("hello")
    files["code.ckpt"] = tmp_path / "code.ckpt"
    torch.save({"drolt_pl": subprocess.Popen}, files["code.ckpt"])
    files["foreign.ckpt"] = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, files["foreign.ckpt"])
    files["foreign.safetensors"] = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, files["foreign.safetensors"])
    files["program.pt2"] = tmp_path / "program.pt2"
    torch.save({}, files["program.pt2"])
    files["nowhere"] = tmp_path / "nowhere"
    files["no run"] = tmp_path
    for name, path in files.items():
        with pytest.raises(SettingError, match=r"^model (must be|is damaged)") as refused:
            Model.load(path)
        assert "\n" not in str(refused.value), name
        assert name.startswith("foreign") == (", whole (it has no 'drolt_pl'), got" in str(refused.value))
    with pytest.raises(SettingError, match=r"it has no checkpoints/best\.ckpt, and no others, got"):
        Model.load(tmp_path)
    with pytest.raises(SettingError, match="do not fit its description"):
        Model.load(checkpoint(tmp_path / "other.ckpt", description={
            **DESCRIPTION.as_plain(), "classifiers": {"train": {**LINEAR, "num_classes": 4}}}))  # fmt: skip
    with pytest.raises(SettingError, match=r"description\.classifier must describe a network"):
        Model.load(checkpoint(tmp_path / "args.ckpt", description={
            **DESCRIPTION.as_plain(), "classifiers": {"train": {**LINEAR, "colour": 4}}}))  # fmt: skip


def test_a_run_folder_gives_its_result_or_a_stage(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("best", "joint"):
        checkpoint(tmp_path / "checkpoints" / f"{name}.ckpt")
    assert Model.load(tmp_path).stage == Model.load(str(tmp_path), stage="joint").stage == "train"
    with pytest.raises(SettingError, match=r"no checkpoints/pretrain\.ckpt, but \['best', 'joint'\]"):
        Model.load(tmp_path, stage="pretrain")


def test_loading_needs_neither_hydra_nor_lightning(tmp_path: Path) -> None:
    checkpoint(tmp_path / "train.ckpt")
    code = (
        "import sys; from drolt_pl import Model; model = Model.load('train.ckpt'); "
        "from PIL import Image; print(len(model.predict([Image.new('RGB', (9, 9))]))); "
        "print([name for name in ('hydra', 'omegaconf', 'pytorch_lightning', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["1", "[]"]


def test_a_run_predicts_what_its_test_measured(tmp_path: Path) -> None:
    results = train_composed(tmp_path, *SHORT)
    data = build(composed(*SHORT), "dataset")
    data.setup()
    found, test = data.catalogue(), data.split.test
    model = Model.load(tmp_path)
    assert list(model.class_counts or ()) == results["class_counts"]
    predictions = model.predict(list(found.source.fetch(test)), batch_size=100)
    targets = torch.from_numpy(found.targets[test])
    for key, answers in {"acc": predictions.classes[:, 0], "acc_ncm": predictions.nearest}.items():
        assert answers is not None
        right = [float((answers[targets == label] == label).float().mean()) for label in range(10)]
        assert sum(right) / 10 == pytest.approx(results["test"][key], abs=1e-6)
    assert predictions.distance_over_radius is not None
    assert model.radii is not None
    assert model.radii.tolist() == pytest.approx(results["eps"])


def test_a_disk_that_fails_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(checkpoint(tmp_path / "a.ckpt"))
    path = tmp_path / "model.safetensors"
    model.save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        model.save(path)
    assert raised.value.filename == str(path)
    assert path.read_bytes() == before
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.ckpt", "model.safetensors"]
