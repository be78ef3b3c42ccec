"""Profiles, protocols and the split."""

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from helpers.data_tools import NumberedImages, random_state

from drolt_pl.data.longtail import SplitRules, profile_counts
from drolt_pl.data.split import Split, make_split
from drolt_pl.errors import SettingError


def split_of(counts: list[int], official: str = "train", **rules: Any) -> tuple[Split, np.ndarray]:
    """A split of `counts` images a class; `official` names the parts that get ten more images of each class."""
    parts = ["train"] + [part for part in ("val", "test") if part in official]
    targets = np.concatenate([np.repeat(np.arange(len(counts)), counts if part == "train" else 10) for part in parts])
    sizes = [sum(counts) if part == "train" else 10 * len(counts) for part in parts]
    names = np.array([f"image {index}" for index in range(len(targets))], dtype=np.bytes_)
    class_names = [f"class {index}" for index in range(len(counts))]
    return make_split(targets, np.repeat(parts, sizes), names, class_names, SplitRules(**rules)), targets


@pytest.mark.parametrize(
    ("num_classes", "n_max", "ratio", "total"),
    [
        (100, 500, 100, 10_847),
        (100, 500, 50, 12_608),
        (100, 500, 20, 15_907),
        (100, 500, 10, 19_573),
        (100, 500, 200, 9_502),
        (10, 5000, 100, 12_406),
        (10, 5000, 50, 13_996),
        (10, 5000, 10, 20_431),
    ],
)
def test_published_totals(num_classes: int, n_max: int, ratio: float, total: int) -> None:
    counts = profile_counts(num_classes, n_max, ratio)
    assert counts.sum() == total
    assert counts[0] == n_max
    assert counts[-1] == int(n_max / ratio)


def test_published_counts_of_cifar_10() -> None:
    assert profile_counts(10, 5000, 100).tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_groups_of_cifar_100() -> None:
    counts = profile_counts(100, 500, 100)
    assert [(counts > 100).sum(), ((counts >= 20) & (counts <= 100)).sum(), (counts < 20).sum()] == [35, 35, 30]


def test_step_profile() -> None:
    assert profile_counts(5, 500, 100, "step").tolist() == [500, 500, 5, 5, 5]
    assert profile_counts(10, 5000, 1, "step").tolist() == [5000] * 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 10, 100), "num_classes must be a whole number >= 2, got 1"),
        ((10, 0, 100), "n_max must be a whole number >= 1, got 0"),
        ((10, 10.5, 100), "n_max must be a whole number >= 1, got 10.5"),
        ((10, 10, 0.5), "imbalance_ratio must be finite and >= 1, got 0.5"),
        ((10, 10, math.nan), "imbalance_ratio must be finite and >= 1, got nan"),
        ((10, 10, math.inf), "imbalance_ratio must be finite and >= 1, got inf"),
        ((10, 10, 10, "pareto"), r"profile must be one of \('exp', 'step'\), got 'pareto'"),
    ],
)
def test_what_is_no_profile_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(SettingError, match=f"^{message}$"):
        profile_counts(*arguments)


def test_a_profile_takes_numbers_of_numpy() -> None:
    assert profile_counts(np.int64(3), np.int64(100), np.float32(100)).tolist() == [100, 10, 1]  # type: ignore[arg-type]


def test_holdout_takes_validation_from_the_pool_first() -> None:
    split, targets = split_of([500] * 100, official="train test", protocol="holdout")
    assert len(split.train) == 10_827  # 10,847, but the most frequent class has 480 left
    assert (np.bincount(targets[split.val]) == 20).all()
    assert split.class_counts.tolist() == [480, *profile_counts(100, 500, 100)[1:]]
    assert len(split.train) + len(split.val) + len(split.pool) == 50_000


def test_published_trains_on_the_full_pool() -> None:
    split, _ = split_of([500] * 100, official="train test", protocol="published")
    assert (len(split.train), len(split.val), len(split.test)) == (10_847, 0, 1_000)
    assert split.classes_without_val == 0


def test_test_selected_validates_on_the_test_set() -> None:
    split, _ = split_of([500] * 100, official="train test", protocol="test_selected")
    assert len(split.train) == 10_847
    assert (split.val == split.test).all()


def test_official_validation_is_used_under_holdout_only() -> None:
    split, _ = split_of([50] * 4, official="train val test", imbalance_ratio=None)
    assert split.train.tolist() == list(range(200))
    assert split.val.tolist() == list(range(200, 240))
    assert split.test.tolist() == list(range(240, 280))
    split, _ = split_of([50] * 4, official="train val test", imbalance_ratio=None, protocol="published")
    assert len(split.train) == 200
    assert len(split.val) == 0


def test_a_natural_tail_gives_a_fifth_at_most() -> None:
    split, targets = split_of([1000, 50, 7, 4, 1], official="train test", imbalance_ratio=None)
    assert np.bincount(targets[split.val], minlength=5).tolist() == [20, 10, 1, 0, 0]
    assert split.class_counts.tolist() == [980, 40, 6, 4, 1]
    assert split.classes_without_val == 2
    assert len(split.pool) == 0


def test_a_set_without_test_images_gives_some() -> None:
    split, targets = split_of([100] * 4, imbalance_ratio=10, test_per_class=30, val_per_class=10)
    assert (np.bincount(targets[split.test]) == 30).all()
    assert (np.bincount(targets[split.val]) == 10).all()
    assert split.class_counts.tolist() == [60, 32, 15, 7]
    split, targets = split_of([100, 10, 4], imbalance_ratio=None, test_per_class=30)
    assert np.bincount(targets[split.test], minlength=3).tolist() == [20, 2, 0]
    assert split.classes_without_test == 1


@pytest.mark.parametrize("protocol", ["holdout", "published"])
@pytest.mark.parametrize("ratio", [None, 1, 20])
@pytest.mark.parametrize("official", ["train", "train test", "train val test"])
def test_parts_are_disjoint_and_counts_right(protocol: str, ratio: float | None, official: str) -> None:
    split, targets = split_of([90, 80, 100], official=official, imbalance_ratio=ratio, protocol=protocol)
    parts = [split.train, split.val, split.test, split.pool]
    everything = np.concatenate(parts)
    assert len(np.unique(everything)) == len(everything)
    assert all((np.diff(part) > 0).all() for part in parts)
    assert np.bincount(targets[split.train]).tolist() == split.class_counts.tolist()
    if "val" not in official or protocol == "holdout":
        assert len(everything) == len(targets)


def test_a_smaller_ratio_trains_on_a_superset() -> None:
    small, large = (split_of([100] * 5, official="train test", imbalance_ratio=ratio)[0] for ratio in (10, 50))
    assert set(large.train) < set(small.train)
    assert (small.val == large.val).all()


def test_class_order_decides_which_classes_are_rare() -> None:
    by_label, _ = split_of([100] * 20, official="train test", imbalance_ratio=20, protocol="published")
    shuffled, targets = split_of(
        [100] * 20, official="train test", imbalance_ratio=20, protocol="published", class_order="shuffled"
    )
    assert (np.diff(by_label.class_counts) <= 0).all()
    assert (np.diff(shuffled.class_counts) > 0).any()
    assert sorted(shuffled.class_counts) == sorted(by_label.class_counts)
    assert np.bincount(targets[shuffled.train]).tolist() == shuffled.class_counts.tolist()
    other, _ = split_of(
        [100] * 20,
        official="train test",
        imbalance_ratio=20,
        protocol="published",
        class_order="shuffled",
        split_seed=1,
    )
    assert other.class_counts.tolist() != shuffled.class_counts.tolist()


def test_only_the_split_seed_decides() -> None:
    before = random_state()
    first, _ = split_of([100] * 5, imbalance_ratio=10)
    np.random.default_rng(0).random(100)
    assert split_of([100] * 5, imbalance_ratio=10)[0].sha256 == first.sha256
    assert split_of([100] * 5, imbalance_ratio=10, split_seed=1)[0].sha256 != first.sha256
    assert random_state() == before


def test_the_hash_sees_indices_names_and_targets() -> None:
    targets, names = np.repeat([0, 1], 50), np.array([f"{index}" for index in range(100)], dtype=np.bytes_)
    rules = SplitRules(imbalance_ratio=None)
    official = np.full(100, "train")

    def sha256(targets: np.ndarray, names: np.ndarray) -> str:
        return make_split(targets, official, names, ["a", "b"], rules).sha256

    renamed = names.copy()
    renamed[3] = b"x"
    assert len({sha256(targets, names), sha256(targets, renamed), sha256(1 - targets, names)}) == 3


def ldam_indices(targets: np.ndarray, counts: list[int], seed: int) -> list[int]:
    """Seed NumPy's global generator once, then per class in label order shuffle its indices and keep the first."""
    state = np.random.get_state()
    np.random.seed(seed)
    kept: list[int] = []
    for class_id, count in enumerate(counts):
        indices = np.where(targets == class_id)[0]
        np.random.shuffle(indices)
        kept += indices[:count].tolist()
    np.random.set_state(state)
    return sorted(kept)


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("protocol", ["published", "holdout"])
@pytest.mark.parametrize("official", ["train test", "train"])
def test_the_ldam_subset_is_what_its_code_draws(seed: int, protocol: str, official: str) -> None:
    targets = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 60))
    in_part = np.full(600, "train")
    if "test" in official:
        in_part[::9] = "test"
    names = np.array([str(index) for index in range(600)], dtype=np.bytes_)
    rules = SplitRules(
        imbalance_ratio=10,
        subset="ldam",
        split_seed=seed,
        protocol=protocol,
        val_per_class=5,
        test_per_class=6,
        n_max=42,
    )
    before = random_state()
    split = make_split(targets, in_part, names, [str(c) for c in range(10)], rules)
    assert random_state() == before
    available = np.flatnonzero(in_part == "train")
    wanted = available[ldam_indices(targets[available], split.class_counts.tolist(), seed)]
    assert split.train.tolist() == wanted.tolist()
    assert split.class_counts.tolist() == profile_counts(10, 42, 10).tolist()
    parts = np.concatenate([split.train, split.val, split.test, split.pool])
    assert len(np.unique(parts)) == len(parts) == 600


def test_the_ldam_subset_of_a_shuffled_class_order_draws_from_the_same_permutations() -> None:
    by_label, targets = split_of(
        [50] * 4, official="train test", imbalance_ratio=5, protocol="published", subset="ldam"
    )
    shuffled, _ = split_of(
        [50] * 4, official="train test", imbalance_ratio=5, protocol="published", subset="ldam", class_order="shuffled"
    )
    assert shuffled.class_counts.tolist() != by_label.class_counts.tolist()
    for class_id in range(4):
        own, other = (set(split.train[targets[split.train] == class_id]) for split in (by_label, shuffled))
        assert own <= other or other <= own
    assert shuffled.train.tolist() == ldam_indices(targets[:200], shuffled.class_counts.tolist(), 0)


FIRST_TRAINING_IMAGES = [1, 2, 5, 8, 12, 13, 23, 25]


def test_the_split_is_the_same_in_every_process_and_release() -> None:
    module = NumberedImages(seed=3, imbalance_ratio=10, class_order="shuffled", val_per_class=4)
    module.setup()
    assert module.split.train[:8].tolist() == FIRST_TRAINING_IMAGES  # a change of it changes everyone's data
    code = (
        "import sys; sys.path.insert(0, 'tests'); from helpers.data_tools import NumberedImages as N; "
        "m = N(seed=7, imbalance_ratio=10, class_order='shuffled', val_per_class=4); m.setup(); print(m.split.sha256)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == module.split.sha256


def test_the_record_is_plain_json() -> None:
    module = NumberedImages(imbalance_ratio=10, val_per_class=4)
    module.setup()
    record = json.loads(json.dumps(module.split_record()))
    assert record["sha256"] == module.split.sha256
    assert record["indices"]["train"] == module.split.train.tolist()
    assert (record["dataset"], record["protocol"], record["class_counts"]) == (
        "NumberedImages",
        "holdout",
        module.class_counts,
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"imbalance_ratio": 0}, "imbalance_ratio must be null or .*>= 1.*, got 0"),
        ({"imbalance_ratio": float("nan")}, "imbalance_ratio must be null or .*>= 1.*, got nan"),
        ({"imbalance_ratio": "much"}, "imbalance_ratio must be null or .*>= 1.*, got 'much'"),
        ({"profile": "linear"}, r"profile must be one of \('exp', 'step'\), got 'linear'"),
        ({"protocol": "honest"}, "protocol must be one of .*, got 'honest'"),
        ({"class_order": "random"}, "class_order must be one of .*, got 'random'"),
        ({"subset": "random"}, "subset must be one of .*, got 'random'"),
        ({"subset": "ldam", "imbalance_ratio": None}, "subset must be 'seeded' when imbalance_ratio is null"),
        (
            {"subset": "ldam", "split_seed": 2**32},
            r"split_seed must be below 2\*\*32 for subset='ldam', got 4294967296",
        ),
        ({"class_order": "shuffled", "imbalance_ratio": None}, "class_order must be 'label' when"),
        ({"val_per_class": 0}, "val_per_class must be a whole number >= 1, got 0"),
        ({"val_per_class": 2.5}, "val_per_class must be a whole number >= 1, got 2.5"),
        ({"test_per_class": 0}, "test_per_class must be a whole number >= 1, got 0"),
        ({"n_max": 0}, "n_max must be null or a whole number >= 1, got 0"),
        ({"split_seed": -1}, "split_seed must be a whole number >= 0, got -1"),
    ],
)
def test_wrong_rules_are_refused_at_birth(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        SplitRules(**setting)


@pytest.mark.parametrize(
    ("counts", "setting", "message"),
    [
        ([30, 0, 30], {}, "root must hold training images of every class: class 'class 1' has none; "),
        ([30], {}, "root must hold at least two classes, got 1; "),
        (
            [30, 25],
            {"imbalance_ratio": 100},
            "imbalance_ratio must be at most n_max = 30, else the rarest class has no image, got 100",
        ),
        (
            [30, 25],
            {"imbalance_ratio": 20, "n_max": 10},
            "n_max must be at least the imbalance_ratio of 20, else the rarest class has no image, got 10",
        ),
        (
            [30, 20],
            {"imbalance_ratio": 2},
            "val_per_class must leave every class training images: class 'class 1' has 20 .* got 20",
        ),
        (
            [30, 30],
            {"imbalance_ratio": 2, "n_max": 31},
            "n_max must be at most the 30 images of the largest class, got 31",
        ),
    ],
)
def test_a_class_without_training_images_is_named(counts: list[int], setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        split_of(counts, official="train test", **setting)


def test_the_field_that_took_the_images_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^test_per_class must leave every class training images: class 'class 0' .* got 30"
    ):
        split_of([30, 30], imbalance_ratio=2, test_per_class=30, protocol="published")
