"""Which images train, validate and test."""

import hashlib
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from drolt_pl.data.longtail import IntArray, SplitRules, profile_counts
from drolt_pl.errors import SettingError

PARTS = ("train", "val", "test", "pool")

# What is refused where a test is asked for and there is none: a key, and what it must do.
NO_TEST = ("test_per_class", "must leave some class a test image; add images, or a folder of test images")


class SplitRecord(TypedDict):
    """A split as plain JSON values."""

    class_counts: list[int]
    held_counts: dict[str, list[int]]
    classes_without_val: int
    classes_without_test: int
    sha256: str
    sha256_parts: dict[str, str]
    indices: dict[str, list[int]]


class DataRecord(SplitRecord):
    """A data module's split and the settings that made it, as plain JSON values: what `split.json` holds."""

    dataset: str
    protocol: str
    split_seed: int
    class_order: str
    subset: str
    imbalance_ratio: float | None
    profile: str | None
    class_names: list[str]
    sha256_content: str


@dataclass(frozen=True, kw_only=True)
class Split:
    """Indices into the data set's list of images. The parts are disjoint; only with `test_selected` val is test.

    Attributes:
        train, val, test: Sorted indices, int64.
        pool: Indices of the images that a profile cut away: a second, larger test set, which nothing is chosen on.
        class_counts: Training images per class id, (C,).
        held_counts: Images per class id of `test` and `pool`, (C,) each.
        classes_without_val, classes_without_test: Classes too small to give an image to that part.
        hashes: SHA-256 of each part, over its indices, image names and targets.
        sha256: One hash over `hashes`.
    """

    train: IntArray
    val: IntArray
    test: IntArray
    pool: IntArray
    class_counts: IntArray
    held_counts: dict[str, IntArray]
    classes_without_val: int
    classes_without_test: int
    hashes: dict[str, str]
    sha256: str

    @property
    def parts(self) -> dict[str, IntArray]:
        """Indices by part, in the order of `PARTS`."""
        return {"train": self.train, "val": self.val, "test": self.test, "pool": self.pool}

    def disjoint(self, *, pool: bool) -> dict[str, IntArray]:
        """The parts that must share nothing: val where it is not test, and the pool where it is used."""
        found = {name: indices for name, indices in self.parts.items() if name != "pool" or pool}
        if np.array_equal(self.val, self.test):
            del found["val"]
        return found

    def record(self) -> SplitRecord:
        """The split as plain JSON values."""
        return {
            "class_counts": self.class_counts.tolist(),
            "held_counts": {part: counts.tolist() for part, counts in self.held_counts.items()},
            "classes_without_val": self.classes_without_val,
            "classes_without_test": self.classes_without_test,
            "sha256": self.sha256,
            "sha256_parts": dict(self.hashes),
            "indices": {part: indices.tolist() for part, indices in self.parts.items()},
        }


def make_split(
    targets: IntArray, official: NDArray[np.str_], names: NDArray[np.bytes_], class_names: list[str], rules: SplitRules
) -> Split:
    """Divide a data set's images.

    From each class's images in a random order fixed by `split_seed`, the test images are taken first (if the data
    set has none of its own), then validation, then training; the rest is the pool. So a smaller imbalance ratio
    trains on a superset of what a larger one trains on, with the same validation and test images. With `subset=ldam`
    training takes from the front of LDAM-DRW's order, test and validation from its end.

    Args:
        targets: Class of every image, (N,).
        official: The part each image comes in, (N,): "train", "val" or "test".
        names: Identity of each image on any machine, (N,); the hash contains it.
        class_names: C names, for messages.
        rules: See `SplitRules`.

    Raises:
        SettingError: a class would be left without training images.
    """
    num_classes = len(class_names)
    available = np.flatnonzero(official == "train")
    pool_counts = np.bincount(targets[available], minlength=num_classes)
    if num_classes < 2:
        raise SettingError("root", "must hold at least two classes", num_classes, remedy="check the folder or the list")
    for class_id in np.flatnonzero(pool_counts == 0):
        demand = f"must hold training images of every class: class {class_names[class_id]!r} has none"
        raise SettingError("root", demand, remedy="add some or remove the class")

    has_test, has_val = bool((official == "test").any()), bool((official == "val").any())
    takes_val = rules.protocol == "holdout" and not has_val
    part_counts = _part_counts(pool_counts, class_names, rules, takes_test=not has_test, takes_val=takes_val)
    test_counts, val_counts, train_counts = part_counts
    if rules.subset == "ldam":
        ordered = _ldam_order(available, targets, pool_counts, test_counts + val_counts, rules.split_seed)
    else:
        shuffled = available[_permutation(len(available), "split", rules.split_seed)]
        ordered = shuffled[np.argsort(targets[shuffled], kind="stable")]  # class by class, each in random order
    # Place of each image within its class, then the part that this place belongs to.
    place = np.arange(len(ordered)) - np.repeat(np.cumsum(pool_counts) - pool_counts, pool_counts)
    ends = np.cumsum(part_counts, axis=0)[:, targets[ordered]]
    part_of = (place >= ends).sum(axis=0)  # 0 test, 1 val, 2 train, 3 pool
    test, val, train, pool = (np.sort(ordered[part_of == part]) for part in range(4))
    if has_test:
        test = np.flatnonzero(official == "test")
    if rules.protocol == "holdout" and has_val:
        val = np.flatnonzero(official == "val")
    if rules.protocol == "test_selected":
        val = test.copy()
    parts = {"train": train, "val": val, "test": test, "pool": pool}
    hashes = {part: _sha256(indices, names, targets) for part, indices in parts.items()}
    return Split(
        **parts,
        class_counts=train_counts,
        held_counts={part: np.bincount(targets[parts[part]], minlength=num_classes) for part in ("test", "pool")},
        classes_without_val=_absent(val, targets, num_classes) if len(val) else 0,
        classes_without_test=_absent(test, targets, num_classes),
        hashes=hashes,
        sha256=hashlib.sha256("".join(hashes[part] for part in PARTS).encode()).hexdigest(),
    )


def _part_counts(
    pool_counts: IntArray, class_names: list[str], rules: SplitRules, *, takes_test: bool, takes_val: bool
) -> tuple[IntArray, IntArray, IntArray]:
    """Test, validation and training images to take from each class, (C,) each."""
    natural = rules.imbalance_ratio is None
    none = np.zeros(len(pool_counts), np.int64)
    test_counts = _held_out(pool_counts, rules.test_per_class, natural) if takes_test else none
    left = pool_counts - test_counts
    val_counts = _held_out(left, rules.val_per_class, natural) if takes_val else none
    train_counts = left - val_counts
    for class_id in np.flatnonzero(train_counts < 1):
        name, value = ("val_per_class", rules.val_per_class) if takes_val else ("test_per_class", rules.test_per_class)
        demand = (
            f"must leave every class training images: class {class_names[class_id]!r} has "
            f"{pool_counts[class_id]} images in all"
        )
        raise SettingError(name, demand, value, remedy="lower it")
    if not natural:
        train_counts = np.minimum(_wanted_counts(int(left.max()), len(pool_counts), rules), train_counts)
    return test_counts, val_counts, train_counts


def _held_out(counts: IntArray, per_class: int, natural: bool) -> IntArray:
    # A fifth at most, so that a natural tail's rare classes stay trainable.
    return np.minimum(per_class, counts // 5) if natural else np.minimum(per_class, counts)


def _wanted_counts(largest: int, num_classes: int, rules: SplitRules) -> IntArray:
    """Images that the profile asks of each class id, (C,); `largest` is the size of the largest class."""
    assert rules.imbalance_ratio is not None
    n_max = largest if rules.n_max is None else rules.n_max
    if n_max > largest:
        raise SettingError("n_max", f"must be at most the {largest} images of the largest class", n_max)
    counts = profile_counts(num_classes, n_max, rules.imbalance_ratio, rules.profile)
    if counts[-1] < 1 and rules.imbalance_ratio <= largest:
        demand = f"must be at least the imbalance_ratio of {rules.imbalance_ratio}, else the rarest class has no image"
        raise SettingError("n_max", demand, n_max)
    if counts[-1] < 1:
        demand = f"must be at most n_max = {n_max}, else the rarest class has no image"
        raise SettingError("imbalance_ratio", demand, rules.imbalance_ratio)
    if rules.class_order == "label":
        return counts
    return counts[_permutation(num_classes, "class_order", rules.split_seed)]


def _ldam_order(
    available: IntArray, targets: IntArray, pool_counts: IntArray, held_out: IntArray, seed: int
) -> IntArray:
    """Images class by class, each class in LDAM-DRW's order with its last `held_out[c]` images moved to its front.

    Its code seeds NumPy's legacy generator once, then shuffles the indices of each class in label order.
    """
    legacy = np.random.RandomState(seed)  # a generator of our own, where they seeded the global one
    by_class = available[np.argsort(targets[available], kind="stable")]
    ordered = []
    for indices, count in zip(np.split(by_class, np.cumsum(pool_counts)[:-1]), held_out, strict=True):
        legacy.shuffle(indices)
        ordered.append(np.roll(indices, count))
    return np.concatenate(ordered)


def _absent(indices: IntArray, targets: IntArray, num_classes: int) -> int:
    return num_classes - len(np.unique(targets[indices]))


def _permutation(size: int, stream: str, seed: int) -> IntArray:
    """A permutation that no machine and no NumPy release may change.

    NumPy promises to keep the raw bits of PCG64, but not what `Generator.permutation` makes of them.
    """
    entropy = hashlib.sha256(f"{stream}/{seed}".encode()).digest()
    bits = np.random.PCG64(int.from_bytes(entropy, "little")).random_raw(size)
    return np.argsort(bits, kind="stable").astype(np.int64)


def _sha256(indices: IntArray, names: NDArray[np.bytes_], targets: IntArray) -> str:
    digest = hashlib.sha256()
    for array in (indices, targets[indices]):
        digest.update(array.astype("<i8").tobytes())  # little-endian on every machine
    for start in range(0, len(indices), 65536):  # in pieces: half a million Python objects would outweigh the data
        digest.update(b"".join(name + b"\n" for name in names[indices[start : start + 65536]].tolist()))
    return digest.hexdigest()
