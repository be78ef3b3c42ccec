"""The paper's tables and the authors' recipe as configurations: heads that say what they are, and that they train."""

import re
from pathlib import Path

import pytest
import torch
from helpers.running import HOME, composed, train_composed
from omegaconf import OmegaConf

EXPERIMENTS = sorted((HOME / "conf" / "experiment").rglob("*.yaml"))
NAMES = [path.relative_to(HOME / "conf" / "experiment").with_suffix("").as_posix() for path in EXPERIMENTS]
DIGITS = ("trainer=cpu", "report=false", "schedule.stages.ce_warmup.epochs=1", "schedule.stages.rebalance.epochs=1")
CLASSIFIERS = {
    "CE": ("schedule.stages.rebalance.classifier=reset", "schedule.stages.rebalance.sampling=instance"),
    "cRT": ("schedule.stages.rebalance.classifier=reset",),
    "LWS": ("schedule.stages.rebalance.classifier=lws",),
}
REPRESENTATIONS = {
    "CE": ("method=crt",),
    "RS": ("method=crt", "schedule.stages.ce_warmup.sampling=class_balanced"),
    "DRO-LT": ("method=dro_lt", "schedule.stages.joint.epochs=1"),
}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=NAMES)
def test_its_head_has_a_command_that_composes(path: Path) -> None:
    head = path.read_text().split("defaults:")[0]
    commands = re.findall(r"# +python train\.py(.*)", head)
    assert any("experiment=" in command for command in commands)
    for command in commands:
        words = [word for word in command.split("#")[0].split() if word != "-m" and not word.startswith("init_from=")]
        composed(*(re.sub(r"=([^,\[{]+),.*", r"=\1", word) for word in words))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=NAMES)
def test_every_value_it_sweeps_composes(path: Path) -> None:
    name = path.relative_to(HOME / "conf" / "experiment").with_suffix("").as_posix()
    params = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.params") or {}
    for key, values in params.items():
        for value in str(values).split(","):
            composed(f"experiment={name}", f"{key}={value}")


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_every_cell_of_table_4_trains(representation: str, classifier: str, tmp_path: Path) -> None:
    results = train_composed(tmp_path, *DIGITS, *REPRESENTATIONS[representation], *CLASSIFIERS[classifier])
    assert list(results["stages"])[-1] == "rebalance"
    assert results["test"]["acc"] > 0


def test_the_authors_recipe_trains_on_the_digits(tmp_path: Path) -> None:
    recipe = composed("experiment=released_code/cifar100_lt")
    # The data set comes after the experiment: its own backbone and schedule stay out.
    digits = ("dataset=digits_lt", "backbone=convnet_small", "augment=basic", "num_threads=1")
    train_composed(tmp_path, "experiment=released_code/recipe", *DIGITS, *digits, "schedule.stages.joint.epochs=1")
    before, after = (
        torch.load(tmp_path / "checkpoints" / f"{stage}.ckpt", weights_only=True)["state_dict"]
        for stage in ("ce_warmup", "joint")
    )
    key = "classifiers.ce_warmup.weight"
    assert torch.equal(before[key], after[key]), "their classifier is frozen while the features learn"
    assert bool((after["objectives.dro_lt.loss.balls.rho"] != before["objectives.dro_lt.loss.balls.rho"]).all())
    assert OmegaConf.to_container(recipe.objectives.dro_lt.criterion) == {  # type: ignore[comparison-overlap]
        "_target_": "drolt_pl.losses.FrequencyWeighted"
    }
