"""A pretrained network from its weights to a run, and from a run to wherever the weights are not."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.data_tools import write_images
from helpers.running import composed, folder_of_a_run, train_composed
from omegaconf import OmegaConf
from safetensors.torch import save_file
from typer.testing import CliRunner

from drolt_pl import Model
from drolt_pl.backbones import TimmBackbone
from drolt_pl.cli.app import app
from drolt_pl.data.stored import read_features
from drolt_pl.errors import SettingError
from drolt_pl.run.machine import settle
from drolt_pl.run.network import build_datamodule

ONE_EPOCH = [f"schedule.budget.{stage}=1" for stage in ("ce_warmup", "joint", "rebalance")]
QUICK = ("trainer=cpu", *ONE_EPOCH, "dataset.batch_size=8", "num_threads=1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for part, count in (("train", 8), ("test", 2)):
        for number, name in enumerate(("ant", "bee", "cow")):
            write_images(root / part / name, count, size=12, seed=number + 10 * count)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm

    folder = tmp_path_factory.mktemp("weights")
    for name in ("test_vit", "test_resnet"):
        torch.save(timm.create_model(name, num_classes=5).state_dict(), folder / f"{name}.pth")
    return folder


def network(name: str, weights: Path) -> list[str]:
    return ["backbone=timm", f"backbone.name={name}", f"backbone.weights={weights / name}.pth"]


def images(*overrides: str) -> dict[str, Any]:
    module = build_datamodule(composed("dataset=image_folder", *overrides))
    return {"size": vars(module)["size"], "mean": module.mean, "std": module.std}


def test_what_the_data_set_leaves_open_is_the_networks(photos: Path) -> None:
    root = f"dataset.root={photos}"
    lite = ["backbone=timm", "backbone.name=tf_efficientnet_lite0"]
    assert images(root, *lite) == {"size": 224, "mean": [0.5] * 3, "std": [0.5] * 3}
    changed = images(root, *lite, "dataset.image_size=64", "dataset.mean=[0.1,0.2,0.3]")
    assert changed == {"size": 64, "mean": [0.1, 0.2, 0.3], "std": [0.5] * 3}
    small = images(root, "backbone=resnet32")
    assert (small["size"], small["mean"]) == (32, [0.485, 0.456, 0.406])
    assert images(root, "backbone=resnet50")["size"] == 224
    assert images(root, "dataset.image_size=native")["size"] is None
    with pytest.raises(SettingError, match=r"^backbone.name must be one of timm.list_models\(\)"):
        images(root, "backbone=timm", "backbone.name=resnet19")


def test_a_checkpoint_needs_the_weights_no_more(photos: Path, weights: Path, tmp_path: Path) -> None:
    own = tmp_path / "weights"
    shutil.copytree(weights, own)
    words = (
        *QUICK,
        "dataset=image_folder",
        f"dataset.root={photos}",
        "dataset.image_size=32",
        "dataset.val_per_class=2",
    )
    words = (*words, *network("test_vit", own))
    first = folder_of_a_run(tmp_path / "first", *words)
    model = Model.load(first)
    assert model.description.backbone["img_size"] == 32  # the network was made for 160
    assert model.preprocessing.image_size == 32
    shutil.rmtree(own)
    stored = embedded(tmp_path, str(photos), "--backbone", str(first), "--dtype", "float32", "--threads", "1")
    paths = [photos / name.decode() for name in stored.names]
    torch.testing.assert_close(stored.features, model.embed(model.preprocessing(paths)).detach(), atol=1e-5, rtol=1e-4)
    with pytest.raises(SettingError, match=r"backbone.weights must be null, true, or a file that exists"):
        train_composed(tmp_path / "again", *words)
    train_composed(tmp_path / "warm", *words, f"init_from={first}:ce_warmup")
    before = json.loads((first / "results.json").read_text())
    assert train_composed(first, *words, f"resume={first}")["test"] == before["test"]


def test_finetuning_takes_one_rate_in_every_stage(photos: Path, weights: Path, tmp_path: Path) -> None:
    words = ("experiment=finetune", f"dataset.root={photos}", "dataset.image_size=32", "dataset.val_per_class=2")
    quick = (*QUICK[:-2], "dataset.batch_size=8", "optimizer.lr=0.002", "dataset.crop_padding=2")
    run = folder_of_a_run(tmp_path / "run", *words, *network("test_vit", weights), *quick, "method=dro_lt")
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    # One epoch of the first stage lies within its warm-up of two; the last stage's backbone is frozen.
    assert [float(row["lr/classifier"]) for row in rows] == pytest.approx([0.001, 0.002, 0.002])
    assert [float(row["lr/backbone"]) for row in rows] == pytest.approx([0.0003, 0.0006, 0])
    assert Model.load(run).preprocessing.image_size == 32


def test_the_size_of_images_is_decided_by_the_machine_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, size in ((True, 224), (False, 160)):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda available=available: available)
        config = composed("experiment=finetune", "dataset.root=photos")
        assert composed("experiment=finetune", "dataset.root=photos", "trainer=cpu").dataset.image_size == 160
        settle(config)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda available=available: not available)
        assert config.dataset.image_size == size


def embedded(tmp_path: Path, *words: str, name: str = "features.safetensors") -> Any:
    done = CliRunner().invoke(app, ["embed", *words, "-o", str(tmp_path / name)])
    assert done.exit_code == 0, done.output
    return read_features(tmp_path / name)


def test_embed_writes_what_the_network_says(photos: Path, weights: Path, tmp_path: Path) -> None:
    flags = ["--backbone", "timm:test_resnet", "--weights", str(weights / "test_resnet.pth"), "--threads", "1"]
    found = embedded(tmp_path, str(photos), "dataset.image_size=32", *flags, "--dtype", "float32", "--views", "2")
    assert (found.features.shape, found.views.shape) == ((30, 96), (2, 24, 96))
    assert (found.class_names, found.names[0]) == (["ant", "bee", "cow"], b"train/ant/000.png")
    assert found.metadata == {"backbone": "timm:test_resnet", "precision": "32", "weights": "test_resnet.pth"}
    words = ["dataset=image_folder", f"dataset.root={photos}", "dataset.image_size=32"]
    module = build_datamodule(composed(*words, *network("test_resnet", weights)))
    module.setup()
    source = module.catalogue().source
    backbone = TimmBackbone("test_resnet", weights=str(weights / "test_resnet.pth")).eval()
    batch = source.transform(module.mean, module.std, None)(source.fetch(torch.arange(30).numpy()), torch.Generator())
    with torch.no_grad():
        torch.testing.assert_close(found.features, backbone(batch), atol=1e-5, rtol=1e-4)
    assert not torch.equal(found.views[0], found.views[1])
    features = build_datamodule(composed("dataset=features", f"dataset.file={tmp_path / 'features.safetensors'}"))
    features.setup()
    assert features.split.sha256 == module.split.sha256  # the split that training on the images would have


def test_embed_takes_the_split_of_the_images_alone(photos: Path, weights: Path, tmp_path: Path) -> None:
    words = [f"dataset.root={photos}", "dataset.image_size=32", "dataset.imbalance_ratio=2", "dataset.val_per_class=2"]
    flags = ["--backbone", "timm:test_resnet", "--weights", str(weights / "test_resnet.pth"), "--threads", "1"]
    found = embedded(tmp_path, "dataset=image_folder", *words, *flags, "--split", "--views", "1")
    module = build_datamodule(composed("dataset=image_folder", *words, *network("test_resnet", weights)))
    module.setup()
    names = module.catalogue().names
    for part in ("train", "val", "test"):
        assert sorted(found.names[found.official == part]) == sorted(names[module.split.parts[part]])
    assert found.views.shape == (1, len(module.split.train), 96)


def test_embed_refuses_in_a_sentence(photos: Path, tmp_path: Path) -> None:
    out = ["-o", str(tmp_path / "a.safetensors")]
    for words, message in (
        (
            [str(photos), "--backbone", "timm:test_resnet", *out],
            "--weights must be given: features of a network without",
        ),
        (["lr=1", *out], "DATA must be one folder of images, manifest, index or file of features"),
        ([str(photos), "-o", "a.npz"], "--out must end in .safetensors"),
        ([str(photos), "--backbone", "nowhere", *out], "model must be a run's folder"),
    ):
        done = CliRunner().invoke(app, ["embed", *words])
        assert done.exit_code == 1
        assert f"error: {message}" in done.output
    assert not (tmp_path / "a.safetensors").exists()


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clouds in two stored views, and a test set."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(90) % 3
    rows = torch.nn.functional.one_hot(targets, 6).float() * 3 + torch.randn(90, 6, generator=generator)
    path = tmp_path_factory.mktemp("features") / "clouds.safetensors"
    split = torch.tensor([0] * 60 + [2] * 30, dtype=torch.uint8)
    views = torch.stack([rows[:60] + 0.1 * torch.randn(60, 6, generator=generator) for _ in range(2)])
    save_file({"features": rows, "labels": targets, "split": split, "views": views}, path)
    return path


def on_features(path: Path, *overrides: str) -> list[str]:
    return [*QUICK, "dataset=features", f"dataset.file={path}", "dataset.val_per_class=4", *overrides]


@pytest.mark.parametrize("backbone", ["identity", "mlp"])
def test_three_stages_and_table_4_on_features(backbone: str, features: Path, tmp_path: Path) -> None:
    run = folder_of_a_run(
        tmp_path / "run", *on_features(features, f"backbone={backbone}", "schedule.budget.ce_warmup=4")
    )
    model = Model.load(run)
    assert model.embed(torch.zeros(2, 6)).shape == (2, {"identity": 6, "mlp": 256}[backbone])
    with pytest.raises(SettingError, match="does not know its preprocessing"):
        model.predict(["a.jpg"])
    done = CliRunner().invoke(app, ["classifiers", str(run), "--epochs", "1", "--views", "2"])
    assert done.exit_code == 0, done.output
    assert (run / "classifiers_ce_warmup.json").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method=ssp"],
            "schedule.stages.pretrain.objective must be one for stored features: this one works on the pix",
        ),
        (["backbone=resnet32"], "backbone._target_ must take stored features, as backbone=mlp and identity do"),
        (["method=oltr"], "backbone.neck must be null for stored features"),
        (["augment=basic"], "augment must be null for samples that are not images"),
        (["schedule.stages.joint.mixing=cutmix"], "schedule.stages.joint.mixing must be one for stored features"),
        (["method=supcon", "schedule.stages.ce_warmup.views=3"], "schedule.stages.ce_warmup.views must be at most 2"),
    ],
)
def test_what_needs_images_is_refused(overrides: list[str], message: str, features: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError) as raised:
        train_composed(tmp_path, *on_features(features, *overrides))
    assert str(raised.value).startswith(message)


def test_images_need_a_network_of_images(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^backbone._target_ must take images: MLP takes stored features"):
        train_composed(tmp_path, *QUICK, "dataset=digits_lt", "backbone=mlp")


METHODS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["identity", "mlp"])
@pytest.mark.parametrize("method", sorted({*METHODS} - {"ssp", "oltr"}))
def test_every_method_on_features(method: str, backbone: str, features: Path, tmp_path: Path) -> None:
    words = on_features(features, f"method={method}", f"backbone={backbone}")
    assert 0 < train_composed(tmp_path, *words)["test"]["acc"] <= 1


def test_the_configuration_of_features_is_whole(features: Path) -> None:
    config = composed("dataset=features", f"dataset.file={features}")
    assert OmegaConf.to_container(config, resolve=True)["augment"] is None
