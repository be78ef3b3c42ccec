"""Files that try to execute, to read outside or to write outside: nothing happens, and one sentence says why.

Each case spoils a file so that reading it would make the canary: a file beside the run's folder, or the content of one
that lies outside.
"""

import io
import json
import os
import pickle
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.data_sets import annotations
from helpers.data_tools import write_images
from safetensors.torch import save_file
from torchvision.datasets import CIFAR10

from drolt_pl import Model, train
from drolt_pl.backbones import TimmBackbone
from drolt_pl.data import CIFAR10LT, ImageFolderLT, ManifestLT
from drolt_pl.data.prepare.index import FORMAT, ImageIndex, load_index
from drolt_pl.data.prepare.published import build_index
from drolt_pl.data.sets import cifar_archive
from drolt_pl.errors import SettingError
from drolt_pl.model.files import HEADER
from drolt_pl.report.keep import keep_run
from drolt_pl.report.sweep_jobs import read_jobs
from drolt_pl.run.opened import open_run

Spoilt = Callable[[], object]


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


# ---- configurations ----


def touching(canary: Path) -> dict[str, Any]:
    return {"_target_": "os.system", "command": f"touch {canary}"}


def module_that_touches(canary: Path) -> str:
    (canary.parent / "foreign_module.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Thing: pass\n")
    return "foreign_module.Thing"


CONFIGURATIONS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "a callback": lambda c, canary: c["callbacks"].update(own=touching(canary)),
    "the data set opens a file": lambda c, canary: c.update(
        dataset={"_target_": "builtins.open", "file": str(canary), "mode": "w"}
    ),
    "a loss fetches a file": lambda c, canary: c["loss"].update(
        _target_="urllib.request.urlretrieve", url=Path(__file__).as_uri(), filename=str(canary)
    ),
    "a backbone copies a file": lambda c, canary: c.update(
        backbone={"_target_": "shutil.copyfile", "src": __file__, "dst": str(canary)}
    ),
    "a function of ours": lambda c, canary: c["callbacks"].update(
        own={"_target_": "drolt_pl.records.write_atomically", "path": str(canary), "text": ""}
    ),
    "a list of plugins": lambda c, canary: c["trainer"].update(plugins=[touching(canary)]),
    "a stage's classifier": lambda c, canary: c["schedule"]["stages"]["rebalance"].update(
        classifier_args=touching(canary)
    ),
    "a module that is imported": lambda c, canary: c["objectives"]["ce"].update(_target_=module_that_touches(canary)),
    "a criterion of an objective": lambda c, canary: c["objectives"]["ce"].update(criterion=touching(canary)),
    "a mixing": lambda c, canary: c["mixing"].update(own=touching(canary)),
    "an optimizer": lambda c, canary: c["optimizer"].update(algorithm=touching(canary)),
    "an augmentation in a list": lambda c, canary: c.update(augment=[touching(canary)]),
    "a name by reference": lambda c, canary: c.update(name="os.system", loss={"_target_": "${name}"}),
    "a node out of a text": lambda c, canary: c.update(
        loss="${oc.decode:'{_target_: os.system, command: touch " + str(canary) + "}'}"
    ),
    "a resolver by reference": lambda c, canary: c.update(name="oc.env", method_name="${${name}:HOME}"),
    "a variable of the environment": lambda c, canary: c.update(method_name="${oc.env:HOME}"),
    "a logger elsewhere": lambda c, canary: c.update(
        logger={"csv": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": str(canary)}}
    ),
    "a logger's name that climbs": lambda c, canary: c.update(
        logger={"csv": {"_target_": "pytorch_lightning.loggers.CSVLogger", "name": f"../../{canary.name}"}}
    ),
    "a logger's other argument": lambda c, canary: c.update(
        logger={"board": {"_target_": "pytorch_lightning.loggers.TensorBoardLogger", "sub_dir": str(canary)}}
    ),
    "a logger among the callbacks": lambda c, canary: c["callbacks"].update(
        own={"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": str(canary)}
    ),
    "a logger by reference": lambda c, canary: c.update(logger={"csv": "${tuned}"}),
    "a folder for downloads": lambda c, canary: c["backbone"].update(cache_dir=str(canary)),
    "a sweeper": lambda c, canary: c["callbacks"].update(own={"_target_": "drolt_pl.sweeps.sweeper.JobListSweeper"}),
    "Hydra's logging": lambda c, canary: c.update(
        hydra={"job_logging": {"version": 1, "handlers": {"f": {"class": "FileHandler", "filename": str(canary)}}}}
    ),
    "a list of defaults": lambda c, canary: c.update(defaults=["loss: dro_lt"]),
    "an unknown key": lambda c, canary: c.update(own={"_target_": "drolt_pl.losses.CrossEntropy"}),
    "trust in itself": lambda c, canary: c.update(trust=True, callbacks={"own": touching(canary)}),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_configuration(kind: str, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = run_dir / ".hydra" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    CONFIGURATIONS[kind](config, tmp_path / "canary")
    path.write_text(yaml.safe_dump(config))
    check(lambda: train([f"resume={run_dir}"]), tmp_path, "config.yaml")
    check(lambda: open_run(run_dir), tmp_path, "config.yaml")
    assert "foreign_module" not in sys.modules


TEXTS = {
    "a tag that calls": "callbacks: !!python/object/apply:pathlib.Path.touch [{canary}]\n",
    "endless aliases": "a: &a [x, x]\nb: &b [*a, *a]\nloss: [*b, *b]\n",
    "deep nesting": "loss: " + "[" * 5_000 + "]" * 5_000,
    "no mapping": "- 1\n",
    "not text": "\x00\x01",
    "too long": "# " + "x" * 600_000,
}


@pytest.mark.parametrize("kind", TEXTS)
def test_the_text_of_a_configuration(kind: str, run_dir: Path, tmp_path: Path) -> None:
    (run_dir / ".hydra" / "config.yaml").write_text(TEXTS[kind].replace("{canary}", str(tmp_path / "canary")))
    check(lambda: train([f"resume={run_dir}"]), tmp_path)
    check(lambda: open_run(run_dir), tmp_path)


@pytest.mark.parametrize("name", ["checkpoints", "metrics.csv", "split.json", ".hydra/resume_0"])
def test_a_link_out_of_the_folder(name: str, run_dir: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = run_dir / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(outside)
    check(lambda: train([f"resume={run_dir}"]), tmp_path)
    assert not list(outside.iterdir())


def test_files_beside_the_configuration_are_not_composed(run_dir: Path, tmp_path: Path) -> None:
    """Groups of configurations, and Hydra's pickle of an earlier start."""
    from drolt_pl.run.compose import composed
    from drolt_pl.run.conf import CONF
    from drolt_pl.run.resume import resumed

    logging = {"version": 1, "handlers": {"f": {"class": "logging.FileHandler", "filename": str(tmp_path / "canary")}}}
    (run_dir / ".hydra" / "hydra" / "job_logging").mkdir(parents=True)
    (run_dir / ".hydra" / "hydra" / "job_logging" / "default.yaml").write_text(yaml.safe_dump(logging))
    (run_dir / ".hydra" / "logger").mkdir()
    (run_dir / ".hydra" / "logger" / "csv.yaml").write_text(yaml.safe_dump({"csv": touching(tmp_path / "canary")}))
    (run_dir / ".hydra" / "config.pickle").write_bytes(pickle.dumps(Touch(tmp_path / "canary")))
    found = resumed([f"resume={run_dir}", "logger=csv"], CONF)
    assert found is not None
    config = composed(found.folder, found.overrides, name=found.name, with_hydra=True)
    assert "f" not in config.hydra.job_logging.handlers
    assert config.logger.csv._target_ == "pytorch_lightning.loggers.CSVLogger"
    assert not (tmp_path / "canary").exists()


# ---- files of models ----


def spoil(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = torch.load(path, weights_only=True)
    change(content["drolt_pl"]["description"])
    del content["drolt_pl"]["run"]  # as in a file of an earlier version, which has no seal
    torch.save(content, path)


RECIPES: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "a backbone": lambda d, canary: d.update(backbone=touching(canary)),
    "a classifier": lambda d, canary: d["classifiers"].update(ce_warmup=touching(canary)),
    "a neck": lambda d, canary: d["backbone"].update(neck=touching(canary)),
    "an argument": lambda d, canary: d["backbone"].update(width=touching(canary)),
    "a part of ours that is no network": lambda d, canary: d.update(
        backbone={"_target_": "drolt_pl.records.write_atomically", "path": str(canary), "text": ""}
    ),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe(kind: str, run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "checkpoints" / "ce_warmup.ckpt"
    spoil(path, lambda description: RECIPES[kind](description, tmp_path / "canary"))
    check(lambda: Model.load(path), tmp_path)
    check(lambda: open_run(run_dir), tmp_path)


def test_pickles_in_place_of_checkpoints(run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "checkpoints" / "ce_warmup.ckpt"
    harmful = pickle.dumps(Touch(tmp_path / "canary"))
    path.write_bytes(harmful)
    check(lambda: Model.load(path), tmp_path)
    torch.save({"state_dict": Touch(tmp_path / "canary")}, path)
    check(lambda: Model.load(path), tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", harmful)
        archive.writestr("archive/version", "3\n")
    check(lambda: Model.load(path), tmp_path)
    check(lambda: open_run(run_dir), tmp_path)
    check(lambda: train([f"init_from={run_dir}", f"hydra.run.dir={tmp_path / 'new'}"]), tmp_path)


def test_a_header_of_safetensors(tmp_path: Path) -> None:
    header = {"description": {"backbone": touching(tmp_path / "canary")}, "stage": "x", "checksums": {}}
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={HEADER: json.dumps(header)})
    check(lambda: Model.load(tmp_path / "m.safetensors"), tmp_path)


def test_weights_that_are_pickles(tmp_path: Path) -> None:
    torch.save(Touch(tmp_path / "canary"), tmp_path / "weights.pth")
    check(lambda: TimmBackbone("resnet18", checkpoint_path=str(tmp_path / "weights.pth")), tmp_path)
    file = {"file": str(tmp_path / "weights.pth")}
    check(lambda: TimmBackbone("resnet18", pretrained=True, pretrained_cfg_overlay=file), tmp_path)


# ---- data ----


def index(tmp_path: Path, names: list[bytes]) -> Path:
    path = tmp_path / "index.npz"
    ImageIndex(
        names=np.array(names, np.bytes_),
        targets=np.arange(len(names)) % 2,
        official=np.zeros(len(names), np.uint8),
        class_names=np.array(["a", "b"]),
        name="imagenet_lt",
        root=str(tmp_path / "images"),
        sources={},
    ).save(path)
    return path


@pytest.mark.parametrize("name", [b"../outside.png", b"/etc/hostname", b"a/../../outside.png", b".."])
def test_an_index_that_leads_out(name: bytes, tmp_path: Path) -> None:
    path = index(tmp_path, [b"a.png", name])
    check(lambda: load_index(path), tmp_path)
    assert load_index(path, allow_outside=True).names[1] == name


def test_an_index_of_pickles(tmp_path: Path) -> None:
    path = tmp_path / "index.npz"
    meta = {"format": FORMAT, "name": "imagenet_lt", "root": "/", "sources": {}, "sha256": ""}
    np.savez(path, meta=np.array(json.dumps(meta)), names=np.array([Touch(tmp_path / "canary")], dtype=object))
    check(lambda: load_index(path), tmp_path)


PATHS = ["../outside.png", "/etc/hostname", "images/../../outside.png", "a\0b.png", "x" * 5_000, ".", ".."]


@pytest.mark.parametrize("path", PATHS)
def test_a_manifest_that_leads_out(path: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"path,label\na.png,x\n{path},y\n")
    check(lambda: ManifestLT(manifest=tmp_path / "labels.csv", image_size=8).catalogue(), tmp_path)


@pytest.mark.parametrize("path", PATHS)
def test_lists_that_lead_out(path: str, tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        (tmp_path / f"ImageNet_LT_{part}.txt").write_text(f"a.png 0\n{path} 0\n")
    check(lambda: build_index("imagenet_lt", tmp_path, tmp_path), tmp_path)
    for part in ("train", "val"):
        (tmp_path / f"{part}2018.json").write_text(annotations([(1, path, 0)], [0]))
    check(lambda: build_index("inaturalist2018", tmp_path, tmp_path), tmp_path)


def test_cifars_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], "")]:
        (folder / name).write_bytes(pickle.dumps(Touch(tmp_path / "canary")))
    check(lambda: CIFAR10LT(root=tmp_path).catalogue(), tmp_path)


def test_an_archive_that_climbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def packed(url: str, path: Path, kind: str, wanted: str) -> str:
        with tarfile.open(path, "w:gz") as archive:
            for name in ("../canary", str(tmp_path / "canary"), f"{CIFAR10.base_folder}/../../canary"):
                member = tarfile.TarInfo(name)
                member.size = 1
                archive.addfile(member, io.BytesIO(b"x"))
            link = tarfile.TarInfo(f"{CIFAR10.base_folder}/data_batch_1")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "canary")
            archive.addfile(link)
        return wanted

    monkeypatch.setattr(cifar_archive, "retrieve", packed)
    root = tmp_path / "root"
    CIFAR10LT(root=root, download=True).prepare_data()
    assert not (tmp_path / "canary").exists()
    assert {path.name for path in root.rglob("*")} == {CIFAR10.filename}


def test_an_image_that_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EPS makes PIL run Ghostscript."""
    for part in ("train", "test"):
        for number, name in enumerate("ab"):
            write_images(tmp_path / "images" / part / name, 3, seed=2 * number + len(part))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(canary) (w) file\n%%EOF\n"
    (tmp_path / "images" / "train" / "a" / "x.png").write_bytes(eps)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'canary'}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    module = ImageFolderLT(root=tmp_path / "images", image_size=8, loader="memory", imbalance_ratio=None)
    module.setup()
    check(lambda: list(module.centroid_dataloader()), tmp_path)


# ---- reports ----


def test_a_sweep_that_names_folders_elsewhere(tmp_path: Path) -> None:
    for name in ("../outside", "/etc", "a/b", "..", ""):
        (tmp_path / "jobs.json").write_text(json.dumps({name: []}))
        check(lambda: read_jobs(tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["metrics.csv", "per_class.csv", "split.json", ".hydra/config.yaml"])
def test_keep_copies_nothing_from_outside(name: str, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"secret": 1}')
    (run_dir / name).unlink(missing_ok=True)
    (run_dir / name).symlink_to(tmp_path / "secret")
    check(lambda: keep_run(run_dir, tmp_path / "kept.json"), tmp_path)
    assert not (tmp_path / "kept.json").exists()


def check(use: Spoilt, tmp_path: Path, about: str = "") -> None:
    """The use of a file is refused in one sentence, and the canary is not there."""
    with pytest.raises(SettingError) as refused:
        use()
    assert not (tmp_path / "canary").exists()
    assert "\n" not in str(refused.value)
    assert about in str(refused.value)
    assert len(str(refused.value)) < 2_000
