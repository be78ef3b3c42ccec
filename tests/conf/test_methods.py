"""Every method composes with every kind of data set, sees as many images as the others, and trains."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.running import HOME, composed, train_composed
from hydra.errors import HydraException
from omegaconf import OmegaConf
from torch import Tensor

from drolt_pl.errors import SettingError
from drolt_pl.learning.curve import Curve

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
    own = {"neck", "experts"}  # oltr adds one to whatever backbone there is; ride has three of its last layers
    assert {key: value for key, value in config.backbone.items() if key not in own} == dict(plain.backbone)
    assert config.method_name == method
    ours, theirs = stages(*SETTINGS[setting], f"method={method}"), stages(*SETTINGS[setting])
    assert {stage.get("epoch_size", "dataset") for stage in ours.values()} == {"dataset"}
    if method in POST_HOC:
        ours.pop("rebalance")
    assert sum(stage["epochs"] for stage in ours.values()) == sum(stage["epochs"] for stage in theirs.values())


def one_epoch_a_stage(*overrides: str) -> list[str]:
    short = [f"schedule.stages.{name}.epochs=1" for name, stage in stages(*overrides).items() if stage["epochs"]]
    return ["trainer=cpu", "report=false", *overrides, *short]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a method's run on the digits, which each method has once."""

    @cache
    def trained(method: str) -> Path:
        folder = tmp_path_factory.mktemp(method)
        train_composed(folder, *one_epoch_a_stage(f"method={method}"))
        return folder

    return trained


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def weights_after(folder: Path, *stages: str) -> Iterator[dict[str, Tensor]]:
    for stage in stages:
        yield torch.load(folder / "checkpoints" / f"{stage}.ckpt", weights_only=True)["state_dict"]


@EACH
def test_a_method_trains_on_the_digits(method: str, run_of: Callable[[str], Path]) -> None:
    results = results_of(run_of(method))
    assert results["method"] == method
    named = stages(f"method={method}")
    trained = [name for name, stage in named.items() if stage["epochs"]]
    assert list(results["stages"]) == [*trained, *(name for name in named if name not in trained)]
    assert results["test"].keys() >= {"acc", "acc_micro", "many", "medium", "few", "acc_ncm", "ece", "per_class"}
    assert results["val"]["acc"] is not None
    # An odd number of images makes one view less than two of each.
    budget = len(trained) * sum(results["class_counts"])
    assert budget - 1 <= results["images_seen"] <= budget
    with (run_of(method) / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(trained)


def test_only_scales_learn_in_lws(run_of: Callable[[str], Path]) -> None:
    before, after = weights_after(run_of("lws"), "ce_warmup", "rebalance")
    moved = {key for key in before if not torch.equal(before[key], after[key]) and key.split(".")[0] in PARTS}
    frozen = {"classifiers.rebalance.frozen_weight", "classifiers.rebalance.frozen_bias"}
    assert moved == {"classifiers.rebalance.class_scale"} | frozen  # the two are copied at the stage's start
    assert torch.equal(after["classifiers.rebalance.frozen_weight"], before["classifiers.ce_warmup.weight"])


def test_second_stages_have_the_rates_of_their_sources() -> None:
    """MiSLAS: 0.1 of 0.2 on the classifier of stage one, kept, whatever the schedule does; OLTR: 0.01 and 0.1."""
    for setting in SETTINGS.values():
        mislas = stages(*setting, "method=mislas")["rebalance"]
        assert (mislas["lr"], mislas["classifier"]) == (0.02, "keep")
        assert (mislas["sampling"], mislas["samples_per_class"]) == ("class_aware", 4)
        assert stages(*setting, "method=oltr")["joint"]["lr"] == {"backbone": 0.01, "classifier": 0.1}
        bcl = composed(*setting, "method=bcl").classifier
        assert (bcl["_target_"].rsplit(".", 1)[1], bcl.scale) == ("CosineClassifier", 30.0)


@pytest.mark.parametrize(
    ("method", "factors"),
    [("mislas", [1, 0.1, 0.01]), ("mixup_drw", [1, 0.1, 0.01]), ("ldam_drw", [1, 0.01, 0.0001])],
)
def test_the_steps_of_stage_one(method: str, factors: list[float]) -> None:
    """LDAM-DRW falls to 1/100 and 1/10,000; at those, weights that come into force at 0.8 move no linear classifier."""
    (first, *_) = stages("dataset=cifar100_lt", f"method={method}").values()
    curve = Curve(**first["curve"])
    assert [curve(epoch, 200) for epoch in (100, 170, 190)] == pytest.approx(factors)


def test_mislas_is_that_of_its_code() -> None:
    config = composed("method=mislas")
    assert config.mixing.mixup.share_per == "batch"
    assert config.objectives.smoothed.criterion.spread == "all"
    assert composed("method=mixup_drw").mixing.mixup.share_per == "sample"


def test_class_balance_follows_the_row_that_is_compared_with() -> None:
    """BagofTricks: 0.9 on CIFAR-100-LT, 0.9999 on CIFAR-10-LT; Cao et al.'s rows of Table 1: 0.9999 on both."""
    for method in ("reweight", "cb_focal"):
        betas = {name: composed(f"dataset={name}_lt", f"method={method}").criterion.beta for name in NAMED_SETS}
        assert betas == {"cifar100": 0.9, "cifar10": 0.9999, "digits": 0.9999}
        assert composed("experiment=paper/table1", f"method={method}").criterion.beta == 0.9999
    assert composed("dataset=cifar100_lt", "method=ldam_drw").criterion.beta == 0.9999


def test_both_class_balanced_focal_losses_have_a_name() -> None:
    cui = composed("method=cb_focal")
    assert (cui.criterion._target_, cui.classifier.init) == ("drolt_pl.losses.SigmoidFocal", "rare_sigmoid")
    cao = composed("method=cb_focal", "criterion=weighted_focal", "classifier.init=torch", "class_balance.beta=0.999")
    assert (cao.criterion._target_, cao.criterion.beta) == ("drolt_pl.losses.WeightedFocal", 0.999)


NAMED_SETS = ("cifar100", "cifar10", "digits")
PARTS = ("backbone", "classifiers", "objectives")


def test_mislas_shifts_the_statistics_and_no_weight(run_of: Callable[[str], Path]) -> None:
    before, after = weights_after(run_of("mislas"), "ce_warmup", "rebalance")
    moved = {key for key in before if key.startswith("backbone") and not torch.equal(before[key], after[key])}
    assert {key.rsplit(".", 1)[1] for key in moved} == {"running_mean", "running_var", "num_batches_tracked"}
    assert not torch.equal(before["classifiers.ce_warmup.weight"], after["classifiers.ce_warmup.weight"])


def test_mislas_with_factors_learns_both(tmp_path: Path) -> None:
    train_composed(tmp_path, *one_epoch_a_stage("method=mislas", "schedule.stages.rebalance.classifier=scaled"))
    before, after = weights_after(tmp_path, "ce_warmup", "rebalance")
    assert not torch.equal(after["classifiers.rebalance.row_weight"], before["classifiers.ce_warmup.weight"])
    assert bool((after["classifiers.rebalance.class_scale"] != 1).any())
    assert torch.equal(after["classifiers.ce_warmup.weight"], before["classifiers.ce_warmup.weight"])


def test_the_memory_of_oltr_learns_with_the_backbone(run_of: Callable[[str], Path]) -> None:
    """In the optimizer's first group, at the rate of the features, and moved by the stage."""
    kept = torch.load(run_of("oltr") / "checkpoints" / "joint.ckpt", weights_only=True)
    groups = {group["name"]: group for group in kept["optimizer_states"][0]["param_groups"]}
    assert (groups["backbone"]["lr"], groups["classifier"]["lr"]) == (0.01, 0.1)
    in_backbone = sum(1 for key in kept["state_dict"] if key.startswith("backbone.") and "running" not in key)
    in_backbone -= sum(1 for key in kept["state_dict"] if key.startswith("backbone.") and "num_batches" in key)
    assert len(groups["backbone"]["params"]) == in_backbone + 1
    assert not torch.equal(kept["state_dict"]["classifiers.joint.memory"], kept["state_dict"]["centroids"])


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


def test_the_experts_of_lfme_learn_in_their_stage_alone(run_of: Callable[[str], Path]) -> None:
    before, after = weights_after(run_of("lfme"), "experts", "ce_warmup")
    named = [key for key in after if key.startswith("objectives.group_experts.parts.")]
    assert {key.split(".")[3] for key in named} == {"0", "1", "2"}
    assert [key for key in named if not torch.equal(before[key], after[key])] == []
    student = next(key for key in before if key.startswith("backbone.") and key.endswith("weight"))
    assert not torch.equal(before[f"objectives.group_experts.parts.0.{student}"], before[student]), (
        "an expert has left the weights that it starts from"
    )
    assert not torch.equal(after[student], before[student])
    with (run_of("lfme") / "metrics.csv").open() as file:
        taught = list(csv.DictReader(file))[1]
    assert {f"train/weight_{group}" for group in ("many", "medium", "few")} <= taught.keys()
    assert not bool(before["objectives.group_experts.accuracies"].isnan().any())


def test_any_method_after_rotation(tmp_path: Path) -> None:
    pretrain = ("schedule.order=[pretrain]", "+stage=pretrain", "schedule.stages.pretrain.epochs=1")
    results = train_composed(tmp_path, *one_epoch_a_stage("method=crt"), *pretrain)
    assert list(results["stages"]) == ["pretrain", "ce_warmup", "rebalance"]
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["train/loss_rotation"]
    assert not rows[0].get("train/loss_ce")
    assert rows[1]["train/loss_ce"]


@pytest.mark.parametrize("method", ["tau_norm", "lws", "lfme"])
def test_methods_share_a_stage_by_init_from(method: str, run_of: Callable[[str], Path], tmp_path: Path) -> None:
    source, first = {"tau_norm": ("ce", "train"), "lws": ("crt", "ce_warmup"), "lfme": ("lfme", "experts")}[method]
    alone = results_of(run_of(method))
    shared = train_composed(tmp_path, *one_epoch_a_stage(f"method={method}"), f"init_from={run_of(source)}:{first}")
    for key in ("stages", "test", "images_seen", "chosen"):
        assert shared[key] == alone[key], key


def test_two_views_go_forward_without_seeing_more_images(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    plain = results_of(run_of("ce"))
    two = train_composed(tmp_path, *one_epoch_a_stage("method=ce", "schedule.stages.train.views=2"))
    assert two["images_seen"] == plain["images_seen"] // 2 * 2


BCL = ("method=bcl", "augment=bcl")


def test_bcl_as_its_source_has_three_views(tmp_path: Path) -> None:
    three = "schedule.stages.train.views=3"
    results = train_composed(tmp_path, *one_epoch_a_stage(*BCL, three))
    assert results["images_seen"] == sum(results["class_counts"]) // 3 * 3
    with (tmp_path / "metrics.csv").open() as file:
        assert {"train/loss_ce", "train/loss_contrastive", "train/acc"} <= next(csv.DictReader(file)).keys()


def test_a_list_of_augmentations_names_the_views_that_it_needs(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"^schedule.stages.train.views must be 3, as many as augment lists, or 1, got"
    ):
        train_composed(tmp_path, *one_epoch_a_stage(*BCL))


def test_supcon_as_its_source_augments(tmp_path: Path) -> None:
    kept = ("augment=supcon", "objectives.supcon.base_temperature=0.07")
    results = train_composed(tmp_path, *one_epoch_a_stage("method=supcon", *kept))
    assert results["test"]["acc"] > 0


def test_batchnorm_may_follow_the_second_stage(tmp_path: Path) -> None:
    """Kang et al.'s code trains its classifiers with the backbone in train mode."""
    train_composed(tmp_path, *one_epoch_a_stage("method=crt", "schedule.stages.rebalance.shift_bn=true"))
    before, after = weights_after(tmp_path, "ce_warmup", "rebalance")
    moved = {key for key in before if key.startswith("backbone") and not torch.equal(before[key], after[key])}
    assert {key.rsplit(".", 1)[1] for key in moved} == {"running_mean", "running_var", "num_batches_tracked"}


def _offered() -> list[str]:
    """Overrides that stand on lines of their own in docs/methods.md and in the heads of methods."""
    lines = [line.removeprefix("    ") for line in (HOME / "docs" / "methods.md").read_text().splitlines()]
    for path in [*(HOME / "conf" / "method").glob("*.yaml"), *(HOME / "conf" / "augment").glob("*.yaml")]:
        prefix = f"method={path.stem} " if path.parent.name == "method" else ""
        for line in path.read_text().splitlines():
            words = line.removeprefix("#   ")
            if words != line:
                lines.append(words if words.startswith("method=") else prefix + words)
    return sorted({line for line in lines if re.fullmatch(r"method=\S+( [+~]?\S+=\S+)+", line)})


@pytest.mark.parametrize("line", _offered())
def test_what_the_pages_offer_composes(line: str) -> None:
    OmegaConf.to_container(composed(*line.split()).schedule, resolve=True)


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
