"""The stage is a pure function of the epoch."""

import pytest

from drolt_pl.errors import SettingError
from drolt_pl.learning.curve import Curve
from drolt_pl.learning.optim import StageOptimizer
from drolt_pl.learning.schedule import Schedule

STAGES = {
    "ce_warmup": {"epochs": 3, "lr": 0.1},
    "joint": {"epochs": 2, "objective": "dro_lt", "sampling": "class_aware"},
    "rebalance": {"epochs": 1, "trainable": ["classifier"], "classifier": "reset", "lr": {"classifier": 0.5}},
}


def test_every_epoch_has_its_stage() -> None:
    schedule = Schedule(STAGES)
    assert [schedule.stage_at(epoch).name for epoch in range(7)] == (
        ["ce_warmup"] * 3 + ["joint"] * 2 + ["rebalance"] * 2
    )
    assert schedule.epochs == 6
    assert [epoch for epoch in range(6) if schedule.enters(epoch)] == [0, 3, 5]
    assert [epoch for epoch in range(6) if schedule.ends(epoch)] == [2, 4, 5]


def test_a_stage_of_no_epochs_is_never_in_force() -> None:
    schedule = Schedule({**STAGES, "joint": {"epochs": 0}})
    assert [schedule.stage_at(epoch).name for epoch in range(5)] == ["ce_warmup"] * 3 + ["rebalance"] * 2
    assert schedule.enters(3)
    assert schedule.ends(2)


def test_a_stage_that_ends_early_brings_the_next_ones_forward() -> None:
    whole = Schedule({**STAGES, "ce_warmup": {"epochs": 5, "curve": {"shape": "cosine"}}})
    factors = [whole.lr_factor(epoch) for epoch in range(3)]
    early = whole.after({})
    early.end(2)
    assert early.ended == {"ce_warmup": 3}
    assert [early.stage_at(epoch).name for epoch in range(6)] == ["ce_warmup"] * 3 + ["joint"] * 2 + ["rebalance"]
    assert (early.epochs, early.ends(2), early.enters(3), early.last_epoch("rebalance")) == (6, True, True, 5)
    assert [early.lr_factor(epoch) for epoch in range(3)] == factors
    assert (whole.epochs, whole.ended) == (8, {})


def test_keep_takes_the_classifier_of_the_stage_before() -> None:
    schedule = Schedule(STAGES)
    assert [schedule.classifier_of(name) for name in STAGES] == ["ce_warmup", "ce_warmup", "rebalance"]
    without = Schedule({"joint": STAGES["joint"], "rebalance": {"epochs": 1}})
    assert without.classifier_of("rebalance") == "joint"


def test_ldam_curve_has_the_published_factors() -> None:
    curve = Curve(shape="multistep", milestones=(0.8, 0.9), gamma=0.01, warmup_epochs=5)
    factors = {epoch: curve(epoch, 200) for epoch in (0, 3, 4, 5, 159, 160, 179, 180, 199)}
    expected = {0: 0.2, 3: 0.8, 4: 1, 5: 1, 159: 1, 160: 0.01, 179: 0.01, 180: 1e-4, 199: 1e-4}
    assert factors == pytest.approx(expected)


def test_cosine_goes_from_one_to_its_end() -> None:
    curve = Curve(shape="cosine", final=0.1)
    assert curve(0, 10) == 1
    assert curve(5, 10) == pytest.approx(0.55)
    assert curve(10, 10) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("epochs", 1.5),
        ("objective", "robust"),
        ("start_from", "first"),
        ("trainable", ["head"]),
        ("trainable", []),
        ("epoch_size", "all"),
        ("lr", -0.1),
        ("lr", {"head": 0.1}),
        ("curve", {"shape": "step"}),
        ("sampels", 3),
        ("samples_per_class", 0),
        ("views", 0),
        ("classifier_args", {"tau": 1}),
        ("patience", 0),
        ("ema", 1.0),
    ],
)
def test_a_wrong_value_is_named_with_its_key(field: str, value: object) -> None:
    with pytest.raises(SettingError, match=rf"^stages\.joint.*{field}"):
        Schedule({"joint": {"epochs": 1, field: value}})


def test_order_names_the_stages_that_come_first() -> None:
    stages = {**STAGES, "pretrain": {"epochs": 4}}
    assert [stage.name for stage in Schedule(stages, ["pretrain"]).stages] == ["pretrain", *STAGES]
    assert Schedule(stages, ["pretrain"]).stage_at(0).name == "pretrain"
    for order in (["pretrian"], ["pretrain", "pretrain"]):
        with pytest.raises(SettingError, match=r"^order must name stages of \['ce_warmup'.*each once, got \['pretr"):
            Schedule(stages, order)


def test_objectives_say_who_needs_centroids() -> None:
    schedule = Schedule({"a": {"epochs": 1, "objective": "mine"}}, objectives={"mine": True})
    assert schedule.stages[0].trains("eps")
    sentence = r"^stages\.a\.objective must be one of \('mine',\): objectives\.ce is missing, got 'ce'"
    with pytest.raises(SettingError, match=sentence):
        Schedule({"a": {"epochs": 1}}, objectives={"mine": True})


def test_progress_is_the_share_of_the_stage_before_the_epoch() -> None:
    schedule = Schedule({"a": {"epochs": 5}, "b": {"epochs": 0}, "c": {"epochs": 2}})
    assert [schedule.progress(epoch) for epoch in range(7)] == [0.0, 0.2, 0.4, 0.6, 0.8, 0.0, 0.5]


def test_a_stage_that_does_not_train_owns_no_classifier() -> None:
    stages = {"a": {"epochs": 1}, "b": {"epochs": 0, "classifier": "reset"}, "c": {"epochs": 1, "start_from": "best"}}
    schedule = Schedule(stages)
    assert schedule.classifier_of("c") == "a"
    before = schedule.before("c")
    assert before is not None
    assert before.name == "a"
    assert schedule.before("a") is None


def test_a_schedule_without_epochs_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^stages\.joint\.epochs must be one at least in all"):
        Schedule({"joint": {"epochs": 0}})


def test_rates_follow_stage_then_optimizer_and_eps_never_decays() -> None:
    import torch

    settings = StageOptimizer(torch.optim.SGD, lr=0.005, eps_lr=0.3, weight_decay=2e-4)
    schedule = Schedule(STAGES)
    rates = {
        (stage.name, group): settings.rates(stage, group, 1.0)
        for stage in schedule.stages
        for group in ("backbone", "classifier", "eps")
    }
    assert rates == {
        ("ce_warmup", "backbone"): (0.1, 2e-4),
        ("ce_warmup", "classifier"): (0.1, 2e-4),
        ("ce_warmup", "eps"): (0.0, 0.0),
        ("joint", "backbone"): (0.005, 2e-4),
        ("joint", "classifier"): (0.005, 2e-4),
        ("joint", "eps"): (0.3, 0.0),
        ("rebalance", "backbone"): (0.0, 0.0),
        ("rebalance", "classifier"): (0.5, 2e-4),
        ("rebalance", "eps"): (0.0, 0.0),
    }
    assert settings.rates(schedule.stages[0], "backbone", 0.01)[0] == pytest.approx(0.001)


def test_each_parameter_is_in_exactly_one_group() -> None:
    import torch

    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    settings = StageOptimizer(torch.optim.SGD, lr=0.1)
    optimizer = settings.build({"backbone": first.parameters(), "classifier": second.parameters(), "eps": []})
    assert [group["name"] for group in optimizer.param_groups] == ["backbone", "classifier"]
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in [*first.parameters(), *second.parameters()])
