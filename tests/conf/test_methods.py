"""Every method composes with every kind of data set, sees as many images as the others, and trains."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.running import HOME, composed, train_composed
from hydra.errors import HydraException
from omegaconf import OmegaConf

METHODS = sorted(path.stem for path in (HOME / "conf" / "method").glob("*.yaml"))
SETTINGS = {
    "imagenet_lt": ["dataset=imagenet_lt"],
    "cifar100_lt": ["dataset=cifar100_lt"],
    "digits_lt": [],
    "cifar_short": ["schedule=cifar_short"],
    "tin100_short": ["experiment=tin100_short"],
}
POST_HOC = {"tau_norm", "logit_adjustment_post_hoc", "ncm", "smdragon"}  # their second stage takes no steps
EACH = pytest.mark.parametrize("method", METHODS)


def stages(*overrides: str) -> dict[str, Any]:
    return OmegaConf.to_container(composed(*overrides).schedule, resolve=True)["stages"]  # type: ignore[index,call-overload,return-value]


@EACH
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_method_keeps_the_setting_and_sees_as_many_images(method: str, setting: str) -> None:
    plain, config = composed(*SETTINGS[setting]), composed(*SETTINGS[setting], f"method={method}")
    for key in ("dataset", "optimizer", "trainer", "augment"):
        assert config[key] == plain[key]
    own = {"neck"}  # oltr adds one to whatever backbone there is
    assert {key: value for key, value in config.backbone.items() if key not in own} == dict(plain.backbone)
    assert config.method_name == method
    ours, theirs = stages(*SETTINGS[setting], f"method={method}"), stages(*SETTINGS[setting])
    assert {stage.get("epoch_size", "dataset") for stage in ours.values()} == {"dataset"}
    if method in POST_HOC:
        ours.pop("rebalance")
    assert sum(stage["epochs"] for stage in ours.values()) == sum(stage["epochs"] for stage in theirs.values())


def one_epoch_a_stage(*overrides: str) -> list[str]:
    short = [f"schedule.stages.{name}.epochs=1" for name, stage in stages(*overrides).items() if stage["epochs"]]
    return ["trainer=cpu", *overrides, *short]


@EACH
def test_a_method_trains_on_the_digits(method: str, tmp_path: Path) -> None:
    results = train_composed(tmp_path, *one_epoch_a_stage(f"method={method}"))
    assert results["method"] == method
    named = stages(f"method={method}")
    trained = [name for name, stage in named.items() if stage["epochs"]]
    assert list(results["stages"]) == [*trained, *(name for name in named if name not in trained)]
    assert results["test"].keys() >= {"acc", "acc_micro", "many", "medium", "few", "acc_ncm", "ece", "per_class"}
    assert results["val"]["acc"] is not None
    # An odd number of images makes one view less than two of each.
    budget = len(trained) * sum(results["class_counts"])
    assert budget - 1 <= results["images_seen"] <= budget
    with (tmp_path / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(trained)


def test_only_scales_learn_in_lws(tmp_path: Path) -> None:
    train_composed(tmp_path, *one_epoch_a_stage("method=lws"))
    before = torch.load(tmp_path / "checkpoints" / "ce_warmup.ckpt", weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "checkpoints" / "rebalance.ckpt", weights_only=True)["state_dict"]
    moved = {key for key in before if not torch.equal(before[key], after[key]) and key.split(".")[0] in PARTS}
    frozen = {"classifiers.rebalance.frozen_weight", "classifiers.rebalance.frozen_bias"}
    assert moved == {"classifiers.rebalance.class_scale"} | frozen  # the two are copied at the stage's start
    assert torch.equal(after["classifiers.rebalance.frozen_weight"], before["classifiers.ce_warmup.weight"])


def test_second_stages_have_the_rates_of_their_sources() -> None:
    """MiSLAS: 0.1 of 0.2 on the classifier of stage one, kept, whatever the schedule does; OLTR: 0.01 and 0.1."""
    for setting in SETTINGS.values():
        mislas = stages(*setting, "method=mislas")["rebalance"]
        assert (mislas["lr"], mislas["classifier"]) == (0.02, "keep")
        assert stages(*setting, "method=oltr")["joint"]["lr"] == {"backbone": 0.01, "classifier": 0.1}
        bcl = composed(*setting, "method=bcl").classifier
        assert (bcl["_target_"].rsplit(".", 1)[1], bcl.scale) == ("CosineClassifier", 30.0)


PARTS = ("backbone", "classifiers", "objectives")


def test_mislas_shifts_the_statistics_and_no_weight(tmp_path: Path) -> None:
    train_composed(tmp_path, *one_epoch_a_stage("method=mislas"))
    before = torch.load(tmp_path / "checkpoints" / "ce_warmup.ckpt", weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "checkpoints" / "rebalance.ckpt", weights_only=True)["state_dict"]
    moved = {key for key in before if key.startswith("backbone") and not torch.equal(before[key], after[key])}
    assert {key.rsplit(".", 1)[1] for key in moved} == {"running_mean", "running_var", "num_batches_tracked"}
    assert not torch.equal(before["classifiers.ce_warmup.weight"], after["classifiers.ce_warmup.weight"])


def test_ldam_takes_the_classifiers_scale() -> None:
    config = composed("method=ldam_drw", "classifier.scale=20")
    assert config.criterion.scale == 20
    assert (config.criterion.beta, config.criterion.start) == (0.9999, 0.8)


def test_dro_lt_takes_another_criterion_and_mixup(tmp_path: Path) -> None:
    overrides = ("criterion=ldam", "classifier=cosine", "schedule.stages.joint.mixing=mixup")
    results = train_composed(tmp_path, *one_epoch_a_stage(*overrides))
    assert results["stages"]["joint"]["test"]["acc"] > 0
    balanced = train_composed(tmp_path / "balanced", *one_epoch_a_stage("criterion=logit_adjusted"))
    assert balanced["stages"]["joint"]["test"] != results["stages"]["joint"]["test"]


def test_any_method_after_rotation(tmp_path: Path) -> None:
    pretrain = ("schedule.order=[pretrain]", "+stage=pretrain", "schedule.stages.pretrain.epochs=1")
    results = train_composed(tmp_path, *one_epoch_a_stage("method=crt"), *pretrain)
    assert list(results["stages"]) == ["pretrain", "ce_warmup", "rebalance"]
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["train/loss_rotation"]
    assert not rows[0].get("train/loss_ce")
    assert rows[1]["train/loss_ce"]


@pytest.mark.parametrize("method", ["tau_norm", "lws"])
def test_methods_share_a_stage_by_init_from(method: str, tmp_path: Path) -> None:
    source, first = ("ce", "train") if method == "tau_norm" else ("crt", "ce_warmup")
    train_composed(tmp_path / "source", *one_epoch_a_stage(f"method={source}"))
    alone = train_composed(tmp_path / "alone", *one_epoch_a_stage(f"method={method}"))
    shared = train_composed(
        tmp_path / "shared", *one_epoch_a_stage(f"method={method}"), f"init_from={tmp_path / 'source'}:{first}"
    )
    for key in ("stages", "test", "images_seen", "chosen"):
        assert shared[key] == alone[key], key


def test_two_views_go_forward_without_seeing_more_images(tmp_path: Path) -> None:
    plain = train_composed(tmp_path / "plain", *one_epoch_a_stage("method=ce"))
    two = train_composed(tmp_path / "two", *one_epoch_a_stage("method=ce", "schedule.stages.train.views=2"))
    assert two["images_seen"] == plain["images_seen"] // 2 * 2


def test_the_budget_is_the_sum_of_the_three_stages() -> None:
    for name in ("cifar", "cifar_short", "digits", "large_scale", "tin100_short"):
        schedule = composed("dataset=cifar100_lt", f"schedule={name}").schedule
        epochs = {key: stage.epochs for key, stage in schedule.stages.items()}
        assert schedule.budget.alone == sum(epochs.values()), name
        assert schedule.budget.rest == epochs["joint"] + epochs["rebalance"], name


def test_a_stage_holds_what_its_files_say_and_the_defaults_of_its_type() -> None:
    from drolt_pl.learning.schedule import Stage

    named = composed("schedule.stages.joint.mixing=mixup", "schedule.stages.joint.epochs=60").schedule.stages.joint
    plain = Stage(name="joint", epochs=60)
    assert (named.mixing, named.epochs, named.samples_per_class) == ("mixup", 60, plain.samples_per_class)
    assert list(named.curve.milestones) == list(plain.curve.milestones)
    assert "rebalance" not in composed("~schedule.stages.rebalance").schedule.stages
    added = composed("+stage@schedule.stages.last=rebalance", "schedule.stages.last.epochs=3").schedule.stages
    assert list(added) == ["ce_warmup", "joint", "rebalance", "last"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("schedule.stages.joint.epoch=3", "'epoch' not in"),
        ("schedule.stages.joint.epochs=some", "could not be converted"),
    ],
)
def test_a_wrong_key_or_type_of_a_stage_is_refused_when_composed(override: str, said: str) -> None:
    with pytest.raises(HydraException) as caught:
        composed(override)
    assert said in f"{caught.value} {caught.value.__cause__}"
