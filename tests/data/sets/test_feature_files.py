"""`dataset=features`: which files are read, what training and evaluation see of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.data_tools import at_epoch
from safetensors.torch import save_file
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.data import Sampling
from drolt_pl.data.sets.features import FeaturesLT
from drolt_pl.data.stored import StoredFeatures, read_features
from drolt_pl.errors import SettingError

WIDTH = 4


def numbered(count: int = 60, *, test: int = 0, views: int | None = None, dtype: Any = np.float32) -> dict[str, Any]:
    """Arrays whose first feature is the sample's number; that of view v is v + 1 thousand more."""
    features = np.zeros((count + test, WIDTH), dtype)
    features[:, 0] = np.arange(count + test)
    arrays: dict[str, Any] = {"features": features, "labels": np.arange(count + test) % 3}
    if test:
        arrays["split"] = np.array(["train"] * count + ["test"] * test)
    if views is not None:
        arrays["views"] = np.stack([features[:count] + 1000 * (view + 1) for view in range(views)])
    return arrays


def written(path: Path, arrays: dict[str, Any], **metadata: str) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: torch.from_numpy(array) for name, array in arrays.items()}, path, metadata or None)
    return path


def module(path: Path, **settings: Any) -> FeaturesLT:
    return FeaturesLT(file=path, **{"imbalance_ratio": None, "val_per_class": 2, "test_per_class": 5, **settings})


def numbers(loader: Any) -> list[int]:
    found: list[int] = []
    for batch in loader:
        assert batch[0].dtype == torch.float32
        found += batch[0][:, 0].long().tolist()
    return found


def test_an_npz_with_text(tmp_path: Path) -> None:
    arrays = numbered(6, test=3, dtype=np.float16)
    arrays |= {"labels": np.array(["owl", "ant", "bee"] * 3), "names": np.array([f"{i}.jpg" for i in range(9)])}
    stored = read_features(written(tmp_path / "a.npz", arrays))
    assert (stored.class_names, stored.targets.tolist()) == (["ant", "bee", "owl"], [2, 0, 1] * 3)
    assert (stored.official.tolist()[5:7], stored.names[8], stored.features.dtype) == (
        ["train", "test"],
        b"8.jpg",
        torch.float16,
    )


def test_safetensors_with_class_names(tmp_path: Path) -> None:
    arrays = {**numbered(6), "split": np.array([0, 0, 0, 1, 2, 2], np.uint8)}
    path = written(tmp_path / "a.safetensors", arrays, class_names=json.dumps(["x", "y", "z", "unused"]))
    stored = read_features(path)
    assert (list(stored.class_names), stored.official.tolist()[3:]) == (
        ["x", "y", "z", "unused"],
        ["val", "test", "test"],
    )


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    first = read_features(written(tmp_path / "a.npz", numbered(6, test=3, views=2)))
    first.save(tmp_path / "b" / "c.safetensors")
    again = read_features(tmp_path / "b" / "c.safetensors")
    for name in StoredFeatures.__dataclass_fields__:
        one, other = getattr(first, name), getattr(again, name)
        assert list(one) == list(other) if not isinstance(one, torch.Tensor) else torch.equal(one, other), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "must hold the arrays features and labels: .* has \\['features'\\]"),
        ({"features": np.zeros((60, 4))}, "must hold features of float32 or float16: they are float64"),
        ({"features": np.zeros((60, 4, 1), np.float32)}, r"must hold features \(N, D\) of float32 or float16"),
        ({"labels": np.arange(59)}, "must hold labels of each of the 60 samples"),
        ({"labels": np.zeros(60)}, r"must hold labels \(N,\) that are whole numbers or text: they are float64"),
        ({"class_names": np.array(["a", "b"])}, "must hold labels from 0 to 1, as it names 2 classes"),
        ({"features": np.zeros((60, 0), np.float32)}, r"must hold at least one sample and one feature .* \(60, 0\)"),
        ({"names": np.array(["a.jpg", "b.jpg"] * 30)}, "must hold names, each once: 'a.jpg' stands there 30 times"),
        ({"split": np.full(60, "dev")}, "must hold a split of"),
        ({"views": np.zeros((2, 59, 4), np.float32)}, r"must hold views of the 60 training samples, \(V, 60, 4\)"),
        ({"names": np.array([{}] * 60, object)}, "must be whole and hold no pickles"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    arrays = {name: array for name, array in {**numbered(), **change}.items() if array is not None}
    with pytest.raises(SettingError, match=f"^file {message}") as raised:
        read_features(written(tmp_path / "a.npz", arrays))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["absent.npz", "features.pkl", "text.npz", "text.safetensors"])
def test_no_file_of_features(name: str, tmp_path: Path) -> None:
    if name.startswith("text"):
        (tmp_path / name).write_text("no features")
    with pytest.raises(SettingError, match=r"^file must be"):
        read_features(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("protocol", ["holdout", "published", "test_selected"])
def test_every_protocol_and_cut(protocol: str, dtype: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", {**numbered(dtype=dtype)})
    found = at_epoch(module(path, protocol=protocol, imbalance_ratio=4, class_order="shuffled"), 0)
    assert (
        sorted(numbers(found.train_dataloader())) == found.split.train.tolist() == numbers(found.centroid_dataloader())
    )
    assert numbers(found.test_dataloader()) == found.split.test.tolist()
    assert numbers(found.pool_dataloader()) == found.split.pool.tolist()
    assert (found.sample_shape, found.preprocessing()) == ((WIDTH,), None)


@pytest.mark.parametrize("loader", ["memory", "workers"])
@pytest.mark.parametrize("sampling", ["instance", "class_aware"])
def test_epochs_take_the_views_in_turn(loader: str, sampling: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", numbered(60, test=9, views=3))
    seen = []
    for epoch in range(4):
        found = at_epoch(module(path, loader=loader, plan=lambda _: Sampling(sampling), protocol="published"), epoch)
        drawn = numbers(found.train_dataloader())
        assert {number // 1000 for number in drawn} == {epoch % 3 + 1}
        assert {number % 1000 for number in drawn} <= set(found.split.train.tolist())
        seen.append(drawn)
        assert numbers(found.centroid_dataloader()) == found.split.train.tolist()  # features as evaluation sees them
    assert [number % 1000 for number in seen[0]] != [number % 1000 for number in seen[1]]


def test_two_views_of_a_stage_are_different_ones(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", numbered(60, test=9, views=3))
    plan = Sampling(views=2)
    for epoch, pair in enumerate([(1, 2), (3, 1), (2, 3)]):
        found = at_epoch(module(path, plan=lambda _: plan, batch_size=10, protocol="published"), epoch)
        for features, targets in found.train_dataloader():
            first, second = features[:, 0].long().chunk(2)
            assert (first % 1000).tolist() == (second % 1000).tolist()
            assert ({*(first // 1000).tolist()}, {*(second // 1000).tolist()}) == ({pair[0]}, {pair[1]})
            assert (first % 1000 % 3).tolist() == targets.chunk(2)[0].tolist()
    found.require_views(3)
    with pytest.raises(SettingError, match=r"^views must be at most 3, the views .* drolt embed --views"):
        found.require_views(4)


def test_features_cannot_be_augmented(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", numbered())
    with pytest.raises(SettingError, match=r"^augment must be null for samples that are not images"):
        module(path, augment=lambda images, generator: images).setup()
    with pytest.raises(SettingError, match=r"^file must be given: features and labels"):
        FeaturesLT(file=None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("array", ["features", "views"])
def test_what_is_not_finite_is_refused(array: str, value: float, tmp_path: Path) -> None:
    arrays = numbered(30, test=3, views=2)
    arrays[array][..., -1, 1] = value
    found = module(written(tmp_path / "a.npz", arrays), protocol="published")
    name = "sample '32'" if array == "features" else "a view of sample '29'"
    for _ in range(2):  # however often it is asked
        with pytest.raises(SettingError, match=f"^file must hold finite features: {name} has nan or infinity; leave"):
            found.setup()


def test_drolt_data_check_reads_them(tmp_path: Path) -> None:
    arrays = numbered(30, test=3)
    arrays["features"][31] = arrays["features"][4]
    arrays["features"][7, 2] = np.nan
    path = written(tmp_path / "a.npz", arrays)
    done = CliRunner().invoke(app, ["data", "check", str(path), "--png", str(tmp_path / "a.png")])
    assert done.exit_code == 1
    for line in ("3 classes; images: train 30, val 0, test 3", "sizes: 4x1 (33)", "modes: float32 (33)"):
        assert line in done.stdout.splitlines()
    assert "7: has values that are not finite" in done.stdout
    assert "training refuses it: dataset.file must hold finite features: sample '7'" in done.stdout
    assert "4 = 31" in done.stdout


NAMES = ["{", "3", "[[1], [2, 3]]", '{"a": 1}', "[" * 100_000, '["a", "a"]']


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[:9])
def test_class_names_that_are_none(names: str, tmp_path: Path) -> None:
    tensors = {"features": torch.zeros(4, 2), "labels": torch.tensor([0, 0, 1, 1])}
    save_file(tensors, tmp_path / "a.safetensors", {"class_names": names})
    with pytest.raises(SettingError, match="must hold class_names"):
        read_features(tmp_path / "a.safetensors")
