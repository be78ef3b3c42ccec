"""What a user gets wrong ends in one sentence with the key and the remedy, a non-zero exit, and no folder."""

import contextlib
import io
import shlex
import sys
from pathlib import Path

import pytest
import torch
from helpers.images import write_image_tree
from helpers.jobs import forked
from helpers.running import HOME, command
from hydra.core.global_hydra import GlobalHydra

import drolt_pl
from drolt_pl.cli import train
from drolt_pl.errors import SettingError


def folder_with_an_empty_class(tmp_path: Path) -> str:
    root = write_image_tree(tmp_path / "images", classes=3, train=6, test=2, size=8)
    (root / "train" / "class_3").mkdir()
    return str(root)


CASES = {
    "wrong key": (["trainer.stategy=ddp"], ["trainer.stategy", "did you mean strategy", "devices"]),
    "wrong top-level key": (["sed=1"], ["sed", "did you mean seed"]),
    "wrong choice": (["dataset=imagnet_lt"], ["dataset must be one of", "did you mean imagenet_lt"]),
    "wrong loss value": (["loss.eps_mode=lerned"], ["loss.eps_mode", "learned", "'lerned'"]),
    "wrong ratio": (["dataset.imbalance_ratio=0"], ["dataset.imbalance_ratio", ">= 1", "0"]),
    "wrong stage value": (["schedule.stages.joint.objective=x"], ["schedule.stages.joint.objective", "dro_lt", "'x'"]),
    "wrong classifier": (["schedule.stages.rebalance.classifier=x"], ["rebalance.classifier", "lws", "'x'"]),
    "a rate of no group": (
        ["method=oltr", "+schedule.stages.joint.lr.unheard_of=1"],
        ["schedule.stages.joint.lr.unheard_of is unknown", "classifier"],
    ),
    "neither partial nor whole": (
        ["method=oltr", "++backbone.neck._partial_=1e300"],
        ["error: backbone.neck._partial_ must"],
    ),
    "an optimizer that is built at once": (
        ["~optimizer.algorithm._partial_"],
        ["optimizer.algorithm._partial_ must be true"],
    ),
    "a neck that is built at once": (
        ["method=oltr", "~backbone.neck._partial_"],
        ["backbone.neck._partial_ must be true"],
    ),
    "no stage": (
        ["~schedule.stages.ce_warmup", "~schedule.stages.joint", "~schedule.stages.rebalance"],
        ["schedule.stages must be one at least in all"],
    ),
    "a sweep's flag between overrides": (["seed=0", "-m", "loss.eps=range(1,1)"], ["loss.eps=range(1,1) must have"]),
    "no device": (["trainer.devices=[]"], ["trainer.devices must be", "not empty"]),
    "characters of Hydra's grammar": (
        ["dataset.n_max=photos (1)"],
        ["dataset.n_max=photos (1) cannot be read", shlex.quote("dataset.n_max='photos (1)'")],
    ),
    "a comma": (["name=a,b"], ["name=a,b is a list or a sweep", "name=[a,b]", "-m", shlex.quote("name='a,b'")]),
    "wrong compile mode": (["compile=true"], ["compile", "default", "True"]),
    "wrong mixing": (["schedule.stages.joint.mixing=mixip"], ["stages.joint.mixing", "mixup", "'mixip'"]),
    "mixed centroids": (
        ["schedule.stages.joint.mixing=mixup", "centroids=batch"],
        ["stages.joint.mixing=mixup", "centroids=epoch"],
    ),
    "arguments of a kept classifier": (
        ["schedule.stages.joint.classifier_args={scale:3}"],
        ["stages.joint.classifier_args", "keep"],
    ),
    "nothing to rescale": (
        ["classifier=cosine", "schedule.stages.rebalance.classifier=lws"],
        ["stages.rebalance.classifier", "CosineClassifier"],
    ),
    "wrong criterion value": (["criterion.beta=1"], ["criterion.beta", "[0, 1)", "1"]),
    "wrong layer": (["loss.layers=[layer2]"], ["loss.layers", "layers.5", "layer2"]),
    "a criterion of another classifier": (
        ["criterion=ldam"],
        ["criterion", "choose a classifier that has scale"],
    ),
    "wrong argument of a stage's classifier": (
        [
            "schedule.stages.rebalance.epochs=0",
            "schedule.stages.rebalance.classifier=tau_norm",
            "schedule.stages.rebalance.classifier_args={tau:-1}",
        ],
        ["stages.rebalance.classifier_args.tau", ">= 0", "-1"],
    ),
    "unknown argument of a stage's classifier": (
        [
            "schedule.stages.rebalance.epochs=0",
            "schedule.stages.rebalance.classifier=ncm",
            "schedule.stages.rebalance.classifier_args={distnce:l2}",
        ],
        ["stages.rebalance.classifier_args", "distnce"],
    ),
    "nothing to choose tau on": (
        ["method=tau_norm", "protocol=published"],
        ["stages.rebalance.classifier_args={tau: ...}", "published"],
    ),
    "wrong order": (["schedule.order=[pretrain]"], ["schedule.order", "ce_warmup", "pretrain"]),
    "max_epochs": (["trainer.max_epochs=3"], ["trainer.max_epochs", "schedule.stages"]),
    "wrong protocol": (["protocol=paper"], ["protocol", "holdout", "published", "'paper'"]),
    "no folder": (
        ["dataset=image_folder", "dataset.root=nowhere"],
        ["dataset.root must be a folder that exists", "nowhere"],
    ),
    "not a run": (["resume=nowhere"], ["resume=nowhere", "not a run"]),
    "resume of nothing": (["resume="], ["resume must name the folder of a run"]),
    "patches larger than images": (["backbone=lora"], ["backbone.name", "cannot be run with {'img_size': 8}"]),
    "best without validation": (
        ["protocol=published", "schedule.stages.joint.start_from=best"],
        ["start_from=best", "published"],
    ),
    "experts without validation": (
        ["method=lfme", "protocol=published"],
        ["schedule.stages.experts.objective=group_experts", "validation images"],
    ),
    "experts without epochs": (
        ["method=lfme", "schedule.stages.experts.epochs=0"],
        ["schedule.stages.experts.epochs must be >= 1", "experts.objective=group_experts"],
    ),
    "experts whose ranks wait": (
        ["method=lfme", "trainer.sync_batchnorm=true"],
        ["trainer.sync_batchnorm must be false", "experts.objective=group_experts"],
    ),
    "a tail longer than its largest class": (
        ["dataset.n_max=1"],
        ["dataset.n_max must be at least the imbalance_ratio of 50"],
    ),
    "wrong precision": (["trainer.precision=17"], ["trainer", "17"]),
    "a precision of the weights": (["trainer.precision=bf16-true"], ["trainer.precision=bf16-true", "bf16-mixed"]),
    "wrong sampling": (["schedule.stages.rebalance.sampling=x"], ["rebalance.sampling", "class_balanced", "'x'"]),
    "wrong monitor": (["schedule.stages.joint.monitor=val/ac"], ["stages.joint.monitor", "val/acc_ncm", "'val/ac'"]),
    "a monitor without centroids": (
        ["schedule.stages.ce_warmup.monitor=val/acc_ncm"],
        ["stages.ce_warmup.monitor", "val/acc", "'val/acc_ncm'"],
    ),
    "a removed key that others refer to": (["~protocol"], ["protocol is missing"]),
    "a removed group that others refer to": (["~dataset"], ["dataset is missing"]),
    "a removed objective": (
        ["method=dro_lt", "~objectives.dro_lt"],
        ["joint.objective", "objectives.dro_lt is missing"],
    ),
    "a folder below a file": (["hydra.run.dir=/dev/null/x"], ["hydra.run.dir must be a folder, or a place for a new"]),
    "no folder for the run": (["hydra.run.dir="], ["hydra.run.dir must be a folder, or a place for a new one, got ''"]),
    "no draws": (["schedule.stages.joint.epoch_size=0"], ["schedule.stages.joint.epoch_size", ">= 1", "0"]),
    "a batch that ranks cannot share": (
        ["trainer=cpu", "trainer.devices=3"],
        ["dataset.batch_size", "divisible", "3 processes", "32"],
    ),
}


def check(arguments: list[str], fragments: list[str], tmp_path: Path) -> None:
    done = forked(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    check_sentence(done.stderr, fragments, tmp_path)


def check_sentence(stderr: str, fragments: list[str], tmp_path: Path) -> None:
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    for fragment in fragments:
        assert fragment in lines[0]
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("case", ["wrong key", "wrong loss value"])
def test_one_sentence_of_the_command(case: str, tmp_path: Path) -> None:
    check(*CASES[case], tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_one_sentence(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command does it, in this process: importing torch anew for every case would take a minute."""
    arguments, fragments = CASES[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    GlobalHydra.instance().clear()
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert train.main() == 1
    check_sentence(said.getvalue(), fragments, tmp_path)


def test_a_class_without_images(tmp_path: Path) -> None:
    root = folder_with_an_empty_class(tmp_path)
    check(["dataset=image_folder", f"dataset.root={root}"], ["dataset.root", "class_3", "no images"], tmp_path)


def test_compiling_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    check(["compile=default"], ["compile=default", "no-such-compiler", "compile=null"], tmp_path)


@pytest.mark.slow
def test_full_error_shows_the_traceback(tmp_path: Path) -> None:
    done = command("loss.eps_mode=lerned", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_second_run_never_writes_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text("{}")
    check([f"hydra.run.dir={tmp_path / 'run'}"], ["hydra.run.dir", "resume="], tmp_path)
    assert (tmp_path / "run" / "results.json").read_text() == "{}"
    assert not (tmp_path / "run" / ".hydra").exists()


def test_resume_refuses_other_changes(tmp_path: Path) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 0")
    check([f"resume={tmp_path / 'run'}", "loss.eps=3"], ["loss.eps=3", "trainer."], tmp_path)


def test_places_that_lead_in_circles_or_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 0")
    (tmp_path / "link").symlink_to("run")
    for words, message in (
        ([f"resume={tmp_path / 'loop'}"], "is not a run's folder"),
        ([f"hydra.run.dir={tmp_path / 'loop'}"], "hydra.run.dir must be a folder"),
        ([f"hydra.run.dir={tmp_path / 'link'}/", f"resume={tmp_path / 'run'}", "seed=1"], "seed=1 is refused"),
        ([f"resume={tmp_path / 'link'}", f"hydra.run.dir={tmp_path / 'other'}"], "hydra.run.dir must be left out"),
    ):
        with pytest.raises(SettingError, match=message):
            drolt_pl.train(words)
    assert not (tmp_path / "other").exists()


def test_help_lists_the_groups() -> None:
    done = forked("--help", cwd=HOME)
    assert done.returncode == 0
    assert "dataset: " in done.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=paco", "schedule.stages.train.views=1"], "^schedule.stages.train.views must be 2 for this objective"),
        (["method=bbn", "schedule.stages.train.sampling=instance"], "^schedule.stages.train.sampling must name two"),
    ],
)
def test_what_an_objective_refuses_names_its_stage(overrides: list[str], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    short = ["trainer=cpu", "backbone=convnet_small", "logger=[csv,tensorboard]", f"hydra.run.dir={folder}"]
    with pytest.raises(SettingError, match=message):
        drolt_pl.train([*short, *overrides])
    assert not folder.exists()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    check(["trainer=ddp"], ["trainer.accelerator=gpu is refused", "trainer=cpu"], tmp_path)
