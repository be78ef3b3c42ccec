"""Every line that the README or the design promises composes; every choice of every group does too."""

import re

import pytest
from omegaconf import OmegaConf
from running import HOME, composed

from drolt_pl.schedule import Schedule

GROUPS = sorted(path for path in (HOME / "conf").iterdir() if path.is_dir())
CHOICES = [
    f"{group.name}={file.relative_to(group).with_suffix('').as_posix()}"
    for group in GROUPS
    for file in sorted(group.rglob("*.yaml"))
]


def _readme_lines() -> list[str]:
    text = (HOME / "README.md").read_text()
    return sorted(set(re.findall(r"python train\.py *([^\n#`]*)", text)))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(choice: str) -> None:
    if choice.startswith("experiment=") or choice.startswith("sweep="):
        composed(choice)
        return
    OmegaConf.to_container(composed(choice).schedule, resolve=True)


@pytest.mark.parametrize("line", _readme_lines())
def test_every_line_of_the_readme_composes(line: str) -> None:
    overrides = [
        word for word in line.split() if word != "-m" and not word.startswith(("resume=", "init_from=", "hydra"))
    ]
    # A sweep's lists become their first value, as in its first job.
    composed(*(re.sub(r"=([^,\[{]+),.*", r"=\1", word) for word in overrides))


def test_imagenet_brings_its_backbone_and_schedule_and_the_command_line_wins() -> None:
    config = composed("dataset=imagenet_lt", "loss.eps_mode=learned")
    assert config.backbone.arch == "resnet50"
    assert config.schedule.stages.ce_warmup.epochs == 90
    assert composed("dataset=imagenet_lt", "backbone=resnet32").backbone.depth == 32


def test_stages_can_be_changed_and_left_out() -> None:
    config = composed("dataset=cifar100_lt", "schedule.stages.joint.epochs=60", "~schedule.stages.rebalance")
    schedule = Schedule(OmegaConf.to_container(config.schedule.stages, resolve=True))
    assert [(stage.name, stage.epochs) for stage in schedule.stages] == [("ce_warmup", 200), ("joint", 60)]


def test_only_joint_leaves_its_learning_rate_to_the_optimizer() -> None:
    for name in ("cifar", "digits", "large_scale"):
        stages = composed(f"schedule={name}", "dataset=cifar100_lt").schedule.stages
        assert [key for key, stage in stages.items() if stage.lr is None] == ["joint"], name


def test_no_yaml_names_a_machine() -> None:
    for path in (HOME / "conf").rglob("*.yaml"):
        assert not re.search(r"/(home|root|mnt|data)/", path.read_text()), path
