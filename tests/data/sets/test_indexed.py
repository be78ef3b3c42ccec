"""Training from an index."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.data_sets import write_miniature

from drolt_pl.data import ImageNetLT, INaturalist2018, LongTailDataModule, PlacesLT
from drolt_pl.data.prepare.index import load_index
from drolt_pl.data.prepare.published import build_index
from drolt_pl.errors import SettingError

CLASSES = {"imagenet_lt": ImageNetLT, "places_lt": PlacesLT, "inaturalist2018": INaturalist2018}


def written(name: str, root: Path) -> Path:
    index = build_index(name, *write_miniature(name, root))
    index.save(root / "index.npz")
    return root / "index.npz"


def module_of(path: Path, name: str = "imagenet_lt", **kwargs: Any) -> LongTailDataModule:
    settings = {"image_size": 8, "train_crop": "random_resized", "imbalance_ratio": None, "batch_size": 4}
    return CLASSES[name](index=path, **{**settings, **kwargs})


@pytest.mark.parametrize("name", CLASSES)
def test_a_prepared_set_trains_and_tests(name: str, tmp_path: Path) -> None:
    module = module_of(written(name, tmp_path), name)
    module.setup()
    has_val = name != "inaturalist2018"
    assert module.class_counts == ([8, 5, 2] if has_val else [7, 4, 2])  # without official validation, a fifth
    assert (len(module.split.val), len(module.split.test)) == (6 if has_val else 2, 6)
    assert module.class_names[2] == ("2" if has_val else "species 2")
    assert type(module.train_dataloader().batches).__name__ == "WorkerBatches"
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        assert all(images.shape[1:] == (3, 8, 8) for images, _ in loader)


def test_the_images_may_move(tmp_path: Path) -> None:
    path = written("places_lt", tmp_path)
    before = module_of(path, "places_lt")
    before.setup()
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(SettingError, match=r"^root must be a folder that exists, got '.*images'; give the folder"):
        module_of(path, "places_lt")
    module = module_of(path, "places_lt", root=tmp_path / "elsewhere")
    module.setup()
    assert module.split.sha256 == before.split.sha256
    assert len(list(module.centroid_dataloader())) == 1


def test_the_index_is_compact_and_keeps_what_it_says(tmp_path: Path) -> None:
    path = written("inaturalist2018", tmp_path)
    index = load_index(path)
    assert index.names.dtype.kind == "S"
    assert index.names.tolist() == sorted(index.names[:15].tolist()) + sorted(index.names[15:].tolist())
    assert index.sha256 == build_index("inaturalist2018", tmp_path / "lists", tmp_path / "images").sha256
    assert all((tmp_path / "images" / os.fsdecode(name)).is_file() for name in index.names)


def test_an_index_that_is_missing_damaged_or_of_another_set_is_one_sentence(tmp_path: Path) -> None:
    path = written("places_lt", tmp_path)
    with pytest.raises(SettingError, match=r"^index must be the index of imagenet_lt: '.*' is of places_lt"):
        module_of(path)
    with pytest.raises(
        SettingError, match=r"^index must be a file that exists, got 'x.npz'; write it with `drolt data prep"
    ):
        module_of(Path("x.npz"))
    content = bytearray(path.read_bytes())
    for damaged in (content[:-50], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(
            SettingError,
            match=r"^index must be a whole index: '.*' cannot be used \(.*\); remove it and write it again",
        ):
            module_of(path, "places_lt").setup()
    with np.load(_rewritten(path, content)) as archive:
        arrays = dict(archive)
    arrays["targets"] = 2 - arrays["targets"]
    np.savez(path, **arrays)
    with pytest.raises(
        SettingError, match=r"^index must be a whole index: '.*' cannot be used \(its content does not fit its hash\)"
    ):
        module_of(path, "places_lt").setup()
    np.savez(path, meta=np.array('{"format": 0}'))
    with pytest.raises(
        SettingError, match=r"^index must be a whole index: '.*' cannot be used \(format 0, and 1 is read\)"
    ):
        module_of(path, "places_lt")


def _rewritten(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
