"""Low-rank additions: the network starts as it was, they alone learn, and a model's file holds them."""

import sys
from pathlib import Path

import pytest
import torch
from helpers.data_tools import write_images
from helpers.running import composed, train_composed

from drolt_pl import Model
from drolt_pl.backbones import LoraBackbone, TimmBackbone
from drolt_pl.classifiers import ClassMeansClassifier
from drolt_pl.errors import SettingError


def test_without_peft_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SettingError, match=r"^backbone=lora needs peft; pip install 'drolt-pl\[lora\]'"):
        LoraBackbone("test_vit", img_size=32)


def test_the_experiment_composes() -> None:
    config = composed("experiment=lora")
    assert config.backbone._target_.endswith("LoraBackbone")
    assert config.classifier._target_.endswith("ClassMeansClassifier")


def test_rows_start_at_class_means() -> None:
    classifier = ClassMeansClassifier(4, 3)
    classifier.begin(None, generator=torch.Generator().manual_seed(0))
    drawn = classifier.weight.detach().clone()
    centroids = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    classifier.fit(None, centroids, torch.tensor([5, 2, 0]))
    torch.testing.assert_close(classifier(centroids[:2]).argmax(1), torch.tensor([0, 1]))
    torch.testing.assert_close(classifier.weight[0], torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert torch.equal(classifier.weight[2], drawn[2])


@pytest.mark.slow
def test_it_starts_as_the_network_and_learns_little() -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    plain = TimmBackbone("test_vit", img_size=32).eval()
    torch.manual_seed(0)
    network = LoraBackbone("test_vit", rank=2, img_size=32).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(images), plain(images))
    learning = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert learning
    assert all("lora_" in name and "qkv" in name for name in learning)
    with pytest.raises(SettingError, match="targets must be names of linear layers"):
        LoraBackbone("test_vit", targets=["nothing"], img_size=32)


@pytest.mark.slow
def test_a_run_is_trained_and_loaded(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    photos = tmp_path / "photos"
    for part, count in (("train", 12), ("val", 3), ("test", 4)):
        for number, name in enumerate(("cat", "dog", "owl")):
            write_images(photos / part / name, count, seed=number + 10 * count)
    results = train_composed(
        tmp_path / "run", "experiment=lora", "trainer=cpu", f"dataset.root={photos}", "backbone.name=test_vit",
        "backbone.weights=null", "dataset.image_size=32", "dataset.batch_size=8", "schedule.budget.ce_warmup=2",
        "schedule.budget.joint=0", "schedule.budget.rebalance=0",
    )  # fmt: skip
    assert results["test"]["acc"] is not None
    state = torch.load(tmp_path / "run" / "checkpoints" / "train.ckpt", weights_only=True)["state_dict"]
    assert any("lora_B" in key and bool(value.any()) for key, value in state.items())  # it was nought
    model = Model.load(tmp_path / "run")
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)
