"""CIFAR from a local archive that the test writes, small and in the original format."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from drolt_pl.data import CIFAR10LT, CIFAR100LT, LongTailDataModule
from drolt_pl.errors import SettingError

PER_CLASS = {"train": 20, "test": 4}


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small archives cannot have the original checksums."""
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)


def write_archive(root: Path, num_classes: int) -> np.ndarray:
    """Python pickles of rows of 3,072 bytes; returns the training rows, all batches."""
    module = {10: CIFAR10LT, 100: CIFAR100LT}[num_classes].archive
    folder = root / module.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows_of_training = []
    for part, files in (("train", module.train_list), ("test", module.test_list)):
        targets = rng.permutation(np.repeat(np.arange(num_classes), PER_CLASS[part]))
        rows = rng.integers(256, size=(len(targets), 3072), dtype=np.uint8)
        for (name, _), share in zip(files, np.array_split(np.arange(len(targets)), len(files)), strict=True):
            labels = "labels" if num_classes == 10 else "fine_labels"
            content = {"data": rows[share], labels: targets[share].tolist()}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        if part == "train":
            rows_of_training = rows
    meta = {module.meta["key"]: [f"name {index}" for index in range(num_classes)]}
    (folder / module.meta["filename"]).write_bytes(pickle.dumps(meta, protocol=2))
    return rows_of_training


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("cls", "num_classes"), [(CIFAR10LT, 10), (CIFAR100LT, 100)])
def test_a_local_archive_works_offline(tmp_path: Path, cls: type[LongTailDataModule], num_classes: int) -> None:
    rows = write_archive(tmp_path, num_classes)
    module = cls(root=tmp_path, imbalance_ratio=10, val_per_class=3, mean=(0, 0, 0), std=(1, 1, 1))
    module.prepare_data()
    module.setup()
    assert (module.num_classes, module.in_channels, module.image_size) == (num_classes, 3, 32)
    assert module.class_names[1] == "name 1"
    assert (module.class_counts[0], module.class_counts[-1]) == (17, 2)
    assert (len(module.split.val), len(module.split.test)) == (3 * num_classes, 4 * num_classes)
    images, _ = next(iter(module.centroid_dataloader()))
    wanted = rows[module.split.train[0]].reshape(3, 32, 32)
    assert (np.round(images[0].numpy() * 255) == wanted).all()


@pytest.mark.usefixtures("unchecked")
def test_pickles_of_an_old_numpy_raise_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path, 10)
    load = pickle.load

    def load_as_if_old(*args: Any, **kwargs: Any) -> Any:
        warnings.warn("dtype(): align should be passed as Python or NumPy boolean but got `align=0`.", stacklevel=1)
        return load(*args, **kwargs)

    monkeypatch.setattr("torchvision.datasets.cifar.pickle.load", load_as_if_old)
    CIFAR10LT(root=tmp_path, val_per_class=3, imbalance_ratio=10).setup()


def test_a_missing_archive_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^root must hold the folder 'cifar-100-python', got '.*'; unpack .*$"):
        CIFAR100LT(root=tmp_path)


def test_a_damaged_archive_is_one_sentence(tmp_path: Path) -> None:
    write_archive(tmp_path, 10)  # its checksums are not the original's
    module = CIFAR10LT(root=tmp_path)
    with pytest.raises(
        SettingError,
        match=r"^root must hold the whole archive: '.*cifar-10-batches-py' is incomplete or damaged; unpack",
    ):
        module.setup()


def test_only_download_uses_the_network_and_its_failure_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr("drolt_pl.data.sets.cifar_archive.retrieve", refuse)
    (tmp_path / "cifar-10-batches-py").mkdir()
    CIFAR10LT(root=tmp_path).prepare_data()
    with pytest.raises(
        SettingError, match=r"^download must be false where cifar-10-python.tar.gz cannot be fetched \(no route\)"
    ):
        CIFAR10LT(root=tmp_path, download=True).prepare_data()
