"""Every command of the README and the docs composes; every choice of every group does too."""

import re
import shlex

import pytest
from helpers.running import HOME, composed
from omegaconf import OmegaConf
from typer.core import TyperGroup
from typer.main import get_command

from drolt_pl.cli.app import app
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
    text = "\n".join(page.read_text() for page in pages).replace("\\\n", " ")  # a command may go on in the next line
    found = re.findall(r"(?:python|torchrun|srun) [^\n#`]*?\btrain\.py *([^\n#`]*)", text)
    return sorted(set(found))


def _keys(node: object, prefix: str = "") -> set[str]:
    """Dotted keys of a configuration and of everything below it."""
    if not isinstance(node, dict):
        return set()
    own = {f"{prefix}{key}": value for key, value in node.items()}
    return own.keys() | {below for key, value in own.items() for below in _keys(value, f"{key}.")}


def test_every_key_that_the_pages_name_exists() -> None:
    """Keys in running text and tables, `a.b=c` or `a.b`; a method or a data set may bring them."""
    methods = [f"method={path.stem}" for path in (HOME / "conf" / "method").glob("*.yaml")]
    sets = [f"dataset={path.stem}" for path in (HOME / "conf" / "dataset").glob("*.yaml")]
    others = [
        "experiment=finetune",
        "backbone=lora",
        "logger=wandb",
        "sweep=fair",
        "sweep=optuna",
        "hydra/launcher=ray",
    ]
    known: set[str] = set()
    for choice in [*methods, *sets, *others]:
        config = composed(choice, with_hydra=choice in others)
        known |= _keys(OmegaConf.to_container(config, resolve=False))
    roots = {key.split(".")[0] for key in known} | {group.name for group in FOLDERS}
    groups = {group.relative_to(HOME / "conf").as_posix() for group in GROUPS}
    pages = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]
    unknown = set()
    for page in [page for page in pages if page.name != "configuration.md"]:  # it is made of them
        spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
        for word in (word.lstrip("+~") for span in spans for word in span.split()):
            key, sets_it, _ = word.partition("=")
            is_key = re.fullmatch(r"[a-z_]+(/[a-z]+)?(\.[a-z_0-9]+)*", key) and not key.endswith(FILE_TYPES)
            if is_key and ("." in key or sets_it) and key.split(".")[0] in roots and not key.startswith(FREE):
                unknown |= set() if key in known | groups else {f"{page.name}: {word}"}
    assert not unknown


FREE = ("hydra.launcher.",)  # its keys are those of the launcher that is chosen
FILE_TYPES = (".py", ".yaml", ".md", ".json", ".csv", ".ckpt", ".npz", ".html")


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
    if "resume=" in line:  # then the run's own configuration is composed
        overrides = [word for word in overrides if not word.startswith("dataset.")]
    # A sweep's lists become their first value, as in its first job.
    first = [re.sub(r"=([^,\[{(]+),.*", r"=\1", word) for word in overrides if "interval(" not in word]
    composed(*first, with_hydra=True)


def _drolt_lines() -> list[str]:
    """Every line of the README, the docs and the examples that runs a `drolt` command, without its comment."""
    pages = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md")), *sorted((HOME / "examples").glob("*.sh"))]
    return sorted(
        {
            line.strip()
            for line in re.findall(
                r"^drolt ([^\n#]+)",
                re.sub(r"\\\n *", "", "\n".join(page.read_text() for page in pages)),  # a command that goes on below
                flags=re.MULTILINE,
            )
        }
    )


@pytest.mark.parametrize("line", _drolt_lines())
def test_every_drolt_command_of_the_pages_parses(line: str) -> None:
    words = shlex.split(line)
    if "..." in words or words[0] == "train":  # shortened, or overrides alone
        return
    command, context = get_command(app), None
    while isinstance(command, TyperGroup):
        context = command.context_class(command, parent=context)
        name, command, words = command.resolve_command(context, words)
    parsed = command.make_context(name, words, parent=context)
    if name == "embed":
        composed(*(word for word in parsed.params["data"] if "=" in word))


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


def test_the_readme_is_short() -> None:
    assert (HOME / "README.md").read_text().count("\n") <= 150
