"""Every command of the README and the docs composes; every choice of every group does too."""

import re
import shlex

import pytest
from helpers.running import HOME, composed
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from drolt_pl.learning.schedule import Schedule

FOLDERS = sorted(path for path in (HOME / "conf").iterdir() if path.is_dir())
GROUPS = [*(path for path in FOLDERS if path.name != "hydra"), *sorted((HOME / "conf" / "hydra").iterdir())]
CHOICES = [
    f"{group.relative_to(HOME / 'conf').as_posix()}={file.relative_to(group).with_suffix('').as_posix()}"
    for group in GROUPS
    for file in sorted(group.rglob("*.yaml"))
]


def _command_lines() -> list[str]:
    """Arguments of train.py on every line of the README and the docs that runs it."""
    pages = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]
    found = re.findall(
        r"(?:python|torchrun|srun) [^\n#`]*?\btrain\.py *([^\n#`]*)", "\n".join(p.read_text() for p in pages)
    )
    return sorted(set(found))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(choice: str) -> None:
    if choice.startswith("experiment=") or choice.startswith("sweep="):
        composed(choice)
        return
    OmegaConf.to_container(composed(choice).schedule, resolve=True)


@pytest.mark.parametrize("line", _command_lines())
def test_every_command_of_the_pages_composes(line: str) -> None:
    skipped = ("resume=", "init_from=", "hydra.sweep.dir=")
    overrides = [word for word in shlex.split(line) if word != "-m" and not word.startswith(skipped)]
    # A sweep's lists become their first value, as in its first job.
    first = [re.sub(r"=([^,\[{(]+),.*", r"=\1", word) for word in overrides if "interval(" not in word]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(HOME / "conf"), version_base="1.3"):
        compose("config", first, return_hydra_config=True)


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


def test_a_data_set_changes_what_the_main_file_sets() -> None:
    assert composed("dataset=digits_lt").num_threads == 1
    assert composed("dataset=cifar10_lt").num_threads is None
    assert composed("dataset=digits_lt", "num_threads=2").num_threads == 2


def test_no_yaml_names_a_machine() -> None:
    for path in (HOME / "conf").rglob("*.yaml"):
        assert not re.search(r"/(home|root|mnt|data)/", path.read_text()), path
